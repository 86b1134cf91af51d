"""Changes that arrived before what they depend on."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping

from crdt.change import Change
from crdt.errors import CausalBufferFull

CHANGES_MAX = 8192  # guess: two largest frames of smallest changes
BYTES_MAX = 16 << 20  # guess: sixteen largest frames
ROUNDS_MAX = 16  # of looking ahead; whoever forges stamps to need more is refused where there was room


class CausalBuffer:
    """Waiting changes by the actor whose operations each lacks first. Bounded: past it, a whole batch is refused."""

    __slots__ = ("_bytes", "_number", "_waiting", "_wanted", "held")

    def __init__(self) -> None:
        self._waiting: dict[int, list[tuple[int, int, Change]]] = {}  # heaps of (count waited for, number, change)
        self.held: dict[tuple[str, int], int] = {}  # what is in them by actor and sequence, and its size
        self._bytes = 0
        self._number = 0  # settles ties in a heap
        self._wanted: tuple[object, dict[str, int]] = (None, {})

    def require_room(self, batch: list[Change], count: Callable[[str], int]) -> None:
        """Raise ``CausalBufferFull`` if more of ``batch`` would wait than there is room for.

        Costs next to nothing while there is room for all of it.
        """
        if len(self.held) + len(batch) <= CHANGES_MAX and self._bytes + sum(map(_size, batch)) <= BYTES_MAX:
            return
        # Which ones would wait? Everything that follows from what is there, in as many rounds as it takes.
        counts: dict[str, int] = {}
        missing: dict[str, int] = {}
        left = [*batch, *(change for heap in self._waiting.values() for _, _, change in heap)]
        left.sort(key=_stamp)  # honest stamps rise along every dependency, so one round does
        for _ in range(ROUNDS_MAX):
            rest: list[Change] = []
            missing.clear()
            for change in left:
                have = counts.setdefault(change.actor, count(change.actor))
                if change.last <= have:
                    continue
                lacking = {
                    actor: needed
                    for actor, needed in (*change.needs.items(), (change.actor, change.seq - 1))
                    if counts.setdefault(actor, count(actor)) < needed
                }
                if lacking:
                    rest.append(change)
                    for actor, needed in lacking.items():
                        missing[actor] = min(needed, missing.get(actor, needed))
                else:
                    counts[change.actor] = change.last
            if len(rest) == len(left):
                break
            left = rest
        distinct = {(change.actor, change.seq): change for change in left}
        if len(distinct) > CHANGES_MAX or sum(map(_size, distinct.values())) > BYTES_MAX:
            offered: dict[str, int] = {}
            for actor, seq in distinct:
                offered[actor] = min(seq, offered.get(actor, seq))
            lost = {actor: needed for actor, needed in missing.items() if needed < offered.get(actor, needed + 1)}
            raise CausalBufferFull(len(self.held), len(batch), lost)

    def wait(self, change: Change, index: int, needed: int) -> None:
        """Keep ``change`` until actor number ``index`` has ``needed`` operations."""
        name = (change.actor, change.seq)
        if name in self.held:
            return
        self.held[name] = size = _size(change)
        self._bytes += size
        self._number += 1
        heapq.heappush(self._waiting.setdefault(index, []), (needed, self._number, change))

    def wanted(self, closed: Mapping[str, int]) -> dict[str, int]:
        """How much of each actor the waiting changes rest on, those beyond the end of a ``closed`` log aside."""
        state = self._number, len(self.held), dict(closed)
        if self._wanted[0] != state:
            counts: dict[str, int] = {}
            for heap in self._waiting.values():
                for _, _, change in heap:
                    if change.last <= closed.get(change.actor, change.last):
                        for actor, count in change.needs.items():
                            counts[actor] = max(count, counts.get(actor, 0))
            self._wanted = state, counts
        return self._wanted[1]

    def ready(self, index: int, count: int) -> Iterable[Change]:
        """Take out those that waited for at most ``count`` operations of actor number ``index``."""
        heap = self._waiting.get(index)
        while heap and heap[0][0] <= count:
            change = heapq.heappop(heap)[2]
            self._bytes -= self.held.pop((change.actor, change.seq))
            yield change
        if heap is not None and not heap:
            self._waiting.pop(index, None)


def _stamp(change: Change) -> tuple[int, int]:
    return change.hlc, change.seq


def _size(change: Change) -> int:
    return change.size
