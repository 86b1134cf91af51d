"""One space as this node holds it: a document, the logs it was made from, and the way of a change between them.

    local    document -> sealer -> frame -> journal -> (durable) -> Held, so that it is pushed   (``writer.py``)
    remote   frame, verified -> document -> Held, so that it is relayed -> journal

Invariant: a log's head is the document's clock for that actor. A frame whose causes are missing is not held but set
aside (``aside.py``), so equal heads are equal states, and whatever a peer asks for can be served.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from crdt import Change, CrdtError, Document, UnknownOperation
from crdt.events import Event as Changed
from crdt.events import event_at
from mesh.protocol.effects import Forked, Gap, Head, Held, Repeated, Slot
from mesh.protocol.facts import Dropped, SpaceStalled
from mesh.state import records
from mesh.state.aside import Aside
from mesh.state.bridge import Bridge
from mesh.state.closings import Closings
from mesh.state.folder import Folder
from mesh.state.folding import Replay, Snapshot, changes_of, load, missing_cause
from mesh.state.forks import Forks
from mesh.state.log import BOTTOM, Log
from mesh.state.lost import Lost
from mesh.state.room import Room
from mesh.state.writer import Writer
from transport.base import MILLISECOND
from transport.frame import SignedFrame, parse, span_of
from transport.identity import LOG_BYTES, NodeId, Origin


class Replica:
    """See the module. Loaded from storage when made; ``on_events`` gets what changed, local and remote.

    ``writer`` is the way of local writes, ``forks`` what is known of equivocation, ``folder`` keeps the logs short.
    ``seqs`` mirrors the document's clock.
    """

    def __init__(self, room: Room, name: str) -> None:
        self.room, self.name = room, name
        self.logs: dict[Origin, Log] = {}
        self.forks = Forks(self, room)
        self.folder = Folder(self, room)
        self.bridge = Bridge(self, room)
        self.lost = Lost(self, room)
        self.closings = Closings(self, room)
        self.aside = Aside(room.aside)
        self.on_events: list[Callable[[list[Changed]], None]] = []
        self._key = records.stream_key(name)
        self.doubted: dict[Origin, None] = {}  # logs of our own of which a peer holds another history
        self._free: deque[Origin] = deque()
        self._stalled: set[Origin] = set()
        self._load()

    # -- opening -----------------------------------------------------------------------------------------------------

    def _load(self) -> None:
        storage = self.room.storage
        base = self.base()
        for origin, stub in base.stubs.items():
            self.logs[origin] = Log(
                Slot(self.name, origin), Head(stub.last, stub.digest), stub.stub(), self.forks.at.get(str(origin), 0)
            )
        chained, loose = self._read_frames()
        found = storage.get(records.OWN, self._key)
        origin = Origin.of(self.room.identity.id, found or self.room.env.entropy(LOG_BYTES))
        self.writer = Writer(self, self.room, self.log(origin))
        self.doc = self._load_document(base)
        self.doc.guard = self.writer.check_writable
        replay = Replay(self.doc, self.forks.at)
        replay.run(chained, self._on_loaded)
        self.seqs = replay.seqs
        loose += [
            frame for origin, frames in chained.items() for frame in frames if frame.last > self.log(origin).head.seq
        ]
        if found is not None and self._is_own_broken(loose):
            self.writer.renew("its tail on this disk is damaged")
        for frame in loose:
            self.offer(frame, None)
        self._tell_stuck(loose)

    def _tell_stuck(self, loose: list[SignedFrame]) -> None:
        """Own frames behind a damaged record: lost, unless a peer has what is missing."""
        for origin, log in self.logs.items():
            stuck = [frame for frame in loose if frame.origin == origin and frame.first > log.head.seq + 1]
            if stuck and origin.node == self.room.identity.id:
                hole = f"operations {log.head.seq + 1} to {stuck[0].first - 1} are damaged on this disk"
                self.lost.tell(log.slot, stuck, f"{hole}, and these wait until a peer brings them")

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
        self.grow(log, frame)
        log.unsaved.clear()
        log.saved = log.head
        if frame.origin.node == self.room.identity.id:
            log.brought = log.head.seq

    def _is_own_broken(self, loose: list[SignedFrame]) -> bool:
        mine = records.log_key(self.writer.own.slot)
        damaged = any(
            key.startswith(mine) or not key or (table == records.BASE and key == self._key)
            for table, key in self.room.storage.damaged()
        )
        return damaged or any(frame.origin == self.writer.own.slot.origin for frame in loose)

    def base(self) -> Snapshot:
        """What lies below the floors."""
        raw = self.folder.base()
        self.folder.base_bytes = len(raw or b"")
        return Snapshot(self.name, {}, b"") if raw is None else Snapshot.parse(raw)

    def log(self, origin: Origin) -> Log:
        """The log of ``origin``, empty if it is new."""
        log = self.logs.get(origin)
        if log is None:
            log = self.logs[origin] = Log(Slot(self.name, origin), fork=self.forks.at.get(str(origin), 0))
        return log

    def grow(self, log: Log, frame: SignedFrame) -> Head:
        """``frame`` was applied and follows ``log``'s head."""
        self.folder.grown(frame)
        return log.grow(frame)

    def _load_document(self, base: Snapshot) -> Document:
        doc = load(base.state, self.writer.own.actor, self._clock_ms, self._on_change)
        doc.hlc.ahead_ms_max = int(self.room.config.clock_ahead_max_s * 1000)
        return doc

    def _clock_ms(self) -> int:
        return self.room.env.now() // MILLISECOND

    def _on_change(self, change: Change) -> None:
        self.writer.add(change)
        if self.on_events:
            self.emit(self.doc.events_of(change))

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
        self.retry(())

    def retry(self, origins: Iterable[Origin]) -> None:
        """Take from aside what has become possible for these, and what that makes possible."""
        self._free.extend(origins)
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
        if (log.fork and frame.last >= log.fork) or (frame.last > log.head.seq and self.closings.refuses(log, frame)):
            return
        if frame.first > log.head.seq + 1:
            self._on_early(log, frame, peer)
            return
        if log is self.writer.own:
            self.writer.seen(origin, frame.last)
        held = self.holds(frame)
        if held is None and frame.previous == log.head.hash:
            self._apply(log, frame, peer)
        elif held:
            if peer is not None:
                room.feed(Repeated(peer, log.slot, frame.last))
        else:
            self.forks.on_conflict(log, frame, peer)

    def _on_early(self, log: Log, frame: SignedFrame, peer: NodeId | None) -> None:
        other = self.aside.get(frame.origin, frame.first)
        if other is not None and other.digest != frame.digest and other.previous == frame.previous:
            self.forks.prove(log, frame.first, other.stub(), frame.stub())
            return
        self.aside.put(frame, peer)  # no room: not held, so repair brings it again
        if peer is not None:
            self.room.feed(Gap(peer, log.slot, frame.first))

    def _apply(self, log: Log, frame: SignedFrame, peer: NodeId | None) -> None:
        room = self.room
        try:
            changes = changes_of(frame, log.actor, self.forks.at)
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
        events = self.doc.apply(changes, events=bool(self.on_events), admitted=True)
        head = self.grow(log, frame)
        if self.doubted:
            self.doubted.pop(log.slot.origin, None)  # what a peer has of it follows what is here
        self.seqs[log.actor] = head.seq
        room.journal.append(
            [(records.FRAMES, records.frame_key(log.slot, frame.last), frame.raw)],
            saved=partial(self._on_saved, log, frame),
        )
        room.feed(Held(log.slot, frame.first, head, peer, len(frame.raw)))
        self.lost.returned(log.slot, frame)
        if log.fork and head.seq == log.fork - 1:
            room.feed(Forked(log.slot.origin))
        self._free.append(log.slot.origin)
        self._free.extend(self.aside.freed(log.actor, head.seq))
        self.emit(events)
        self.closings.look()

    def _on_saved(self, log: Log, frame: SignedFrame) -> None:
        if log.unsaved.get(frame.first) is frame:
            del log.unsaved[frame.first]
            log.saved = Head(frame.last, frame.digest)
            self.room.on_durable(log.slot)

    def emit(self, events: list[Changed]) -> None:
        """Tell watchers."""
        if events:
            for listener in tuple(self.on_events):
                listener(events)

    # -- serving -----------------------------------------------------------------------------------------------------

    def servable(self, log: Log) -> int:
        """How far a log may leave this node: what it wrote itself only once it could not forget it."""
        if self.doubted and log.slot.origin.node == self.room.identity.id:
            return log.floor.seq  # also a new one: it may rest on what will be taken back
        return log.saved.seq if log is self.writer.own else log.head.seq

    def frame_at(self, log: Log, first: int) -> bytes | None:
        """The held frame that begins at ``first``; mostly the one that was just taken in."""
        frame = log.unsaved.get(first)
        if frame is not None:
            return frame.raw if frame.last <= self.servable(log) else None
        raw = next(self.frames_after(log, first - 1), None)
        return raw if raw is not None and parse(raw).first == first else None

    def frames_after(self, log: Log, after: int) -> Iterator[bytes]:
        """The held frames of ``log`` after ``after`` that may leave this node, in order. Nothing past a damaged one."""
        upto = self.servable(log)
        for raw in log.frames_after(self.room.storage, after, upto):
            after = span_of(raw)[1]
            yield raw
        if after < upto:
            self.bridge.needed()

    # -- rebuilding --------------------------------------------------------------------------------------------------

    def rebuild(self) -> None:
        """Make the document anew from base and frames; watchers get what differs. Keeps handles valid."""
        base = self.base()
        fresh = self._load_document(base)
        replay = Replay(fresh, self.forks.at)
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
        fallen = [log for log in self.logs.values() if replay.seqs.get(log.actor, 0) < log.head.seq]
        beyond = [
            frame for log in fallen for frame in log.frames_beyond(self.room.storage, replay.seqs.get(log.actor, 0))
        ]
        self.seqs = replay.seqs
        for log in fallen:  # a record broke since it was applied: repair brings it again, once told
            log.fall(heads.get(log.slot.origin, BOTTOM))
            self.room.feed(Held(log.slot, 0, log.head, None, 0))
        before = self.doc.value if self.on_events else {}
        guard = self.doc.guard
        vars(self.doc).update(vars(fresh))  # in place: handles know their document, and hold nothing else of it
        self.doc.guard = guard
        after = self.doc.value if self.on_events else {}
        keys = [key for key in dict.fromkeys((*before, *after)) if before.get(key) != after.get(key)]
        self.emit([event_at(self.doc._root, (key,), self.doc.actors, "", False) for key in keys])
        if self.writer.own in fallen:
            self.writer.leave("a record of it is damaged on this disk")
        for frame in beyond:
            self.offer(frame, None)
        self._tell_stuck(beyond)
