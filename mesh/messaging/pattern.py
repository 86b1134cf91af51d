"""Names of topics, and patterns over them: levels between dots, ``*`` for one level, ``**`` for any number of them."""

from __future__ import annotations

from collections.abc import Sequence

TOPIC_BYTES_MAX = 256
LEVELS_MAX = 32
ONE, ANY = "*", "**"


def check_topic(topic: str) -> None:
    """Raise ``ValueError`` unless messages can be published on ``topic``."""
    _check(topic, "topic")
    if "*" in topic:
        raise ValueError(f"a topic has no '*' (patterns do), got {topic!r}")


def _check(text: str, what: str) -> None:
    if not isinstance(text, str):
        raise TypeError(f"a {what} is text, got {type(text).__name__}")
    if not 0 < len(text.encode()) <= TOPIC_BYTES_MAX or text.count(".") >= LEVELS_MAX:
        raise ValueError(f"a {what} has 1 to {TOPIC_BYTES_MAX} bytes and at most {LEVELS_MAX} levels, got {text!r}")
    if "" in text.split("."):
        raise ValueError(f"a {what} has no empty level: 'orders.eu.new', got {text!r}")


class Pattern:
    """Which topics are meant. ``*`` stands for exactly one level, ``**`` for none or more; either alone in its level.

    Matching costs O(levels of the pattern x levels of the topic), whatever an attacker names a topic.
    """

    __slots__ = ("_levels", "text")

    def __init__(self, text: str) -> None:
        _check(text, "pattern")
        self.text = text
        self._levels: Sequence[str] = text.split(".")
        if any("*" in level and level not in (ONE, ANY) for level in self._levels):
            raise ValueError(f"'*' and '**' stand alone in their level: 'orders.*.new', got {text!r}")

    def matches(self, topic: str) -> bool:
        """Whether ``topic`` is meant."""
        levels = topic.split(".")
        # reached[i]: the pattern so far matches the first i levels of the topic
        reached = [True] + [False] * len(levels)
        for wanted in self._levels:
            if wanted == ANY:
                for at in range(len(levels)):
                    reached[at + 1] |= reached[at]
            else:
                for at in range(len(levels), 0, -1):
                    reached[at] = reached[at - 1] and wanted in (ONE, levels[at - 1])
                reached[0] = False
        return reached[-1]

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"
