"""Dots and vector clocks.

A *dot* names one operation: (actor, counter). Inside a document it is one int, ``seq << 20 | actor index``: dots of one
actor compare like their sequences, dots of different actors must never be ordered by it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

Dot: TypeAlias = int

INDEX_BITS = 20
INDEX_MASK = (1 << INDEX_BITS) - 1
ONE = 1 << INDEX_BITS  # from a dot to its actor's next
SEQ_MAX = (1 << 42) - 1  # the frame header's bound too
ACTORS_MAX = 1 << INDEX_BITS


class VectorClock(Mapping[str, int]):
    """How many operations of each actor were seen. Immutable; an actor not named counts 0.

    Join   per actor the larger count. Order: ``<=`` is *dominated by*, a partial one.
    Source Mattern 1989; Fidge 1988.
    """

    __slots__ = ("_counts", "_hash")

    def __init__(self, counts: Mapping[str, int] | None = None) -> None:
        kept: dict[str, int] = {}
        for actor, count in (counts or {}).items():
            if not isinstance(actor, str) or type(count) is not int or not 0 <= count <= SEQ_MAX:
                raise ValueError(f"a clock counts operations by actor, got {actor!r}: {count!r}")
            if count:
                kept[actor] = count
        self._counts = kept
        self._hash: int | None = None

    def __getitem__(self, actor: str) -> int:
        return self._counts[actor]

    def get(self, actor: str, default: Any = 0) -> Any:  # absent is 0 here, so that is the default
        """Operations of ``actor`` seen; ``default`` (0) when none were."""
        return self._counts.get(actor, default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._counts)

    def __len__(self) -> int:
        return len(self._counts)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, VectorClock):
            return self._counts == other._counts
        if isinstance(other, Mapping):
            return self._counts == {actor: count for actor, count in other.items() if count}
        return NotImplemented

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(frozenset(self._counts.items()))
        return self._hash

    def dominates(self, other: Mapping[str, int]) -> bool:
        """Whether everything ``other`` saw was seen here too."""
        mine = self._counts
        return all(mine.get(actor, 0) >= count for actor, count in other.items())

    def __ge__(self, other: Mapping[str, int]) -> bool:
        return self.dominates(other)

    def __le__(self, other: Mapping[str, int]) -> bool:
        return all(other.get(actor, 0) >= count for actor, count in self._counts.items())

    def __gt__(self, other: Mapping[str, int]) -> bool:
        return self.dominates(other) and self != other

    def __lt__(self, other: Mapping[str, int]) -> bool:
        return self <= other and self != other

    def is_concurrent(self, other: Mapping[str, int]) -> bool:
        """Whether each saw something the other did not."""
        return not self.dominates(other) and not self <= other

    def join(self, other: Mapping[str, int]) -> VectorClock:
        """The least clock that dominates both."""
        counts = dict(self._counts)
        for actor, count in other.items():
            if count > counts.get(actor, 0):
                counts[actor] = count
        return VectorClock(counts)

    def __repr__(self) -> str:
        return f"VectorClock({dict(sorted(self._counts.items()))})"
