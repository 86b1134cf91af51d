"""One space as this node holds it: a document, the logs it was made from, and the way of a change between them.

    local    document -> sealer -> frame -> journal -> (durable) -> Held, so that it is pushed
    remote   frame, verified -> document -> Held, so that it is relayed -> journal

Invariant: a log's head is the document's clock for that actor. A frame whose causes are missing is not held but set
aside (``aside.py``), so equal heads are equal states, and whatever a peer asks for can be served.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial

from crdt import Change, CrdtError, Document, UnknownOperation
from crdt.events import Event as Changed
from crdt.events import event_at
from mesh.errors import BacklogFull, SpaceReadOnly
from mesh.messages import Evidence, Want
from mesh.protocol.effects import Forked, Gap, Head, Held, Repeated, Slot
from mesh.protocol.facts import Dropped, LogForked, LogRenewed, SpaceStalled, StateLost
from mesh.state import records
from mesh.state.aside import Aside
from mesh.state.folding import Replay, Snapshot, changes_of, fold, load, missing_cause
from mesh.state.log import BOTTOM, Log
from mesh.state.room import Room
from mesh.state.sealer import Sealer
from transport.base import MILLISECOND, SECOND, Lane, StorageFault
from transport.frame import SignedFrame, parse, parse_stub, seal
from transport.identity import LOG_BYTES, NodeId, Origin

FOLD_EVERY_NS = SECOND
FOLD_READ_BYTES = 4 << 20  # of frames in one attempt, unless the base is larger still
FRAME_WEIGHT = 128  # what a frame costs in an index besides its bytes


class Replica:
    """See the module. Loaded from storage when made; ``on_events`` gets what changed, local and remote."""

    def __init__(self, room: Room, name: str) -> None:
        self.room, self.name = room, name
        self.logs: dict[Origin, Log] = {}
        self.forks: dict[str, int] = {}
        self.aside = Aside(room.aside)
        self.fault: SpaceReadOnly | None = None
        self.on_events: list[Callable[[list[Changed]], None]] = []
        self._key = records.stream_key(name)
        self._sealer = Sealer(room.env, room.journal, room.config, self.seal)
        self._flushes: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._free: deque[Origin] = deque()
        self._stalled: set[Origin] = set()
        self._asked: set[tuple[Origin, NodeId]] = set()
        self._base_changed = False
        self._is_stale = False  # the document shows what was taken back: it could not be read anew
        self.is_folding = False
        self.fold_after = 0  # monotonic ns of the next attempt
        self.base_bytes = 0
        self.frames = self.bytes = 0  # of all logs above their floors, about
        self.open_transaction: object | None = None
        self._deferred: list[Callable[[], None]] = []  # what had to wait for the end of a transaction
        self.on_transaction_end: Callable[[], None] = _nothing
        self._load()

    # -- opening -----------------------------------------------------------------------------------------------------

    def _load(self) -> None:
        storage = self.room.storage
        for key, _ in storage.scan(records.FORKS, self._key, records.after_prefix(self._key)):
            origin = records.read_origin(key)
            one, _other = self.evidence(origin)
            self.forks[str(origin)] = parse_stub(one).first
        base = self.base()
        for origin, stub in base.stubs.items():
            self.logs[origin] = Log(
                Slot(self.name, origin), Head(stub.last, stub.digest), stub.stub(), self.forks.get(str(origin), 0)
            )
        chained, loose = self._read_frames()
        found = storage.get(records.OWN, self._key)
        origin = Origin.of(self.room.identity.id, found or self.room.env.entropy(LOG_BYTES))
        self.own = self.log(origin)
        self.doc = self._load_document(base)
        self.doc.guard = self.check_writable
        replay = Replay(self.doc, self.forks)
        replay.run(chained, self._on_loaded)
        self.seqs = replay.seqs
        loose += [
            frame for origin, frames in chained.items() for frame in frames if frame.last > self.log(origin).head.seq
        ]
        if found is not None and self._is_own_broken(loose):
            self._renew("its tail on this disk is damaged")
        for frame in loose:
            self.offer(frame, None)

    def _read_frames(self) -> tuple[dict[Origin, list[SignedFrame]], list[SignedFrame]]:
        """The frames on disk: those that continue their log's floor in one chain, and the others."""
        chained: dict[Origin, list[SignedFrame]] = {}
        loose: list[SignedFrame] = []
        for _, raw in self.room.storage.scan(records.FRAMES, self._key, records.after_prefix(self._key)):
            frame = parse(raw)
            frames = chained.setdefault(frame.origin, [])
            floor = self.log(frame.origin).floor
            head = Head(frames[-1].last, frames[-1].digest) if frames else floor
            if frame.last <= floor.seq:
                continue
            if (frame.first, frame.previous) == (head.seq + 1, head.hash):
                frames.append(frame)
            else:
                loose.append(frame)
        return chained, loose

    def _on_loaded(self, frame: SignedFrame) -> None:
        log = self.log(frame.origin)
        self._grow(log, frame)
        log.unsaved.clear()
        log.saved = log.head

    def _is_own_broken(self, loose: list[SignedFrame]) -> bool:
        mine = records.log_key(self.own.slot)
        damaged = any(
            key.startswith(mine) or not key or (table == records.BASE and key == self._key)
            for table, key in self.room.storage.damaged()
        )
        return damaged or any(frame.origin == self.own.slot.origin for frame in loose)

    def base(self) -> Snapshot:
        """What lies below the floors, from storage."""
        raw = self.room.storage.get(records.BASE, self._key)
        self.base_bytes = len(raw or b"")
        return Snapshot(self.name, {}, b"") if raw is None else Snapshot.parse(raw)

    def log(self, origin: Origin) -> Log:
        """The log of ``origin``, empty if it is new."""
        log = self.logs.get(origin)
        if log is None:
            log = self.logs[origin] = Log(Slot(self.name, origin), fork=self.forks.get(str(origin), 0))
        return log

    def _grow(self, log: Log, frame: SignedFrame) -> Head:
        self.frames += 1
        self.bytes += len(frame.raw)
        return log.grow(frame)

    def _weigh(self) -> None:
        self.frames = sum(log.frames for log in self.logs.values())
        self.bytes = sum(log.bytes for log in self.logs.values())

    def _load_document(self, base: Snapshot) -> Document:
        doc = load(base.state, self.own.actor, self._clock_ms, self._on_change)
        doc.hlc.ahead_ms_max = int(self.room.config.clock_ahead_max_s * 1000)
        return doc

    def _clock_ms(self) -> int:
        return self.room.env.now() // MILLISECOND

    # -- writing -----------------------------------------------------------------------------------------------------

    def check_writable(self) -> None:
        """Raise unless a local write may begin: ``SpaceReadOnly``, ``BacklogFull``. Nothing has changed then."""
        journal = self.room.journal
        if journal.fault is None and self.fault is None and journal.has_room:
            return
        if journal.fault is None and self._is_stale:
            self.room.env.call_at(self.room.env.mono(), self.on_recovered)  # not here: a write has already begun
        if self.fault is not None or journal.fault is not None:
            raise self.fault or SpaceReadOnly(self.name, str(journal.fault))
        if not journal.has_room:
            raise BacklogFull(self.name, journal.backlog, self.room.config.backlog_bytes_max)

    def _on_change(self, change: Change) -> None:
        self._sealer.add(change.item(), change.seq, change.count, change.hlc)
        if self.on_events:
            self._emit(self.doc.events_of(change))

    def end_transaction(self, has_turned: bool) -> None:
        """It is closed. If the loop had a turn meanwhile, others may have had to wait for it."""
        self.open_transaction = None
        if has_turned:
            self.on_transaction_end()
        deferred, self._deferred = self._deferred, []
        for each in deferred:
            each()

    def seal(self) -> None:
        """Sign what waits, and give it to the journal. It is pushed once it is durable, never before."""
        items, first, count, hlc = self._sealer.take()
        if not items:
            return
        room, log = self.room, self.own
        frame = seal(
            room.identity, room.mesh, stream=self.name, log=log.slot.origin.log, first=first, count=count, hlc=hlc,
            previous=log.head.hash, items=items,
        )  # fmt: skip
        puts = [(records.FRAMES, records.frame_key(log.slot, frame.last), frame.raw)]
        if log.head.seq == 0:
            puts.append((records.OWN, self._key, log.slot.origin.log))
        self.seqs[log.actor] = self._grow(log, frame).seq
        room.journal.append(puts, saved=partial(self._on_own_saved, log, frame), lost=self._on_own_lost)

    def _on_own_saved(self, log: Log, frame: SignedFrame) -> None:
        if log.unsaved.get(frame.first) is not frame:
            return  # taken back meanwhile; a cut is on its way
        log.saved = Head(frame.last, frame.digest)
        self.room.feed(Held(log.slot, frame.first, log.saved, None, len(frame.raw)))
        log.unsaved.pop(frame.first, None)
        self.room.on_durable(log.slot)
        while self._flushes and log is self.own and self._flushes[0][0] <= log.saved.seq:
            _, flush = self._flushes.popleft()
            if not flush.done():
                flush.set_result(None)

    def _on_own_lost(self, fault: StorageFault) -> None:
        if self.own.unsaved or self._sealer.items:
            self._take_back(str(fault), "the disk refused a commit")

    def _take_back(self, fault: str, reason: str) -> None:
        """Forget local writes that are not durable, start a new log, and say so to everyone who waits."""
        if self.open_transaction is not None:
            self._deferred.append(lambda: self._take_back(fault, reason))
            return
        own = self.own
        self._sealer.take()
        first, last = own.saved.seq + 1, self.doc.clock.get(own.actor, 0)
        own.head = own.saved
        own.unsaved.clear()
        lost = SpaceReadOnly(self.name, fault, first, last)
        if self.room.journal.fault is not None:
            self.fault = lost
        self._renew(reason)
        if last >= first:
            self.room.journal.append([], [records.cut_from(own.slot, first)], saved=_nothing)
            try:
                self.rebuild()
            except StorageFault:
                self._is_stale = True  # not even readable now: shown as it was, until the disk is back
            self.room.tell(StateLost(self.name, first, last, fault))
        while self._flushes:
            _, flush = self._flushes.popleft()
            if not flush.done():
                flush.set_exception(lost)

    def _renew(self, reason: str) -> None:
        old = self.own.slot.origin
        origin = Origin.of(self.room.identity.id, self.room.env.entropy(LOG_BYTES))
        self.own = self.log(origin)
        self.doc.renew(self.own.actor)
        self.room.tell(LogRenewed(old, origin, reason))

    def forked_log_seen(self, origin: Origin, seq: int, peer: NodeId) -> None:
        """A peer holds more of a forked log than is kept here. If it had folded that before the proof came, everyone
        had agreed on it: its snapshot will say so. Otherwise it sends frames, and they are ignored."""
        log = self.logs.get(origin)
        if log is not None and log.fork and seq >= log.fork and (origin, peer) not in self._asked:
            self._asked.add((origin, peer))
            self.room.send(peer, Want(self.name, origin, log.head.seq), Lane.CONTROL)

    def own_log_seen(self, origin: Origin, seq: int) -> None:
        """A peer holds ``seq`` of one of our logs. Nothing leaves us before it is durable, so if that is more than we
        have on disk, this disk is an older one (a restored backup): go on in a new log."""
        if origin == self.own.slot.origin and seq > self.own.saved.seq:
            self._take_back("peers hold more of this log than this disk", "peers hold more of it than this disk")

    def on_recovered(self) -> None:
        """The disk takes commits again. As long as it cannot be read the space stays read-only, and tries again at
        each write."""
        if self._is_stale:
            if self.open_transaction is not None:
                return
            try:
                self.rebuild()
            except StorageFault:
                return
            self._is_stale = False
        self.fault = None

    async def flush(self) -> None:
        """Return when all local writes so far are on disk. Raises ``SpaceReadOnly`` when they were taken back."""
        self.seal()
        if self.room.journal.fault is not None:
            raise self.fault or SpaceReadOnly(self.name, str(self.room.journal.fault))
        if self.own.saved.seq < self.own.head.seq:
            flush: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._flushes.append((self.own.head.seq, flush))
            await flush

    # -- receiving ---------------------------------------------------------------------------------------------------

    def holds(self, frame: SignedFrame) -> bool | None:
        """Whether these very bytes are held; ``None``: nothing is, at that place. False: others are, so verify it.

        Below the floor nothing is left to compare: there it counts as held.
        """
        log = self.logs.get(frame.origin)
        if log is None or frame.first > log.head.seq:
            return None
        if frame.first <= log.floor.seq or (log.fork and frame.last >= log.fork):
            return True
        if frame.last > log.head.seq:
            return False
        unsaved = log.unsaved.get(frame.first)
        if unsaved is not None:
            return unsaved.raw == frame.raw
        return self.room.storage.get(records.FRAMES, records.frame_key(log.slot, frame.last)) == frame.raw

    def offer(self, frame: SignedFrame, peer: NodeId | None) -> None:
        """Take a genuine frame that ``peer`` sent (``None``: from our own disk), and what it makes possible."""
        self._take(frame, peer)
        self._go_on()

    def _go_on(self) -> None:
        """Take from aside what has become possible."""
        while self._free:
            origin = self._free.popleft()
            found = self.aside.take(origin, self.logs[origin].head.seq + 1)
            if found is not None:
                self._take(*found)

    def _take(self, frame: SignedFrame, peer: NodeId | None) -> None:
        origin, room = frame.origin, self.room
        if origin not in self.logs and len(self.logs) >= room.config.origins_max:
            room.tell(Dropped("origins of a space", 1))
            return
        log = self.log(origin)
        if log.fork and frame.last >= log.fork:
            return
        if frame.first > log.head.seq + 1:
            self._on_early(log, frame, peer)
            return
        if log is self.own:
            self.own_log_seen(origin, frame.last)
        held = self.holds(frame)
        if held is None and frame.previous == log.head.hash:
            self._apply(log, frame, peer)
        elif held:
            if peer is not None:
                room.feed(Repeated(peer, log.slot, frame.last))
        else:
            self._on_conflict(log, frame, peer)

    def _on_early(self, log: Log, frame: SignedFrame, peer: NodeId | None) -> None:
        other = self.aside.get(frame.origin, frame.first)
        if other is not None and other.digest != frame.digest and other.previous == frame.previous:
            self.fork(log, frame.first, other.stub(), frame.stub())
            return
        self.aside.put(frame, peer)  # no room: not held, so repair brings it again
        if peer is not None:
            self.room.feed(Gap(peer, log.slot, frame.first))

    def _apply(self, log: Log, frame: SignedFrame, peer: NodeId | None) -> None:
        room = self.room
        try:
            changes = changes_of(frame, log.actor, self.forks)
        except UnknownOperation as newer:
            if log.slot.origin not in self._stalled:
                self._stalled.add(log.slot.origin)
                room.tell(SpaceStalled(self.name, log.slot.origin, frame.first, str(newer)))
            return
        except CrdtError as wrong:
            if peer is not None:
                room.on_fault(peer, f"a frame's body holds well-formed changes ({wrong})")
            return
        cause = missing_cause(changes, self.seqs)
        if cause is not None:
            self.aside.block(frame, peer, *cause)  # no room: not held, so repair brings it again
            return
        events = self.doc.apply(changes, events=bool(self.on_events))
        head = self._grow(log, frame)
        self.seqs[log.actor] = head.seq
        room.journal.append(
            [(records.FRAMES, records.frame_key(log.slot, frame.last), frame.raw)],
            saved=partial(self._on_saved, log, frame),
        )
        room.feed(Held(log.slot, frame.first, head, peer, len(frame.raw)))
        if log.fork and head.seq == log.fork - 1:
            room.feed(Forked(log.slot.origin))
        self._free.append(log.slot.origin)
        self._free.extend(self.aside.freed(log.actor, head.seq))
        self._emit(events)

    def _on_saved(self, log: Log, frame: SignedFrame) -> None:
        if log.unsaved.get(frame.first) is frame:
            del log.unsaved[frame.first]
            log.saved = Head(frame.last, frame.digest)
            self.room.on_durable(log.slot)

    def _emit(self, events: list[Changed]) -> None:
        if events:
            for listener in tuple(self.on_events):
                listener(events)

    # -- equivocation ------------------------------------------------------------------------------------------------

    def _on_conflict(self, log: Log, frame: SignedFrame, peer: NodeId | None) -> None:
        """``frame`` is genuine and not of the history held. Proof are two frames after one common predecessor."""
        held = log.frame_over(self.room.storage, frame.first)
        if held is not None and held.previous == frame.previous and held.first == frame.first:
            self.fork(log, frame.first, held.stub(), frame.stub())
        elif peer is not None and (log.slot.origin, peer) not in self._asked:
            # The branches parted earlier: let the peer serve its own, and they will meet at the fork.
            self._asked.add((log.slot.origin, peer))
            self.room.send(peer, Want(self.name, log.slot.origin, log.floor.seq), Lane.CONTROL)

    def evidence(self, origin: Origin) -> tuple[bytes, bytes]:
        """The two stubs that prove ``origin`` forked."""
        raw = self.room.storage.get(records.FORKS, records.log_key(Slot(self.name, origin)))
        if raw is None:
            raise KeyError(origin)
        size = int.from_bytes(raw[:2], "big")
        return raw[2 : 2 + size], raw[2 + size :]

    def proofs(self) -> list[Evidence]:
        """Of every log known to have forked."""
        return [Evidence(*self.evidence(origin)) for origin, log in self.logs.items() if log.fork]

    def fork(self, log: Log, seq: int, one: bytes, other: bytes) -> None:
        """Keep the proof, drop the log's changes from ``seq`` on, accept no more of them, tell everyone.

        The lowest proven fork counts, so that all nodes end at the same one. Below the floor every member had agreed
        on one history already, and nothing is dropped.
        """
        if seq <= log.floor.seq or (log.fork and log.fork <= seq):
            return
        room, slot = self.room, log.slot
        log.fork = self.forks[log.actor] = seq
        one, other = sorted((one, other))
        cut = log.head_before(room.storage, seq)
        room.journal.append(
            [(records.FORKS, records.log_key(slot), len(one).to_bytes(2, "big") + one + other)],
            [records.cut_from(slot, cut.seq + 1)], saved=_nothing,
        )  # fmt: skip
        self.aside.drop(slot.origin, since=seq)
        if log is self.own:
            self._take_back("another signed with this node's key", "its history forked")
        if log.head.seq > cut.seq:
            log.head = cut
            log.saved = min(log.saved, cut)
            log.unsaved = {first: frame for first, frame in log.unsaved.items() if first <= cut.seq}
            self.rebuild()
        room.tell(LogForked(slot.origin, self.name, seq))
        if log.head.seq == seq - 1:
            room.feed(Forked(slot.origin))
        room.spread(Evidence(one, other))
        self._free.extend(self.aside.unblock())
        self._go_on()

    def on_link_down(self, peer: NodeId) -> None:
        self._asked = {pair for pair in self._asked if pair[1] != peer}

    # -- serving -----------------------------------------------------------------------------------------------------

    def servable(self, log: Log) -> int:
        """How far a log may leave this node: what it wrote itself only once it could not forget it."""
        return log.saved.seq if log is self.own else log.head.seq

    def frame_at(self, log: Log, first: int) -> bytes | None:
        """The held frame that begins at ``first``; mostly the one that was just taken in."""
        frame = log.unsaved.get(first)
        if frame is not None:
            return frame.raw if frame.last <= self.servable(log) else None
        raw = next(self.frames_after(log, first - 1), None)
        return raw if raw is not None and parse(raw).first == first else None

    def frames_after(self, log: Log, after: int) -> Iterator[bytes]:
        """The held frames of ``log`` after ``after`` that may leave this node, in order."""
        return log.frames_after(self.room.storage, after, self.servable(log))

    # -- folding -----------------------------------------------------------------------------------------------------

    def fold(self, cut: dict[Origin, Head]) -> None:
        """Fold the logs up to ``cut``, which every member that counts has on disk, into the base; cut them there.

        Off the loop: the base is loaded, the frames are put on top, and the result is signed. The live document has no
        part in it. One storage batch then replaces the base and removes the frames. At most one attempt a second.
        """
        self.fold_after = self.room.env.mono() + FOLD_EVERY_NS
        room, storage = self.room, self.room.storage
        spans = {
            origin: (log.slot, log.floor.seq, head.seq)
            for origin, head in cut.items()
            if (log := self.logs[origin]).floor.seq < head.seq <= log.saved.seq and self._agrees(log, head)
        }
        if not spans:
            return
        gain_frames = gain_bytes = 0.0
        for origin, (_, floor, last) in spans.items():
            log = self.logs[origin]
            part = (last - floor) / (log.head.seq - floor)
            gain_frames, gain_bytes = gain_frames + part * log.frames, gain_bytes + part * log.bytes
        if not self._is_worth(int(2 * gain_frames), int(2 * gain_bytes)):
            return  # less than half of what would be worth it is stable yet
        # Read here, since a storage serves one reader at a time; so much of each log as keeps the loop's turn short.
        # A causal order goes on with at least one log whatever the shares, and the next attempt takes the rest.
        share = max(FOLD_READ_BYTES, 2 * self.base_bytes) // len(spans)
        frames = {origin: _first_bytes(self.logs[origin].frames_after(storage, floor, last), share)
                  for origin, (_, floor, last) in spans.items()}  # fmt: skip
        base, forks = self.base(), dict(self.forks)
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
        frame = log.frame_over(self.room.storage, head.seq)
        return frame is not None and frame.last == head.seq and frame.digest == head.hash

    def _on_folded(self, outcome: tuple[Snapshot, bytes] | BaseException) -> None:
        self.is_folding = False
        if isinstance(outcome, BaseException):
            raise outcome
        snapshot, raw = outcome
        forked = any(log.fork and origin in snapshot.stubs and snapshot.stubs[origin].last >= log.fork
                     for origin, log in self.logs.items())  # fmt: skip
        if not self._base_changed and not forked:
            self._rebase(snapshot, raw)

    def _rebase(self, snapshot: Snapshot, raw: bytes, saved: Callable[[], None] | None = None) -> None:
        """Put ``snapshot`` in place of the base; the logs begin above it from now on."""
        old = {origin: (log.floor, log.stub, log.frames, log.bytes) for origin, log in self.logs.items()}
        cuts = []
        for origin, stub in snapshot.stubs.items():
            log = self.log(origin)
            if stub.last <= log.floor.seq:
                continue
            share = max(0, log.head.seq - stub.last) / max(1, log.head.seq - log.floor.seq)
            log.frames, log.bytes = int(log.frames * share), int(log.bytes * share)
            log.floor, log.stub = Head(stub.last, stub.digest), stub.stub()
            cuts.append(records.cut_up_to(log.slot, stub.last))

        def lost(fault: StorageFault) -> None:
            for origin, kept in old.items():
                log = self.logs[origin]
                log.floor, log.stub, log.frames, log.bytes = kept
            self._weigh()

        self._weigh()
        self.base_bytes = len(raw)
        self.room.journal.append([(records.BASE, self._key, raw)], cuts,
                                 saved=saved or _nothing, lost=None if saved else lost)  # fmt: skip

    def may_fold(self) -> bool:
        """Whether there is enough above the floors. Cheap: asked after every commit."""
        return not self.is_folding and self._is_worth(self.frames, self.bytes)

    def _is_worth(self, frames: int, size: int) -> bool:
        """Whether folding so much is worth its price, which grows with the base: it is loaded and written anew."""
        config = self.room.config
        weight = size + FRAME_WEIGHT * frames
        return weight >= self.base_bytes and (weight >= config.fold_bytes or frames >= config.fold_frames)

    def snapshot(self) -> bytes:
        """The base as this node vouches for it, for peers that are behind the floors."""
        raw = self.room.storage.get(records.BASE, self._key)
        return raw if raw is not None else Snapshot(self.name, {}, b"").seal(self.room.identity, self.room.mesh)

    def join(self, snapshot: Snapshot, peer: NodeId) -> None:
        """Join what ``peer`` folded (checked already): never adopt it, since this node may know more."""
        grown = [(origin, stub) for origin, stub in snapshot.stubs.items()
                 if stub.last > (self.logs[origin].head.seq if origin in self.logs else 0)]  # fmt: skip
        if not grown or len(self.logs.keys() | snapshot.stubs.keys()) > self.room.config.origins_max:
            return
        for origin, stub in snapshot.stubs.items():
            log = self.log(origin)
            if log.floor.seq < stub.last <= log.head.seq:
                held = log.frame_over(self.room.storage, stub.last)
                if held is None or held.digest != stub.digest:
                    self._on_conflict(log, stub, peer)
                    return
        for origin, stub in grown:
            self.own_log_seen(origin, stub.last)
        events = self.doc.join(snapshot.state, events=bool(self.on_events))
        base = self.base()
        stubs = dict(base.stubs)
        stubs.update({origin: stub for origin, stub in snapshot.stubs.items()
                      if origin not in stubs or stub.last > stubs[origin].last})  # fmt: skip
        state = snapshot.state
        if base.state:
            below = load(base.state, "join")
            below.join(snapshot.state, events=False)
            state = below.snapshot()
        joined = Snapshot(self.name, stubs, state)
        self._base_changed = True
        for origin, stub in grown:
            log = self.logs[origin]
            log.head = Head(stub.last, stub.digest)
            log.unsaved.clear()
            self.seqs[log.actor] = stub.last
            self.aside.drop(origin, up_to=stub.last)
            if log.fork and stub.last >= log.fork:
                log.fork = self.forks[log.actor] = stub.last + 1  # what everyone had folded stays
        logs = [self.logs[origin] for origin, _ in grown]
        heads = [log.head for log in logs]

        def saved() -> None:
            for log, head in zip(logs, heads, strict=True):
                if log.saved < head:
                    log.saved = head
                self.room.on_durable(log.slot)

        self._rebase(joined, joined.seal(self.room.identity, self.room.mesh), saved)
        for log, head in zip(logs, heads, strict=True):
            self.room.feed(Held(log.slot, 0, head, peer, 0))
            self._free.append(log.slot.origin)
            self._free.extend(self.aside.freed(log.actor, head.seq))
        self._emit(events)
        self._go_on()

    # -- rebuilding --------------------------------------------------------------------------------------------------

    def rebuild(self) -> None:
        """Make the document anew from base and frames; watchers get what differs. Keeps handles valid."""
        base = self.base()
        fresh = self._load_document(base)
        replay = Replay(fresh, self.forks)
        frames = {
            origin: [
                parse(raw)
                for raw in log.frames_after(
                    self.room.storage, base.stubs[origin].last if origin in base.stubs else 0, log.head.seq
                )
            ]
            for origin, log in self.logs.items()
        }
        heads = {origin: Head(stub.last, stub.digest) for origin, stub in base.stubs.items()}

        def applied(frame: SignedFrame) -> None:
            heads[frame.origin] = Head(frame.last, frame.digest)

        replay.run(frames, applied)
        self.seqs = replay.seqs
        for origin, log in self.logs.items():
            if self.seqs.get(log.actor, 0) < log.head.seq:  # a record broke since: repair brings it again
                log.head = heads.get(origin, BOTTOM)
                log.saved = min(log.saved, log.head)
        before = self.doc.value if self.on_events else {}
        guard = self.doc.guard
        vars(self.doc).update(vars(fresh))  # in place: handles know their document, and hold nothing else of it
        self.doc.guard = guard
        after = self.doc.value if self.on_events else {}
        keys = [key for key in dict.fromkeys((*before, *after)) if before.get(key) != after.get(key)]
        self._emit([event_at(self.doc._root, (key,), self.doc.actors, "", False) for key in keys])


def _first_bytes(frames: Iterator[bytes], bytes_max: int) -> list[bytes]:
    """The first frames, about ``bytes_max`` of them, and at least one."""
    taken: list[bytes] = []
    for raw in frames:
        taken.append(raw)
        bytes_max -= len(raw)
        if bytes_max <= 0:
            break
    return taken


def _nothing() -> None:
    """Durable now; nobody waits for it."""
