"""Snapshots on their way in: gathered part by part, checked off the loop, handed on whole."""

from __future__ import annotations

from collections.abc import Callable

from mesh.messages import CHUNK_BYTES_MAX, PARTS_AHEAD, SnapshotPart, SnapshotPull
from mesh.protocol.facts import Dropped
from mesh.state.folding import SNAPSHOT_BYTES_MAX, Snapshot
from mesh.state.room import Room
from transport.base import SECOND, Lane, Timer
from transport.errors import PeerFault
from transport.identity import NodeId

STILL_NS = 20 * SECOND  # looked at every half of it: nobody holds our memory for half a minute with half a snapshot
RATE_BYTES_S = 64 << 10  # on average, after its first ``STILL_NS``; a slower one is given up
TOGETHER_BYTES_MAX = 64 << 20  # of several transfers, by what they will come to; one that is alone may be larger
PAUSE_NS = 60 * SECOND  # for so long nothing more is begun with a peer whose transfer was given up
PAUSED_MAX = 1024  # peers remembered for that
_PARTS_MAX = -(-SNAPSHOT_BYTES_MAX // CHUNK_BYTES_MAX)


class Transfers:
    """At most one from each peer; ``on_snapshot`` gets what ``Snapshot.check`` let pass.

    The first part says how many there are, so what a transfer will take is known when it begins, and it is begun only
    while all together stay below ``TOGETHER_BYTES_MAX``. It is pulled on as it comes: a peer sends no more than this
    node has said it has room for. One that stands still for ``STILL_NS``, or crawls, is given up. What is refused here
    is asked for again by repair.
    """

    def __init__(self, room: Room, on_snapshot: Callable[[NodeId, Snapshot], None]) -> None:
        self._room, self._on_snapshot = room, on_snapshot
        self._transfers: dict[NodeId, _Transfer] = {}
        self._checking: dict[NodeId, None] = {}  # whose snapshot is being checked, off the loop
        self._timer: Timer | None = None
        self._paused: dict[NodeId, int] = {}  # until when, monotonic

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
        for peer, each in list(self._transfers.items()):
            late_s = (now - each.began - STILL_NS) / SECOND
            if now - each.moved >= STILL_NS or len(each.data) < late_s * RATE_BYTES_S:
                del self._transfers[peer]
                if len(self._paused) >= PAUSED_MAX:
                    del self._paused[next(iter(self._paused))]
                self._paused[peer] = now + PAUSE_NS
                self._room.tell(Dropped("a snapshot that came too slowly", 1))
        self._look_after()

    def close(self) -> None:
        """Nothing more is looked after."""
        if self._timer is not None:
            self._timer.cancel()

    def take(self, peer: NodeId, part: SnapshotPart) -> None:
        """``peer`` sent the next part."""
        if peer in self._checking:
            return  # one at a time; what was sent meanwhile is asked for again
        if part.part == 0 and not self._begin(peer, part):
            return
        transfer = self._transfers.get(peer)
        if transfer is None or not transfer.continues(part):
            self._transfers.pop(peer, None)  # of a transfer that was given up: repair asks again
            return
        if part.part >= transfer.granted:
            del self._transfers[peer]
            self._room.on_fault(peer, "a snapshot's parts are sent as they are pulled")
            return
        transfer.data += part.data
        transfer.next += 1
        transfer.moved, transfer.is_moving = self._room.env.mono(), True
        self._look_after()
        if transfer.next == part.parts:
            del self._transfers[peer]
            self._check(peer, part.stream, bytes(transfer.data))
        elif transfer.granted < part.parts and transfer.granted - transfer.next <= PARTS_AHEAD // 2:
            transfer.granted = transfer.next + PARTS_AHEAD
            self._room.send(peer, SnapshotPull(part.transfer, transfer.granted), Lane.CONTROL)

    def _begin(self, peer: NodeId, part: SnapshotPart) -> bool:
        """Whether a transfer of so many parts may begin now."""
        self._transfers.pop(peer, None)
        now = self._room.env.mono()
        if part.parts > _PARTS_MAX:
            self._room.on_fault(peer, f"a snapshot has at most {SNAPSHOT_BYTES_MAX} bytes")
            return False
        if self._paused.get(peer, now) > now:
            return False
        others = sum(each.parts for each in self._transfers.values()) * CHUNK_BYTES_MAX
        if others and others + part.parts * CHUNK_BYTES_MAX > TOGETHER_BYTES_MAX:
            self._room.tell(Dropped("snapshots on their way", 1))
            return False
        self._paused.pop(peer, None)
        self._transfers[peer] = _Transfer(part, now)
        return True

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

    __slots__ = ("began", "data", "granted", "is_moving", "moved", "next", "number", "parts", "stream")

    def __init__(self, part: SnapshotPart, now: int) -> None:
        self.stream, self.number, self.parts = part.stream, part.transfer, part.parts
        self.data = bytearray()
        self.next = 0
        self.granted = PARTS_AHEAD  # parts that may be sent, in all
        self.began = self.moved = now  # when its last part came
        self.is_moving = False

    def continues(self, part: SnapshotPart) -> bool:
        return (part.stream, part.transfer, part.parts, part.part) == (
            self.stream, self.number, self.parts, self.next
        )  # fmt: skip
