"""What this node writes into one space: sealed, made durable, and taken back when that fails."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from crdt import Change
from mesh.errors import BacklogFull, Closed, SpaceReadOnly
from mesh.protocol.effects import Head, Held
from mesh.protocol.facts import LogRenewed, StateLost
from mesh.state import records
from mesh.state.journal import nothing
from mesh.state.log import Log
from mesh.state.room import Room
from mesh.state.sealer import Sealer
from transport.base import StorageFault
from transport.frame import SignedFrame, seal
from transport.identity import LOG_BYTES, Origin

if TYPE_CHECKING:
    from mesh.state.replica import Replica


class Writer:
    """The way of a local write: document -> sealer -> frame -> journal -> (durable) -> ``Held``, so that it is pushed.

    ``own`` is the log it goes into; another one, when that cannot go on: the disk refused a commit, or peers know more
    of it than this disk. Whatever was not durable then is taken back, and named. ``fault``: why the space takes no
    writes at present. ``is_stale``: the document still shows what was taken back, since the disk cannot even be read.
    """

    def __init__(self, replica: Replica, room: Room, own: Log) -> None:
        self._replica, self._room = replica, room
        self._key = records.stream_key(replica.name)
        self._sealer = Sealer(room.env, room.journal, room.config, self.seal)
        self._flushes: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._deferred: list[Callable[[], None]] = []  # what had to wait for the end of a transaction
        self.own = own
        self._kept: Log | None = None  # the log whose name is written down, or about to be
        self.fault: SpaceReadOnly | None = None
        self.is_stale = False
        self._is_closed = False
        self.open_transaction: object | None = None
        self.on_transaction_end: Callable[[], None] = nothing

    def add(self, change: Change) -> None:
        """A local change was committed to the document."""
        self._sealer.add(change.item(), change.seq, change.count, change.hlc)

    def keep_name(self) -> None:
        """Write down which log is ours, also before its first frame: somebody is told of it, and may hand rights of a
        bounded counter over to it. (Found by ``tickets``, seed 2: a restart took another name, and the rights were
        nobody's.)"""
        log = self.own
        if log.head.seq or self._kept is log or self._is_closed:
            return
        self._kept = log
        self._room.journal.append([(records.OWN, self._key, log.slot.origin.log)], saved=nothing, lost=self._unkept)

    def _unkept(self, fault: StorageFault) -> None:
        self._kept = None  # the next one who asks has it written again

    def check_writable(self) -> None:
        """Raise unless a local write may begin: ``SpaceReadOnly``, ``BacklogFull``. Nothing has changed then."""
        journal = self._room.journal
        if journal.fault is None and self.fault is None and journal.has_room and not self._is_closed:
            return
        if self._is_closed:
            raise Closed(f"space {self._replica.name!r}")
        if journal.fault is None and self.is_stale:
            self._room.env.call_at(self._room.env.mono(), self.on_recovered)  # not here: a write has already begun
        if self.fault is not None or journal.fault is not None:
            raise self.fault or SpaceReadOnly(self._replica.name, str(journal.fault))
        if not journal.has_room:
            raise BacklogFull(self._replica.name, journal.backlog, self._room.config.backlog_bytes_max)

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
        if not self._sealer.items:
            return
        self._room.before_seal()
        items, first, count, hlc = self._sealer.take()
        if not items:
            return  # signed meanwhile, in one commit with what rode along
        room, log = self._room, self.own
        frame = seal(
            room.identity, room.mesh, stream=self._replica.name, log=log.slot.origin.log, first=first, count=count,
            hlc=hlc, previous=log.head.hash, items=items,
        )  # fmt: skip
        puts = [(records.FRAMES, records.frame_key(log.slot, frame.last), frame.raw)]
        if log.head.seq == 0:
            puts.append((records.OWN, self._key, log.slot.origin.log))
        self._replica.seqs[log.actor] = self._replica.grow(log, frame).seq
        room.journal.append(puts, saved=partial(self._on_own_saved, log, frame), lost=self._on_own_lost)

    def _on_own_saved(self, log: Log, frame: SignedFrame) -> None:
        if log.unsaved.get(frame.first) is not frame:
            return  # taken back meanwhile; a cut is on its way
        log.saved = Head(frame.last, frame.digest)
        self._room.feed(Held(log.slot, frame.first, log.saved, None, len(frame.raw)))
        log.unsaved.pop(frame.first, None)
        self._room.on_durable(log.slot)
        while self._flushes and log is self.own and self._flushes[0][0] <= log.saved.seq:
            _, flush = self._flushes.popleft()
            if not flush.done():
                flush.set_result(None)

    def _on_own_lost(self, fault: StorageFault) -> None:
        if self.own.unsaved or self._sealer.items:
            self.take_back(str(fault), "the disk refused a commit")

    def take_back(self, fault: str, reason: str) -> None:
        """Forget local writes that are not durable, start a new log, and say so to everyone who waits."""
        if self.open_transaction is not None:
            self._deferred.append(lambda: self.take_back(fault, reason))
            return
        own = self.own
        self._sealer.take()
        first, last = own.saved.seq + 1, self._replica.doc.clock.get(own.actor, 0)
        own.head = own.saved
        own.unsaved.clear()
        lost = SpaceReadOnly(self._replica.name, fault, first, last)
        if self._room.journal.fault is not None:
            self.fault = lost
        self.renew(reason)
        if last >= first:
            self._room.journal.append([], [records.cut_from(own.slot, first)], saved=nothing)
            self.rebuild()
            self._room.tell(StateLost(self._replica.name, first, last, fault))
        self._fail_flushes(lost)

    def renew(self, reason: str) -> None:
        old = self.own.slot.origin
        origin = Origin.of(self._room.identity.id, self._room.env.entropy(LOG_BYTES))
        self.own = self._replica.log(origin)
        self._replica.doc.renew(self.own.actor)
        self._room.tell(LogRenewed(old, origin, reason))

    def defer(self, act: Callable[[], None]) -> None:
        """Do ``act`` at the end of the open transaction."""
        self._deferred.append(act)

    def abandon(self, reason: str) -> None:
        """Go on in a new log, on what base and heads say; whatever was not sealed yet goes too."""
        old = self.own.slot.origin
        self._sealer.take()
        lost = SpaceReadOnly(
            self._replica.name, reason, self.own.head.seq + 1, self._replica.doc.clock.get(str(old), 0)
        )
        self.own = self._replica.log(Origin.of(self._room.identity.id, self._room.env.entropy(LOG_BYTES)))
        self.rebuild()
        self._room.tell(LogRenewed(old, self.own.slot.origin, reason))
        self._fail_flushes(lost)

    def leave(self, reason: str) -> None:
        """The own log's head fell on this disk, not elsewhere: written on from there it would get a second history."""
        own, doc = self.own, self._replica.doc
        lost = SpaceReadOnly(self._replica.name, reason, own.head.seq + 1, doc.clock.get(own.actor, 0))
        self.renew(reason)
        self._fail_flushes(lost)

    def _fail_flushes(self, lost: SpaceReadOnly) -> None:
        while self._flushes:
            _, flush = self._flushes.popleft()
            if not flush.done():
                flush.set_exception(lost)

    def seen(self, origin: Origin, seq: int) -> None:
        """A peer holds ``seq`` of one of our logs. Nothing leaves us before it is durable, so if that is more than we
        have on disk, this disk is an older one (a restored backup): go on in a new log."""
        if origin == self.own.slot.origin and seq > self.own.saved.seq:
            self.take_back("peers hold more of this log than this disk", "peers hold more of it than this disk")

    def rebuild(self) -> None:
        """Show the space as the disk and the heads have it; while it cannot be read, as it was, and read-only. What
        waits for its signature gets it before: left out, its sequences would be given away twice."""
        self.seal()
        try:
            self._replica.rebuild()
        except StorageFault as fault:
            self.is_stale = True
            self.fault = self.fault or SpaceReadOnly(self._replica.name, str(fault))

    def on_recovered(self) -> None:
        """The disk takes commits again. As long as it cannot be read the space stays read-only, and tries again at
        each write."""
        if self.is_stale:
            if self.open_transaction is not None:
                return
            try:
                self._replica.rebuild()
            except StorageFault:
                return
            self.is_stale = False
        self.fault = None

    def close(self) -> None:
        """Sign what waits; no write is taken after it."""
        self.seal()
        self._is_closed = True

    async def flush(self) -> None:
        """Return when all local writes so far are on disk. Raises ``SpaceReadOnly`` when they were taken back."""
        if self._is_closed:
            raise Closed(f"space {self._replica.name!r}")
        self.seal()
        if self._room.journal.fault is not None:
            raise self.fault or SpaceReadOnly(self._replica.name, str(self._room.journal.fault))
        if self.own.saved.seq < self.own.head.seq:
            flush: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._flushes.append((self.own.head.seq, flush))
            await flush
