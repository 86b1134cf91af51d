"""Snapshots on their way in: gathered part by part, checked off the loop, handed on whole."""

from __future__ import annotations

from collections.abc import Callable

from mesh.messages import SnapshotPart
from mesh.protocol.facts import Dropped
from mesh.state.folding import SNAPSHOT_BYTES_MAX, Snapshot
from mesh.state.room import Room
from transport.errors import PeerFault
from transport.identity import NodeId

STILL_BEATS = 300  # half a minute: nobody holds our memory for longer with half a snapshot


class Transfers:
    """At most one from each peer; ``on_snapshot`` gets what ``Snapshot.check`` let pass."""

    def __init__(self, room: Room, on_snapshot: Callable[[NodeId, Snapshot], None]) -> None:
        self._room, self._on_snapshot = room, on_snapshot
        self._transfers: dict[NodeId, _Transfer] = {}
        self._checking: dict[NodeId, None] = {}  # whose snapshot is being checked, off the loop

    def __len__(self) -> int:
        return len(self._transfers)

    @property
    def size(self) -> int:
        """Bytes of all parts that wait for the others."""
        return sum(len(each.data) for each in self._transfers.values())

    def lost(self, peer: NodeId) -> None:
        """Its link ended."""
        self._transfers.pop(peer, None)

    def moved(self) -> list[NodeId]:
        """Who sent a part since this was asked last, once a heartbeat: a transfer that stood still for ``STILL_BEATS``
        is given up."""
        moved = []
        for peer, transfer in list(self._transfers.items()):
            if not transfer.idle:
                moved.append(peer)
            transfer.idle += 1
            if transfer.idle > STILL_BEATS:
                del self._transfers[peer]
        return moved

    def take(self, peer: NodeId, part: SnapshotPart) -> None:
        """``peer`` sent the next part."""
        if peer in self._checking:
            return  # one at a time; what was sent meanwhile is asked for again
        transfer = self._transfers.get(peer)
        if part.part == 0:
            transfer = self._transfers[peer] = _Transfer(part)
        elif transfer is None or not transfer.continues(part):
            self._transfers.pop(peer, None)  # of a transfer that was given up: repair asks again
            return
        transfer.data += part.data
        if len(transfer.data) > SNAPSHOT_BYTES_MAX:
            del self._transfers[peer]
            self._room.on_fault(peer, f"a snapshot has at most {SNAPSHOT_BYTES_MAX} bytes")
            return
        transfer.next += 1
        transfer.idle = 0
        if self.size > SNAPSHOT_BYTES_MAX:
            largest = max(self._transfers, key=lambda each: len(self._transfers[each].data))
            del self._transfers[largest]
            self._room.tell(Dropped("snapshots on their way", 1))
            if largest == peer:
                return
        if transfer.next < part.parts:
            return
        del self._transfers[peer]
        self._check(peer, part.stream, bytes(transfer.data))

    def _check(self, peer: NodeId, stream: str, raw: bytes) -> None:
        mesh, env = self._room.mesh, self._room.env
        self._checking[peer] = None

        def checked(outcome: Snapshot | BaseException) -> None:
            del self._checking[peer]
            if isinstance(outcome, PeerFault):
                self._room.on_fault(peer, outcome.rule)
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                self._on_snapshot(peer, outcome)

        env.offload(lambda: Snapshot.check(peer, stream, raw, mesh, env.suite), checked)


class _Transfer:
    """A snapshot on its way in, part by part."""

    __slots__ = ("data", "idle", "next", "number", "parts", "stream")

    def __init__(self, part: SnapshotPart) -> None:
        self.stream, self.number, self.parts = part.stream, part.transfer, part.parts
        self.data = bytearray()
        self.next = 0
        self.idle = 0  # heartbeats since a part came

    def continues(self, part: SnapshotPart) -> bool:
        return (part.stream, part.transfer, part.parts, part.part) == (
            self.stream, self.number, self.parts, self.next
        )  # fmt: skip
