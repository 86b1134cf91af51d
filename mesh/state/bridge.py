"""A record rotted on this disk while the space is in memory: what it held is not lost yet.

The frame itself is gone, and with it all that follows in its log for whoever lacks it: nothing is served past a hole.
But the document has applied it. So the space is folded as it stands, to the heads of its logs, beyond what everybody
has on disk: who is behind gets the snapshot, which members take on the sender's word anyway, and joins it. The price
is that a fork below that cut can be judged no more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.protocol.facts import StateDamaged
from mesh.state.folding import Snapshot
from mesh.state.room import Room
from transport.base import SECOND, StorageFault
from transport.frame import SignedFrame, parse_stub
from transport.identity import Origin

if TYPE_CHECKING:
    from mesh.state.replica import Replica

AGAIN_NS = SECOND // 4  # a transaction or a fold is under way, or the disk refuses


class Bridge:
    """Of one space. ``needed`` may be called from anywhere, as often as a hole is met."""

    def __init__(self, replica: Replica, room: Room) -> None:
        self._replica, self._room = replica, room
        self._is_due = False

    def needed(self) -> None:
        """A record that should be there is not."""
        if not self._is_due:
            self._is_due = True
            self._room.tell(StateDamaged(max(1, len(self._room.storage.damaged()))))
            self._room.env.call_at(self._room.env.mono(), self._go)

    def _go(self) -> None:
        replica = self._replica
        writer = replica.writer
        is_free = replica.folder.is_free and self._room.journal.fault is None
        if writer.open_transaction is not None or writer.is_stale or not is_free:
            self._room.env.call_at(self._room.env.mono() + AGAIN_NS, self._go)
            return
        self._is_due = False
        writer.seal()
        try:
            stubs = self._stubs()
        except StorageFault:
            return  # the next one who meets the hole asks again
        if stubs is not None:
            replica.folder.rebase(Snapshot(replica.name, stubs, replica.doc.snapshot()))

    def _stubs(self) -> dict[Origin, SignedFrame] | None:
        """The last held frame of every log. ``None``: one of them is the damaged one, and not in memory either."""
        stubs: dict[Origin, SignedFrame] = {}
        for origin, log in self._replica.logs.items():
            if not log.head.seq:
                continue
            for raw in (log.tip, log.stub):
                if raw and (stub := parse_stub(raw)).digest == log.head.hash:
                    stubs[origin] = stub
                    break
            else:
                frame = log.frame_over(self._room.storage, log.head.seq)
                if frame is None or frame.digest != log.head.hash:
                    return None
                stubs[origin] = parse_stub(frame.stub())
        return stubs
