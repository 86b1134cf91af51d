"""The changes a document keeps one by one, for those who lack some."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence

from crdt.change import Change
from crdt.errors import HistoryCut


class History:
    """Changes by actor, each with its place in the order they were applied in, which is a causal one.

    Unbounded by itself: ``cut`` is what bounds it. Cost: append and find O(log n), ``since`` O(what it returns).
    """

    __slots__ = ("_cut", "_kept", "_next")

    def __init__(self) -> None:
        self._kept: dict[str, tuple[list[int], list[Change], list[int]]] = {}  # first sequences, changes, places
        self._cut: dict[str, int] = {}
        self._next = 0

    def append(self, change: Change) -> None:
        self.extend((change,))

    def extend(self, run: Sequence[Change]) -> None:
        """Append changes of one actor that follow each other."""
        firsts, changes, places = self._kept.setdefault(run[0].actor, ([], [], []))
        firsts += [change.seq for change in run]
        changes += run
        self._next = following = self._next + len(run)
        places += range(following - len(run), following)

    def weight(self) -> tuple[int, int]:
        """How many changes are kept, and their bytes."""
        every = [change.size for _, changes, _ in self._kept.values() for change in changes]
        return len(every), sum(every)

    def find(self, actor: str, seq: int) -> Change | None:
        """The kept change that starts at ``seq``."""
        firsts, changes, _ = self._kept.get(actor, ([], [], []))
        at = bisect_left(firsts, seq)
        return changes[at] if at < len(firsts) and firsts[at] == seq else None

    def since(self, clock: Mapping[str, int]) -> list[Change]:
        """What ``clock`` lacks, in causal order. Raises ``HistoryCut``."""
        for actor, count in self._cut.items():
            if clock.get(actor, 0) < count:
                raise HistoryCut(f"changes of {actor} up to {count} were folded into state: send a snapshot")
        wanted: list[tuple[int, Change]] = []
        for actor, (firsts, changes, places) in self._kept.items():
            have = clock.get(actor, 0)
            at = bisect_left(firsts, have + 1)
            if at and changes[at - 1].last > have:
                at -= 1  # only a part of it was seen, which no document of ours would say
            wanted += zip(places[at:], changes[at:], strict=True)
        wanted.sort(key=lambda each: each[0])
        return [change for _, change in wanted]

    def cut(self, clock: Mapping[str, int]) -> None:
        """Forget the changes ``clock`` has seen whole."""
        for actor, count in clock.items():
            kept = self._kept.get(actor)
            if kept is None:
                continue
            firsts, changes, places = kept
            at = bisect_left(firsts, count + 1)
            if at and changes[at - 1].last > count:
                at -= 1
            if at:
                self._cut[actor] = changes[at - 1].last
                del firsts[:at], changes[:at], places[:at]

    def skip(self, clock: Mapping[str, int]) -> None:
        """Note that state was joined up to ``clock`` without the changes that led there."""
        for actor, count in clock.items():
            self._kept.pop(actor, None)
            self._cut[actor] = count
