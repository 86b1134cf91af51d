"""Snapshots on their way in: gathered part by part, checked off the loop, handed on whole."""

from __future__ import annotations

from collections.abc import Callable

from mesh.messages import SnapshotPart
from mesh.protocol.facts import Dropped
from mesh.state.folding import SNAPSHOT_BYTES_MAX, Snapshot
from mesh.state.room import Room
from transport.base import SECOND, Timer
from transport.errors import PeerFault
from transport.identity import NodeId

STILL_NS = 20 * SECOND  # looked at every half of it: nobody holds our memory for half a minute with half a snapshot


class Transfers:
    """At most one from each peer; ``on_snapshot`` gets what ``Snapshot.check`` let pass. One that stands still for
    ``STILL_NS`` is given up."""

    def __init__(self, room: Room, on_snapshot: Callable[[NodeId, Snapshot], None]) -> None:
        self._room, self._on_snapshot = room, on_snapshot
        self._transfers: dict[NodeId, _Transfer] = {}
        self._checking: dict[NodeId, None] = {}  # whose snapshot is being checked, off the loop
        self._timer: Timer | None = None

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
        """Who sent a part since this was asked last."""
        moved = []
        for peer, transfer in self._transfers.items():
            if transfer.is_moving:
                moved.append(peer)
                transfer.is_moving = False
        return moved

    def _look_after(self) -> None:
        if self._timer is None and self._transfers:
            self._timer = self._room.env.call_at(self._room.env.mono() + STILL_NS // 2, self._give_up)

    def _give_up(self) -> None:
        self._timer = None
        now = self._room.env.mono()
        self._transfers = {peer: each for peer, each in self._transfers.items() if now - each.moved < STILL_NS}
        self._look_after()

    def close(self) -> None:
        """Nothing more is looked after."""
        if self._timer is not None:
            self._timer.cancel()

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
        transfer.moved, transfer.is_moving = self._room.env.mono(), True
        self._look_after()
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

    __slots__ = ("data", "is_moving", "moved", "next", "number", "parts", "stream")

    def __init__(self, part: SnapshotPart) -> None:
        self.stream, self.number, self.parts = part.stream, part.transfer, part.parts
        self.data = bytearray()
        self.next = 0
        self.moved = 0  # when its last part came
        self.is_moving = False

    def continues(self, part: SnapshotPart) -> bool:
        return (part.stream, part.transfer, part.parts, part.part) == (
            self.stream, self.number, self.parts, self.next
        )  # fmt: skip
