"""Folding one space's logs below the stable cut, and joining what others folded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from crdt import LogClosed
from mesh.protocol.effects import Head, Held
from mesh.state import records
from mesh.state.folding import Snapshot, fold, load
from mesh.state.log import Log
from mesh.state.room import Room
from transport.base import SECOND, StorageFault
from transport.frame import SignedFrame
from transport.identity import NodeId, Origin

if TYPE_CHECKING:
    from mesh.state.replica import Replica

FOLD_EVERY_NS = SECOND
FOLD_READ_BYTES = 4 << 20  # of frames in one attempt, unless the base is larger still
FRAME_WEIGHT = 128  # what a frame costs in an index besides its bytes


class Folder:
    """Keeps what lies above the floors small. ``frames`` and ``bytes`` say, about, how much that is.

    ``after``: monotonic ns of the next attempt. Only log entries go; what a document keeps for those who may return
    is the document's.
    """

    def __init__(self, replica: Replica, room: Room) -> None:
        self._replica, self._room = replica, room
        self._key = records.stream_key(replica.name)
        self._base_changed = False
        self._unsaved: bytes | None = None  # the base, while it is on its way to disk
        self.is_folding = False
        self.after = 0
        self.base_bytes = 0
        self.frames = self.bytes = 0

    def grown(self, frame: SignedFrame) -> None:
        """A log has one more frame."""
        self.frames += 1
        self.bytes += len(frame.raw)

    def _weigh(self) -> None:
        self.frames = sum(log.frames for log in self._replica.logs.values())
        self.bytes = sum(log.bytes for log in self._replica.logs.values())

    def fold(self, cut: dict[Origin, Head]) -> None:
        """Fold the logs up to ``cut``, which every member that counts has on disk, into the base; cut them there.

        Off the loop: the base is loaded, the frames are put on top, and the result is signed. The live document has no
        part in it. One storage batch then replaces the base and removes the frames. At most one attempt a second.
        """
        self.after = self._room.env.mono() + FOLD_EVERY_NS
        room, storage = self._room, self._room.storage
        spans = {
            origin: (log.slot, log.floor.seq, head.seq)
            for origin, head in cut.items()
            if (log := self._replica.logs[origin]).floor.seq < head.seq <= log.saved.seq and self._agrees(log, head)
        }
        if not spans:
            return
        gain_frames = gain_bytes = 0.0
        for origin, (_, floor, last) in spans.items():
            log = self._replica.logs[origin]
            part = (last - floor) / (log.head.seq - floor)
            gain_frames, gain_bytes = gain_frames + part * log.frames, gain_bytes + part * log.bytes
        if not self._is_worth(int(2 * gain_frames), int(2 * gain_bytes)):
            return  # less than half of what would be worth it is stable yet
        # Read here, since a storage serves one reader at a time; so much of each log as keeps the loop's turn short.
        # A causal order goes on with at least one log whatever the shares, and the next attempt takes the rest.
        share = max(FOLD_READ_BYTES, 2 * self.base_bytes) // len(spans)
        frames = {origin: _first_bytes(self._replica.logs[origin].frames_after(storage, floor, last), share)
                  for origin, (_, floor, last) in spans.items()}  # fmt: skip
        base, forks = self._replica.base(), dict(self._replica.forks.at)
        if not base.stubs and self._has_floors():
            return  # it rotted: what lies above it cannot rest on nothing
        self.is_folding = True
        self._base_changed = False

        def work() -> tuple[Snapshot, bytes]:
            folded = fold(base, frames, forks)
            return folded, folded.seal(room.identity, room.mesh)

        room.env.offload(work, self._on_folded)

    def _agrees(self, log: Log, head: Head) -> bool:
        """Whether the history that others have on disk up to ``head`` is the one held here."""
        if head.seq == log.saved.seq:
            return head.hash == log.saved.hash
        frame = log.frame_over(self._room.storage, head.seq)
        return frame is not None and frame.last == head.seq and frame.digest == head.hash

    def _on_folded(self, outcome: tuple[Snapshot, bytes] | BaseException) -> None:
        self.is_folding = False
        if isinstance(outcome, BaseException):
            raise outcome
        snapshot, raw = outcome
        forked = any(log.fork and origin in snapshot.stubs and snapshot.stubs[origin].last >= log.fork
                     for origin, log in self._replica.logs.items())  # fmt: skip
        if not self._base_changed and not forked:
            self._rebase(snapshot, raw)

    def _rebase(self, snapshot: Snapshot, raw: bytes, saved: Callable[[], None] | None = None) -> None:
        """Put ``snapshot`` in place of the base; the logs begin above it from now on."""
        old = {origin: (log.floor, log.stub, log.frames, log.bytes) for origin, log in self._replica.logs.items()}
        cuts = []
        for origin, stub in snapshot.stubs.items():
            log = self._replica.log(origin)
            if stub.last <= log.floor.seq:
                continue
            share = max(0, log.head.seq - stub.last) / max(1, log.head.seq - log.floor.seq)
            log.frames, log.bytes = int(log.frames * share), int(log.bytes * share)
            log.floor, log.stub = Head(stub.last, stub.digest), stub.stub()
            cuts.append(records.cut_up_to(log.slot, stub.last))

        def lost(fault: StorageFault) -> None:
            if self._unsaved is raw:
                self._unsaved = None
            for origin, kept in old.items():
                log = self._replica.logs[origin]
                log.floor, log.stub, log.frames, log.bytes = kept
            self._weigh()

        def done() -> None:
            if self._unsaved is raw:
                self._unsaved = None
            if saved is not None:
                saved()

        self._weigh()
        self.base_bytes = len(raw)
        self._unsaved = raw
        self._room.journal.append([(records.BASE, self._key, raw)], cuts, saved=done, lost=None if saved else lost)

    @property
    def is_free(self) -> bool:
        """Whether no fold is under way and the base is on disk."""
        return not self.is_folding and self._unsaved is None

    def rebase(self, snapshot: Snapshot) -> None:
        """Let the logs begin above ``snapshot``, which is this document as it stands."""
        self._base_changed = True
        self._rebase(snapshot, snapshot.seal(self._room.identity, self._room.mesh))

    def may_fold(self) -> bool:
        """Whether there is enough above the floors, and the base they stand on is on disk. Cheap: asked after every
        commit."""
        return self.is_free and self._is_worth(self.frames, self.bytes)

    def _is_worth(self, frames: int, size: int) -> bool:
        """Whether folding so much is worth its price, which grows with the base: it is loaded and written anew."""
        config = self._room.config
        weight = size + FRAME_WEIGHT * frames
        return weight >= self.base_bytes and (weight >= config.fold_bytes or frames >= config.fold_frames)

    def base(self) -> bytes | None:
        """What lies below the floors, as it is or will be on disk: an older one under the present floors has holes."""
        if self._unsaved is not None:
            return self._unsaved
        raw = self._room.storage.get(records.BASE, self._key)
        if raw is None and self._has_floors():
            self._replica.bridge.needed()
        return raw

    def _has_floors(self) -> bool:
        return any(log.floor.seq for log in self._replica.logs.values())

    def snapshot(self) -> bytes:
        """The base as this node vouches for it, for peers that are behind the floors."""
        raw = self.base()
        return (
            raw if raw is not None else Snapshot(self._replica.name, {}, b"").seal(self._room.identity, self._room.mesh)
        )

    def join(self, snapshot: Snapshot, peer: NodeId) -> None:
        """Join what ``peer`` folded (checked already): never adopt it, since this node may know more."""
        self._replica.forks.give_way(snapshot)
        held_logs = self._replica.logs
        grown = [(origin, stub) for origin, stub in snapshot.stubs.items()
                 if stub.last > (held_logs[origin].head.seq if origin in held_logs else 0)]  # fmt: skip
        if not grown or len(self._replica.logs.keys() | snapshot.stubs.keys()) > self._room.config.origins_max:
            return
        for origin, stub in snapshot.stubs.items():
            log = self._replica.log(origin)
            if log.floor.seq < stub.last <= log.head.seq:
                held = log.frame_over(self._room.storage, stub.last)
                if held is None or held.digest != stub.digest:
                    self._replica.forks.on_conflict(log, stub, peer)
                    return
        for origin, stub in grown:
            self._replica.writer.seen(origin, stub.last)
        doc, watched = self._replica.doc, bool(self._replica.on_events)
        try:
            events = doc.join(snapshot.state, events=watched)
        except LogClosed as beyond:
            if self._replica.closings.is_closed(peer):
                self._replica.closings.told(beyond)
                return
            events = doc.join(snapshot.state, events=watched, admitted=True)  # whose log is open vouches for it
        base = self._replica.base()
        stubs = dict(base.stubs)
        stubs.update({origin: stub for origin, stub in snapshot.stubs.items()
                      if origin not in stubs or stub.last > stubs[origin].last})  # fmt: skip
        state = snapshot.state
        if base.state:
            below = load(base.state, "join")
            below.join(snapshot.state, events=False, admitted=True)
            state = below.snapshot()
        joined = Snapshot(self._replica.name, stubs, state)
        self._base_changed = True
        for origin, stub in grown:
            log = self._replica.logs[origin]
            log.head = Head(stub.last, stub.digest)
            log.unsaved.clear()
            self._replica.seqs[log.actor] = stub.last
            self._replica.aside.drop(origin, up_to=stub.last)
            if log.fork and stub.last >= log.fork:
                log.fork = self._replica.forks.at[log.actor] = stub.last + 1  # what everyone had folded stays
        logs = [self._replica.logs[origin] for origin, _ in grown]
        heads = [log.head for log in logs]

        def saved() -> None:
            for log, head in zip(logs, heads, strict=True):
                if log.saved < head:
                    log.saved = head
                self._room.on_durable(log.slot)

        self._rebase(joined, joined.seal(self._room.identity, self._room.mesh), saved)
        for log, head in zip(logs, heads, strict=True):
            self._room.feed(Held(log.slot, 0, head, peer, 0))
        self._replica.emit(events)
        for log, head in zip(logs, heads, strict=True):
            self._replica.retry([log.slot.origin, *self._replica.aside.freed(log.actor, head.seq)])
        self._replica.closings.look()


def _first_bytes(frames: Iterator[bytes], bytes_max: int) -> list[bytes]:
    """The first frames, about ``bytes_max`` of them, and at least one."""
    taken: list[bytes] = []
    for raw in frames:
        taken.append(raw)
        bytes_max -= len(raw)
        if bytes_max <= 0:
            break
    return taken
