"""What was changed between two texts, in words rather than letters."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import TypeAlias

Edit: TypeAlias = tuple[int, int, str]  # begin and end in the old text, and what is there now
TOKENS_MAX = 4000  # guess: a second of comparing at most; longer stretches are taken as replaced whole

_words = re.compile(r"\w+|\s|[^\w\s]").findall


def difference(old: str, new: str) -> list[Edit]:
    """Edits that make ``new`` of ``old``, in ascending order: by lines first, and by words inside of changed lines."""
    edits: list[Edit] = []
    for begin, end, text in _compared(old, new, old.splitlines(keepends=True), new.splitlines(keepends=True)):
        before = old[begin:end]
        edits += [(begin + a, begin + b, each) for a, b, each in _compared(before, text, _words(before), _words(text))]
    return edits


def _compared(old: str, new: str, one: list[str], other: list[str]) -> list[Edit]:
    if old == new:
        return []
    if len(one) + len(other) > TOKENS_MAX:
        head = 0
        while head < min(len(one), len(other)) and one[head] == other[head]:
            head += 1
        tail = 0
        while tail < min(len(one), len(other)) - head and one[-1 - tail] == other[-1 - tail]:
            tail += 1
        blocks = [("replace", head, len(one) - tail, head, len(other) - tail)]
    else:
        blocks = list(SequenceMatcher(None, one, other, autojunk=False).get_opcodes())
    edits = []
    at = done = 0  # tokens and code points of ``old`` gone through
    for what, a, b, c, d in blocks:
        begin = done + sum(map(len, one[at:a]))
        end = begin + sum(map(len, one[a:b]))
        at, done = b, end
        if what != "equal":
            edits.append((begin, end, "".join(other[c:d])))
    return edits
