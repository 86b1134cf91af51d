"""Logs that are closed: whose frames are refused, what becomes of this node's own, and what can then be forgotten.

Closing is an act of ``crdt.retirement``: an operation in somebody's log. A node closes by itself only its own former
logs, which nobody writes any more (a lost disk, a restored backup); those of a member that does not come back, whoever
says so (``gossamer retire``). If it comes back all the same it finds its log closed: it goes on in a new one, on what
the others have. What it had written beyond the end is handed back to its application (``lost``), and those who refused
it say so too.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from crdt import LogClosed
from mesh.errors import MeshError
from mesh.protocol.effects import Held
from mesh.protocol.facts import WritesRefused
from mesh.state import records
from mesh.state.journal import nothing
from mesh.state.log import Log
from mesh.state.room import Room
from transport.base import Cut
from transport.frame import SignedFrame, parse
from transport.identity import NodeId, Origin

if TYPE_CHECKING:
    from mesh.state.replica import Replica


class Closings:
    """Of one space."""

    def __init__(self, replica: Replica, room: Room) -> None:
        self._replica, self._room = replica, room
        self._told: dict[Origin, int] = {}  # up to where it was said that frames were refused

    def refuses(self, log: Log, frame: SignedFrame) -> bool:
        """Whether ``frame`` lies beyond the end of its closed log, and no frame that waits here rests on it."""
        end = self._replica.doc.end_of(log.actor)
        if end is None or frame.last <= end or frame.last <= self._replica.aside.needed(log.actor):
            return False
        self._tell(log.slot.origin, frame.first, frame.last)
        return True

    def is_closed(self, node: NodeId) -> bool:
        """Whether all logs of ``node`` known here are closed."""
        logs = [log.actor for log in self._replica.logs.values() if log.slot.origin.node == node and log.head.seq]
        return bool(logs) and all(self._replica.doc.end_of(actor) is not None for actor in logs)

    def told(self, beyond: LogClosed) -> None:
        """A snapshot was refused for what it holds of closed logs."""
        for actor, (first, last) in beyond.refused.items():
            self._tell(Origin.parse(actor), first, last)

    def _tell(self, origin: Origin, first: int, last: int) -> None:
        if last > self._told.get(origin, 0):
            self._told[origin] = last
            self._room.tell(WritesRefused(self._replica.name, origin, first, last))

    def retire(self, node: NodeId) -> None:
        """Close all logs of ``node`` here. Raises what a write raises."""
        doc = self._replica.doc
        logs = [log for log in self._replica.logs.values() if log.slot.origin.node == node and log.head.seq]
        open_ones = [log.actor for log in logs if log is not self._replica.writer.own and doc.end_of(log.actor) is None]
        if open_ones:
            doc.retire(*open_ones)

    def tend(self, *, lead: bool, counted: Collection[NodeId]) -> None:
        """Do what is due: close one's own former logs, answer who asks, ask and forget if this node leads."""
        if self._replica.writer.open_transaction is not None:
            return
        doc = self._replica.doc

        def is_enough(answered: Collection[str]) -> bool:
            known = {Origin.parse(actor).node for actor in answered}
            return all(node in known or self.is_closed(node) for node in counted)

        try:
            self.retire(self._room.identity.id)
            doc.collect(lead=lead, is_enough=is_enough)
        except MeshError:
            pass  # the space takes no writes at present: next time

    def look(self) -> None:
        """A closing may have arrived: go on in a new log if it is this node's."""
        writer, doc = self._replica.writer, self._replica.doc
        end = doc.end_of(writer.own.actor)
        if end is None:
            return
        if writer.open_transaction is not None:
            writer.defer(self.look)
            return
        writer.seal()  # so that all of it is in frames
        cut = self._cut(dict(doc.retired))
        writer.abandon(f"it was retired at {end}")
        for log in cut:
            self._room.feed(Held(log.slot, 0, log.head, None, 0))  # if others have it all the same, they bring it

    def _cut(self, ends: dict[str, int]) -> list[Log]:
        """Take back what lies beyond the end of closed logs: nobody else takes it in, since this one is closed too.
        What this node wrote is handed back (``lost``)."""
        replica, storage = self._replica, self._room.storage
        taken: list[Log] = []
        cuts: list[Cut] = []
        for log in replica.logs.values():
            end = ends.get(log.actor)
            if end is None or log.head.seq <= end:
                continue
            taken.append(log)
            cut = log.head_before(storage, end + 1)
            if log.slot.origin.node == self._room.identity.id:
                frames = [parse(raw) for raw in log.frames_after(storage, cut.seq, log.head.seq)]
                replica.lost.keep(log.slot, frames, f"this log was retired at {end}")
            else:
                cuts.append(records.cut_from(log.slot, cut.seq + 1))
            log.fall(cut)
            replica.aside.drop(log.slot.origin, since=cut.seq + 1)
        if cuts:
            self._room.journal.append([], cuts, saved=nothing)
        return taken
