"""Logs that are closed, and who is asked: what of a document belongs to no object of it.

*Retiring* an actor closes its log at a sequence, by an operation in somebody else's log: joined by maximum, so the
order in which it arrives does not matter. From then on nobody takes in what the actor wrote beyond that, with two
exceptions that keep replicas equal. Who had taken in more when the closing arrived says so by closing the log again,
further up (``overtaken``). And what a change of an open log rests on is taken in: its author had it in time. Both are
finite: after the closing reached everybody nobody takes in more than somebody had, so all end at the same sequence.

The owner writes under a new actor from then on. It joins what the others have in a fresh document, and what it wrote
beyond the closing is refused everywhere with ``LogClosed``: named, and never half there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from crdt.actors import ActorTable
from crdt.causal import Clock, Needs, Op, enter_operation
from crdt.clock import Dot
from crdt.errors import InvalidBytes
from crdt.map import MapStore


class Root(MapStore):
    """The map at the top of a document, and what is known of its logs."""

    __slots__ = ("closed", "forgets", "is_asked")

    def __init__(self, names: ActorTable) -> None:
        super().__init__(names)
        self.closed: dict[int, int] = {}  # sequence at which a retired actor's log ends
        self.forgets = False  # whether a ``Mark`` was seen: what is removed may have to be forgotten
        self.is_asked = False  # whether somebody waits for a change that saw its ``Mark``

    def close(self, index: int, seq: int) -> None:
        """Close a log at ``seq``, or further up than it was."""
        if seq > self.closed.get(index, 0):
            self.closed[index] = seq

    def join(self, other: MapStore, mine: Clock, theirs: Clock) -> None:
        super().join(other, mine, theirs)
        assert isinstance(other, Root)
        for index, seq in other.closed.items():
            self.close(index, seq)
        self.forgets = self.forgets or other.forgets


class Retire(Op, tag=44):
    """Close logs: reference, seq, reference, seq, …, each at a sequence that its author had taken in."""

    shows: ClassVar[bool] = False
    closes: list[int]

    def perform(self, store: Root, dot: Dot, refs: Sequence[int], stamp: int) -> None:
        for at in range(0, len(self.closes), 2):
            store.close(refs[self.closes[at]], self.closes[at + 1])

    def check(self, needs: Needs) -> None:
        _check_top(self)
        if not self.closes:
            raise InvalidBytes("a retirement of nobody")
        needs.seen(self.closes)


class Mark(Op, tag=45):
    """No more than a place in the causal order. ``asks``: everybody is to write something that comes after it. Whoever
    has seen one hangs nothing on what may go (``Fugue.hook``)."""

    shows: ClassVar[bool] = False
    asks: bool

    def perform(self, store: Root, dot: Dot, refs: Sequence[int], stamp: int) -> None:
        store.forgets = True
        if self.asks:
            store.is_asked = True

    def check(self, needs: Needs) -> None:
        _check_top(self)


def _check_top(op: Op) -> None:
    if op.path != "":
        raise InvalidBytes("an operation on a document as a whole, at a key")


enter_operation(Retire)
enter_operation(Mark)
