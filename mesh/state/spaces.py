"""All spaces of one node: frames and messages from links in, events for the protocol stack out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence

from mesh.errors import TooManySpaces
from mesh.messages import ConfirmAsk, Durable, DurableAsk, Evidence, Have, LinkMessage, SnapshotPart
from mesh.protocol.effects import TRANSIENT, Event, Held, Repeated, Slot
from mesh.protocol.facts import ClockAhead, Dropped, Fact, StateDamaged
from mesh.state import records
from mesh.state.aside import Allowance
from mesh.state.config import StateConfig
from mesh.state.confirm import LEVELS, Confirmations
from mesh.state.folding import Snapshot
from mesh.state.intake import Done, Intake, Pending
from mesh.state.journal import Journal, nothing
from mesh.state.log import Log
from mesh.state.replica import Replica
from mesh.state.reports import Reports
from mesh.state.riders import Riders
from mesh.state.roll import Roll
from mesh.state.room import Room
from mesh.state.space import Space
from mesh.state.transfers import Transfers
from transport.base import MILLISECOND, SECOND, Cut, Env, Lane, Put, Storage, StorageFault, Timer
from transport.errors import FrameInvalid
from transport.frame import KIND_CHANGES, STREAM_BYTES_MAX, SignedFrame, parse, parse_stub
from transport.identity import Identity, Mesh, NodeId, Origin

HLC_LOGICAL_BITS = 16  # of a stamp; the rest is milliseconds
TOLD_EVERY_NS = 60 * SECOND
AHEAD_TOLD_MAX = 1024  # origins remembered for that


class Spaces:
    """Every member holds every space of its mesh. Calls come from the loop; ``done`` never comes inside ``receive``.

    ``feed`` gets ``Held``, ``Repeated``, ``Gap`` and ``Forked`` for the protocol stack, ``tell`` facts, ``on_fault`` a
    peer that sent what no correct node sends. ``send`` answers whether a lane took the message; ``reach`` sends to a
    member over its link, or sealed through others.
    """

    def __init__(
        self,
        env: Env,
        identity: Identity,
        mesh: Mesh,
        storage: Storage,
        *,
        config: StateConfig,
        tell: Callable[[Fact], None],
        feed: Callable[[Event], None],
        send: Callable[[NodeId, LinkMessage, Lane], bool],
        reach: Callable[[NodeId, LinkMessage], bool],
        on_fault: Callable[[NodeId, str], None],
    ) -> None:
        self.journal = Journal(env, storage, config)
        self._room = Room(env, identity, mesh, storage, config, self.journal, tell, feed, send, reach, on_fault,
                          Allowance(config.aside_bytes_max))  # fmt: skip
        self._room.on_durable, self._room.spread = self._on_durable, self._spread
        self._roll = Roll(self._room)
        self._reports = Reports(self._room, self._roll, self._log_of)
        self._confirmations = Confirmations(self._room, self._roll, self._reports)
        self._intake = Intake(env, mesh, config, accept=self._accept, is_ready=self._is_ready)
        self._replicas: dict[str, Replica] = {}
        self._spaces: dict[str, Space] = {}
        self._linked: dict[NodeId, None] = {}
        self._transfers = Transfers(self._room, self._on_snapshot)
        self._ahead_told: dict[Origin, int] = {}
        self._fold_timer: Timer | None = None
        self._tend_timer: Timer | None = None
        self._riders = Riders(env, self.journal, self._seal_all)
        self._room.before_seal = self._riders.go
        self._dropped_told = 0  # monotonic ns before which it is not said again
        self.journal.on_recovered.append(self._on_recovered)
        self.journal.on_room.append(self._intake.wake)

    # -- life --------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Load what the disk holds, and feed ``Held`` for it. Raises ``StorageFault`` when it cannot be read."""
        storage = self._room.storage
        self._roll.load()
        for name in self._stored():
            self._replica(name)
        self._tend_later()
        if damaged := len(storage.damaged()):
            self._room.tell(StateDamaged(damaged))
        for replica in self._replicas.values():
            for log in replica.logs.values():
                if log.head.seq:
                    self._room.feed(Held(log.slot, 0, log.head, None, 0))

    def _tend(self) -> None:
        """Look after closed logs and what removals left behind, in all spaces. The first member present leads."""
        counted = self._roll.counted()
        present = [node for node in counted if self._roll.is_present(node)]
        lead = all(self._room.identity.id < node for node in present)
        for replica in self._replicas.values():
            replica.closings.tend(lead=lead, counted=counted)
        self._tend_later()

    def _tend_later(self) -> None:
        when = self._room.env.mono() + int(self._room.config.tend_every_s * SECOND)
        self._tend_timer = self._room.env.call_at(when, self._tend)

    def retire(self, node: NodeId) -> None:
        """Close all logs of ``node`` in all spaces: it does not come back. Raises what a write raises."""
        for replica in self._replicas.values():
            replica.closings.retire(node)

    def _stored(self) -> list[str]:
        """The names of all spaces on disk; one seek a table and space."""
        names: dict[str, None] = {}
        for table in (records.OWN, records.BASE, records.FRAMES, records.FORKS):
            first = b""
            while (found := next(iter(self._room.storage.scan(table, first)), None)) is not None:
                name = records.read_stream(found[0])
                names[name] = None
                first = records.after_prefix(records.stream_key(name))
        return sorted(names)

    async def close(self) -> None:
        """Sign, commit and push out what waits, then take nothing more. The storage is its owner's to close."""
        self._riders.go()
        for replica in self._replicas.values():
            replica.writer.close()
        if self.journal.fault is None:
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

            def finish(fault: StorageFault | None = None) -> None:
                if not done.done():
                    done.set_result(None)

            self.journal.append([], saved=finish, lost=finish)
            await done
        for space in self._spaces.values():
            space.end()
        self._intake.close()
        self._transfers.close()
        self._confirmations.close()
        self._reports.close()
        for timer in (self._fold_timer, self._tend_timer):
            if timer is not None:
                timer.cancel()
        self.journal.close()

    def keep(self, puts: Sequence[Put], cuts: Sequence[Cut] = ()) -> None:
        """Make other rooms' records durable with the next commit; a disk that refuses gets them later."""
        self.journal.append(puts, cuts, saved=nothing)

    def commit(
        self, puts: Sequence[Put], cuts: Sequence[Cut], *, saved: Callable[[], None],
        lost: Callable[[StorageFault], None],
    ) -> None:  # fmt: skip
        """Make another room's records durable in one commit with all that spaces wrote so far (``riders.py``)."""
        self._riders.add(puts, cuts, saved, lost)

    def _seal_all(self) -> None:
        for replica in self._replicas.values():
            replica.writer.seal()

    # -- spaces ------------------------------------------------------------------------------------------------------

    @property
    def names(self) -> list[str]:
        """The spaces this node holds, in the order in which it came to hold them; asking opens none."""
        return [name for name in self._replicas if not name.startswith(TRANSIENT)]

    def space(self, name: str) -> Space:
        """The space ``name``: the same object each time. Raises ``TooManySpaces``; ``ValueError`` for no name."""
        space = self._spaces.get(name)
        if space is None:
            if not 0 < len(name.encode()) <= STREAM_BYTES_MAX or name.startswith(TRANSIENT):
                raise ValueError(f"a space's name has 1 to {STREAM_BYTES_MAX} bytes and no NUL in front, got {name!r}")
            replica = self._replica(name)
            if replica is None:
                raise TooManySpaces(name, self._room.config.spaces_max)
            space = self._spaces[name] = Space(replica, self._confirm)
        return space

    def _replica(self, name: str) -> Replica | None:
        replica = self._replicas.get(name)
        if replica is None and len(self._replicas) < self._room.config.spaces_max:
            replica = self._replicas[name] = Replica(self._room, name)
            replica.writer.on_transaction_end = self._intake.wake
        return replica

    def _log_of(self, slot: Slot) -> Log | None:
        replica = self._replicas.get(slot.stream)
        return None if replica is None else replica.logs.get(slot.origin)

    async def _confirm(self, replica: Replica, level: str, timeout_s: float) -> None:
        await replica.writer.flush()
        own = self._room.identity.id
        logs = [log for log in replica.logs.values() if log.slot.origin.node == own and log.saved.seq]
        if level not in LEVELS:
            raise ValueError(f"confirm by {', '.join(map(repr, LEVELS))}, not {level!r}")
        deadline = self._room.env.mono() + int(timeout_s * SECOND)
        for log in logs:  # mostly one; more after a restored backup or a disk that refused
            await self._confirmations.confirm(log, level, deadline)

    @property
    def has_own_log(self) -> bool:
        """Whether this disk brought a log of this node: then a peer may know more of it than the disk."""
        own = self._room.identity.id
        return any(log.head.seq and log.slot.origin.node == own
                   for replica in self._replicas.values() for log in replica.logs.values())  # fmt: skip

    # -- frames in ---------------------------------------------------------------------------------------------------

    def receive(self, peer: NodeId, raw: bytes, done: Done) -> None:
        """A signed frame from a link. ``done`` is called once its bytes are no longer held by the queue: the peer's
        credit. Later, never from inside."""
        try:
            frame = parse(raw)
        except FrameInvalid as fault:
            self._refuse(peer, fault.rule, done)
            return
        known = frame.kind == KIND_CHANGES and not frame.stream.startswith(TRANSIENT)
        if frame.mesh_tag != self._room.mesh.tag or not known:
            self._refuse(peer, "a frame is of this mesh and of a known kind", done)
            return
        replica = self._replicas.get(frame.stream)
        if frame in self._intake or (replica is not None and self._holds(replica, frame)):
            self._room.feed(Repeated(peer, Slot(frame.stream, frame.origin), frame.last))
            self._later(done)
            return
        self._intake.put(Pending(frame, peer, done))

    def _holds(self, replica: Replica, frame: SignedFrame) -> bool:
        try:
            return bool(replica.holds(frame))
        except StorageFault:
            return False  # it will be looked at again once it is verified

    def arriving(self) -> list[NodeId]:
        """Whose frames are here and not applied yet, or who sent a part of a snapshot since this was asked last."""
        return list(dict.fromkeys((*self._intake.senders, *self._transfers.moved())))

    def _refuse(self, peer: NodeId, rule: str, done: Done) -> None:
        self._room.on_fault(peer, rule)
        self._later(done)

    def _later(self, done: Done) -> None:
        self._room.env.call_at(self._room.env.mono(), done)

    def _is_ready(self, frame: SignedFrame) -> bool:
        replica = self._replicas.get(frame.stream)
        if replica is not None and replica.writer.open_transaction is not None:
            return False
        return self.journal.has_room

    def _accept(self, pending: Pending) -> None:
        frame, peer = pending.frame, pending.peer
        if not pending.is_genuine:
            self._room.on_fault(peer, "a frame is signed by its origin")
        elif (replica := self._replica(frame.stream)) is None:
            self._tell_once(Dropped("spaces", 1))
        else:
            self._look_at_clock(frame)
            try:
                replica.offer(frame, peer)
            except StorageFault:  # not held, so repair brings it again once the disk can be read
                self._tell_once(Dropped("frame: the disk cannot be read", 1))
        pending.done()

    def _tell_once(self, fact: Dropped) -> None:
        """Say that something was dropped, but not for every frame of a flood."""
        mono = self._room.env.mono()
        if mono >= self._dropped_told:
            self._dropped_told = mono + TOLD_EVERY_NS
            self._room.tell(fact)

    def _look_at_clock(self, frame: SignedFrame) -> None:
        now = self._room.env.now() // MILLISECOND
        ahead = (frame.hlc >> HLC_LOGICAL_BITS) - now
        if ahead <= self._room.config.clock_ahead_max_s * 1000:
            return
        mono = self._room.env.mono()
        told = self._ahead_told.get(frame.origin)
        if told is None or mono - told >= TOLD_EVERY_NS:
            if len(self._ahead_told) >= AHEAD_TOLD_MAX:
                del self._ahead_told[next(iter(self._ahead_told))]
            self._ahead_told[frame.origin] = mono
            self._room.tell(ClockAhead(frame.origin, ahead))

    # -- frames out --------------------------------------------------------------------------------------------------

    def frames_after(self, slot: Slot, after: int, bytes_max: int) -> list[bytes] | None:
        """The held frames of a log after ``after``, in order, up to about ``bytes_max`` (at least one, if any).
        ``None``: they were folded away, serve ``snapshot``."""
        replica, log = self._replicas.get(slot.stream), self._log_of(slot)
        if replica is None or log is None:
            return []
        if after < log.floor.seq:
            return None
        frames: list[bytes] = []
        size = 0
        try:
            for raw in replica.frames_after(log, after):
                if frames and size + len(raw) > bytes_max:
                    break
                frames.append(raw)
                size += len(raw)
        except StorageFault:  # what was read is good; the rest is another member's to serve
            self._tell_once(Dropped("request: the disk cannot be read", 1))
        return frames

    def floor_of(self, slot: Slot) -> int:
        """Up to where a log was folded; ``frames_after`` that is never ``None``."""
        log = self._log_of(slot)
        return 0 if log is None else log.floor.seq

    def frame_at(self, slot: Slot, first: int) -> bytes | None:
        """The held frame that begins at ``first``; ``None`` when it was folded away meanwhile."""
        replica, log = self._replicas.get(slot.stream), self._log_of(slot)
        try:
            return None if replica is None or log is None else replica.frame_at(log, first)
        except StorageFault:
            return None

    @staticmethod
    def last_of(raw: bytes) -> int:
        """Sequence of the last operation in a frame."""
        return parse(raw).last

    def snapshot(self, stream: str) -> bytes:
        """The stream up to its floors, signed by this node; for ``SnapshotPart``s."""
        replica = self._replicas.get(stream)
        try:
            if replica is not None:
                return replica.folder.snapshot()
        except StorageFault:
            self._tell_once(Dropped("request: the disk cannot be read", 1))
        return Snapshot(stream, {}, b"").seal(self._room.identity, self._room.mesh)

    # -- messages ----------------------------------------------------------------------------------------------------

    def on_message(self, peer: NodeId, message: SnapshotPart | Durable | ConfirmAsk | DurableAsk | Evidence) -> None:
        """A link message that is this room's to answer."""
        match message:
            case Durable():
                self._on_report(peer, message.entries)
            case DurableAsk():
                self._on_report(peer, message.entries)
                self._reports.on_ask(peer, message)
            case ConfirmAsk():
                self._confirmations.on_ask(peer, message, self._log_of(Slot(message.stream, Origin(message.origin))))
            case Evidence():
                self._on_evidence(peer, message)
            case SnapshotPart():
                self._transfers.take(peer, message)

    def _on_report(self, peer: NodeId, entries: Sequence[Have]) -> None:
        """``peer`` said what is on its disk; it is the sender of these very words, with a link or without."""
        self.peer_holds(peer, entries)
        self._reports.on_report(peer, entries)
        self._confirmations.settle()
        self._fold_all()

    def peer_holds(self, peer: NodeId, entries: Iterable[Have]) -> None:
        """``peer`` says what it holds. More of our own log than we have: our disk is an old one. More of a forked log:
        perhaps it folded that before anyone knew."""
        own = self._room.identity.id
        for entry in entries:
            replica = self._replicas.get(entry.stream)
            if replica is None:
                continue
            if entry.origin[:32] == own:
                replica.writer.seen(Origin(entry.origin), entry.seq)
                if (log := replica.logs.get(Origin(entry.origin))) is not None:
                    with contextlib.suppress(StorageFault):  # asked again with the peer's next word
                        replica.forks.doubt(log, entry.seq, entry.head, peer)
            if replica.forks.at:
                replica.forks.seen(Origin(entry.origin), entry.seq, peer)

    def own_log_seen(self, slot: Slot, seq: int, head: bytes) -> None:
        """Somebody holds one of our logs up to ``seq``."""
        replica = self._replicas.get(slot.stream)
        if replica is not None:
            replica.writer.seen(slot.origin, seq)

    def _on_evidence(self, peer: NodeId, message: Evidence) -> None:
        try:
            one, other = parse_stub(message.one), parse_stub(message.other)
        except FrameInvalid as fault:
            self._room.on_fault(peer, fault.rule)
            return
        mesh, suite = self._room.mesh, self._room.env.suite
        same = all(getattr(one, name) == getattr(other, name) for name in ("origin", "stream", "first", "previous"))
        if (
            not same
            or one.digest == other.digest
            or not (one.is_authentic(mesh, suite) and other.is_authentic(mesh, suite))
        ):
            self._room.on_fault(peer, "evidence is two genuine frames after one predecessor")
            return
        replica = self._replica(one.stream)
        if replica is None:
            return
        if replica.writer.open_transaction is not None:
            self._later(lambda: self._on_evidence(peer, message))
            return
        replica.forks.prove(replica.log(one.origin), one.first, message.one, message.other)

    def _on_snapshot(self, peer: NodeId, snapshot: Snapshot) -> None:
        if (replica := self._replica(snapshot.stream)) is not None:
            self._join(replica, snapshot, peer)

    def _join(self, replica: Replica, snapshot: Snapshot, peer: NodeId) -> None:
        if replica.writer.open_transaction is None:
            replica.folder.join(snapshot, peer)
        else:
            self._later(lambda: self._join(replica, snapshot, peer))

    # -- members, links, durability ----------------------------------------------------------------------------------

    def members(self, members: Iterable[tuple[NodeId, str, bool, int]]) -> None:
        """Who is known now: id, state, whether it has a disk, and since when (monotonic ns) it is in that state."""
        came = self._roll.members(members)
        self._reports.members(came)
        self._confirmations.members(came)
        self._fold_all()

    def linked(self, peer: NodeId, up: bool) -> None:
        """The link to ``peer`` came up, or ended."""
        if not up:
            self._linked.pop(peer, None)
            self._transfers.lost(peer)
            self._confirmations.unlinked(peer)
            for replica in self._replicas.values():
                replica.forks.on_link_down(peer)
            return
        self._linked[peer] = None
        self._confirmations.linked(peer)
        for replica in self._replicas.values():
            for proof in replica.forks.proofs:
                self._room.send(peer, proof, Lane.CONTROL)

    def _spread(self, message: LinkMessage) -> None:
        for peer in self._linked:
            self._room.send(peer, message, Lane.CONTROL)

    def _on_durable(self, slot: Slot) -> None:
        replica = self._replicas[slot.stream]
        self._confirmations.on_durable(replica.logs[slot.origin])
        self._maybe_fold(replica)

    def _on_recovered(self) -> None:
        for replica in self._replicas.values():
            replica.writer.on_recovered()

    def _fold_all(self) -> None:
        for replica in self._replicas.values():
            self._maybe_fold(replica)

    def _maybe_fold(self, replica: Replica) -> None:
        if self._fold_timer is None and replica.folder.may_fold():
            when = max(replica.folder.after, self._room.env.mono())
            self._fold_timer = self._room.env.call_at(when, self._on_fold_time)

    def _on_fold_time(self) -> None:
        self._fold_timer = None
        for replica in self._replicas.values():
            if replica.folder.may_fold():
                with contextlib.suppress(StorageFault):  # folding can wait; nothing is lost by it
                    replica.folder.fold(self._reports.stable(replica.logs.values()))
                if replica.folder.is_folding:
                    self._reports.settled(replica)
                else:
                    self._reports.want(replica)
