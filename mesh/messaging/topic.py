"""Topics and broadcast: signed frames without a journal, relayed as received, delivered to whoever subscribed here.

    item       [topic, body] or [topic, body, about]: text, the body's own MessagePack as bytes, and what travels beside
               it (``context``); an empty topic is a broadcast to all

Every node relays every topic (one tree an origin, ``mesh.protocol.plumtree``) and delivers what its readers asked for.
A node keeps the last few megabytes of frames for neighbours that pull. What a node missed for longer is lost to it: it
learns how many messages that were, and says so in ``dropped``. The sequence of an origin's log is what makes repeats,
holes and order visible, so nothing is remembered but one number a log.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import msgspec

from mesh.messages import ENTRIES_MAX, Gone, Have, IHave, encode
from mesh.messaging.config import MessagingConfig
from mesh.messaging.pattern import check_topic
from mesh.messaging.publisher import OnFull, Outlet, Publisher
from mesh.messaging.readers import ROUTES_MAX, Readers
from mesh.messaging.subscription import Subscription
from mesh.messaging.window import Window
from mesh.protocol.effects import TRANSIENT, Event, Forked, Gap, Head, Held, Repeated, Slot
from mesh.protocol.facts import Fact, LogForked
from mesh.state.config import StateConfig
from mesh.state.intake import Done, Intake, Pending
from transport.base import SECOND, Env
from transport.codec import Value, encode_value
from transport.errors import FrameInvalid
from transport.frame import GENESIS, KIND_TOPIC, SignedFrame, parse
from transport.identity import Identity, Mesh, NodeId, Origin

TOPICS = TRANSIENT + "topics"
LIVES_MAX = 16  # logs of one node that are remembered: each start makes one, so nobody crowds the others out

_item = msgspec.msgpack.Encoder().encode


class _Log:
    """One origin's messages as far as they came: ``head``, and frames that came before those they follow."""

    __slots__ = ("aside", "head", "slot")

    def __init__(self, slot: Slot) -> None:
        self.slot = slot
        self.head = Head(0, GENESIS)  # the hash is GENESIS too where frames were missed: then any may follow
        self.aside: dict[int, Pending] = {}


class Topics:
    """One node's topics. Calls come from the loop; ``done`` never comes inside ``receive``.

    ``feed`` gets ``Held``, ``Repeated``, ``Gap`` and ``Forked`` for the protocol stack; ``is_asked`` says whether this
    node asked a peer for a log; ``forget`` that it no longer keeps one. ``on_broadcast`` gets what is sent to all.
    """

    def __init__(
        self, env: Env, identity: Identity, mesh: Mesh, config: MessagingConfig, state: StateConfig, *,
        feed: Callable[[Event], None], tell: Callable[[Fact], None], on_fault: Callable[[NodeId, str], None],
        send: Callable[[NodeId, IHave], object], outlets: Callable[[], Iterable[Outlet]],
        is_asked: Callable[[NodeId, Slot], bool], forget: Callable[[Slot], None],
        on_broadcast: Callable[[NodeId, bytes, bytes], None], dropped: Counter[str],
    ) -> None:  # fmt: skip
        self._env, self._identity, self._mesh, self._config = env, identity, mesh, config
        self._feed, self._tell, self._on_fault, self._send = feed, tell, on_fault, send
        self._is_asked, self._forget = is_asked, forget
        self._readers = Readers(
            env, config.subscription_bytes_max, tell=tell, on_broadcast=on_broadcast, dropped=dropped
        )
        self._intake = Intake(env, mesh, state, accept=self._accept, is_ready=lambda frame: True)
        self._publisher = Publisher(
            env, identity, mesh, config, stream=TOPICS, outlets=outlets, sealed=self._on_sealed, drop=self._readers.drop
        )
        self._own = _Log(Slot(TOPICS, Origin.of(identity.id, self._publisher.log)))
        self._logs: dict[Slot, _Log] = {self._own.slot: self._own}  # least recently used first
        self._lives: dict[NodeId, deque[Slot]] = {}  # each node's logs, the oldest first; not our own one
        self._window = Window(config.window_bytes)
        self._aside_bytes = 0
        self._checked: dict[str, None] = {}  # topics published on before, so that checking them is rare
        self._joined: int | None = None  # monotonic ns of the first link

    # -- the application's side --------------------------------------------------------------------------------------

    def publish(
        self, topic: str, body: Value, about: bytes, on_full: OnFull, urgent: bool
    ) -> Coroutine[Any, Any, None]:
        """Queue ``body`` for all who subscribed, here too. Raises ``ValueError``, ``ValueRefused``, ``PublishFull``."""
        if topic not in self._checked:
            check_topic(topic)
            if len(self._checked) >= ROUTES_MAX:
                self._checked.clear()
            self._checked[topic] = None
        item = (topic, encode_value(body), about) if about else (topic, encode_value(body))
        return self._publisher.publish(_item(item), on_full, urgent)

    def broadcast(self, body: Value, about: bytes) -> Coroutine[Any, Any, None]:
        """Queue ``body`` for the message handlers of all other members."""
        item = ("", encode_value(body), about) if about else ("", encode_value(body))
        return self._publisher.publish(_item(item), "wait", False)

    def subscribe(self, pattern: str) -> Subscription:
        """A reader of what matches ``pattern``, from when it is entered."""
        return self._readers.subscribe(pattern)

    def finish(self) -> None:
        """Sign and push what waits; take no more of it."""
        self._publisher.finish()

    def close(self) -> None:
        """Take nothing more; readers read what they have, and end."""
        self._intake.close()
        self._readers.end()

    # -- frames in ---------------------------------------------------------------------------------------------------

    def receive(self, peer: NodeId, raw: bytes, done: Done) -> None:
        """A topic frame from a link; ``done`` gives its credit back, later."""
        try:
            frame = parse(raw)
        except FrameInvalid as fault:
            self._refuse(peer, fault.rule, done)
            return
        if (
            frame.mesh_tag != self._mesh.tag
            or frame.kind != KIND_TOPIC
            or frame.stream != TOPICS
            or frame.items != frame.count
        ):
            self._refuse(peer, "a topic frame is of this mesh and counts its messages", done)
            return
        slot = Slot(TOPICS, frame.origin)
        log = self._logs.get(slot)
        if frame in self._intake or (log is not None and (frame.last <= log.head.seq or frame.first in log.aside)):
            self._feed(Repeated(peer, slot, frame.last))
            self._env.call_at(self._env.mono(), done)
            return
        self._intake.put(Pending(frame, peer, done))

    def _refuse(self, peer: NodeId, rule: str, done: Done) -> None:
        self._on_fault(peer, rule)
        self._env.call_at(self._env.mono(), done)

    def _accept(self, pending: Pending) -> None:
        frame, peer = pending.frame, pending.peer
        if not pending.is_genuine:
            self._on_fault(peer, "a frame is signed by its origin")
        else:
            self._take(self._log(Slot(TOPICS, frame.origin), before=frame.first - 1), pending)
        pending.done()

    def _log(self, slot: Slot, before: int) -> _Log:
        """The log of ``slot``. One that is new when this node is new too begins ``before``: the rest is not for us."""
        log = self._logs.pop(slot, None)
        if log is None:
            log = _Log(slot)
            if before and self._is_joining:
                log.head = Head(before, GENESIS)
            lives = self._lives.setdefault(slot.origin.node, deque())
            if len(lives) >= LIVES_MAX:
                self._drop_log(lives[0])
            elif len(self._logs) >= self._config.logs_max:
                self._drop_log(next(each for each in self._logs if each != self._own.slot))
            self._lives.setdefault(slot.origin.node, deque()).append(slot)
        self._logs[slot] = log
        return log

    def _drop_log(self, slot: Slot) -> None:
        """Remember nothing more of ``slot``."""
        self._aside_bytes -= sum(len(each.frame.raw) for each in self._logs.pop(slot).aside.values())
        lives = self._lives[slot.origin.node]
        lives.remove(slot)
        if not lives:
            del self._lives[slot.origin.node]
        self._forget(slot)

    @property
    def _is_joining(self) -> bool:
        return self._joined is None or self._env.mono() - self._joined < self._config.join_grace_s * SECOND

    def _take(self, log: _Log, pending: Pending) -> None:
        frame, peer = pending.frame, pending.peer
        if frame.last <= log.head.seq:
            self._feed(Repeated(peer, log.slot, frame.last))
        elif frame.first <= log.head.seq + 1:
            self._grow(log, frame, peer)
            self._take_aside(log)
        else:
            log.aside[frame.first] = pending
            self._aside_bytes += len(frame.raw)
            while self._aside_bytes > self._config.aside_bytes_max:
                self._drop_aside(log)
            self._feed(Gap(peer, log.slot, frame.first))

    def _drop_aside(self, log: _Log) -> None:
        """Make room: the newest of this log, or of any. Nothing is lost yet: it is pulled again when its turn comes."""
        crowded = log if log.aside else next(each for each in self._logs.values() if each.aside)
        self._aside_bytes -= len(crowded.aside.pop(max(crowded.aside)).frame.raw)

    def _take_aside(self, log: _Log) -> None:
        while log.aside:
            first = min(log.aside)
            if first > log.head.seq + 1:
                return
            pending = log.aside.pop(first)
            self._aside_bytes -= len(pending.frame.raw)
            if pending.frame.last > log.head.seq:
                self._grow(log, pending.frame, pending.peer)

    def _grow(self, log: _Log, frame: SignedFrame, source: NodeId | None) -> None:
        """``frame`` is next: relay it, deliver it."""
        missed = log.head.seq > 0 and log.head.hash == GENESIS
        if frame.first != log.head.seq + 1 or not (missed or frame.previous == log.head.hash):
            self._tell(LogForked(log.slot.origin, "topics", frame.first))
            self._readers.drop("of a forked log", frame.count)
            self._feed(Forked(log.slot.origin))
            return
        log.head = Head(frame.last, frame.digest)
        self._window.add(log.slot, frame.first, frame.last, frame.raw)
        self._feed(Held(log.slot, frame.first, log.head, source, len(frame.raw)))
        self._readers.deliver(frame, is_own=source is None)

    def _on_sealed(self, frame: SignedFrame) -> None:
        self._grow(self._own, frame, None)

    # -- neighbours --------------------------------------------------------------------------------------------------

    def linked(self, peer: NodeId) -> None:
        """The link to ``peer`` came up: tell it how far topics are held here."""
        if self._joined is None:
            self._joined = self._env.mono()
        held = [Have(each.slot.stream, each.slot.origin, *each.head) for each in self._logs.values() if each.head.seq]
        for at in range(0, len(held), ENTRIES_MAX):
            self._send(peer, IHave(held[at : at + ENTRIES_MAX]))

    def on_ihave(self, message: IHave) -> None:
        """A neighbour holds logs this far. Those begun before this node joined are taken up from there."""
        if not self._is_joining:
            return
        for entry in message.entries:
            slot = Slot(entry.stream, Origin(entry.origin))
            if entry.stream == TOPICS and slot not in self._logs:
                log = self._log(slot, before=entry.seq)
                self._feed(Held(slot, 0, log.head, None, 0))

    def on_gone(self, peer: NodeId, message: Gone) -> None:
        """What we asked ``peer`` for is no longer there up to ``message.seq``: what is missing of it is lost to us."""
        slot = Slot(message.stream, Origin(message.origin))
        log = self._logs.get(slot)
        if log is None or log is self._own or not self._is_asked(peer, slot):
            return
        while log.head.seq < message.seq:
            upto = min(message.seq, min(log.aside, default=message.seq + 1) - 1)
            if upto > log.head.seq:
                self._readers.lose(upto - log.head.seq, "lost on the way")
                log.head = Head(upto, GENESIS)
                self._feed(Held(slot, 0, log.head, None, 0))
            before = log.head.seq
            self._take_aside(log)
            if log.head.seq == before and log.aside and min(log.aside) <= before + 1:
                return  # forked: it does not go on
        self._take_aside(log)

    # -- frames out --------------------------------------------------------------------------------------------------

    def holds(self, slot: Slot) -> bool:
        """Whether ``slot`` is a topic log."""
        return slot.stream == TOPICS

    def frame_at(self, slot: Slot, first: int) -> bytes | None:
        """The frame that begins there, if it is still in the window."""
        return self._window.at(slot, first)

    def serve(self, slot: Slot, after: int, bytes_max: int) -> tuple[list[bytes], int]:
        """What to send to one that holds ``slot`` up to ``after``, and how far it then holds it. Nothing: no more."""
        log = self._logs.get(slot)
        if log is None or after >= log.head.seq:
            return [], after
        begin, frames, last = self._window.after(slot, after, bytes_max)
        if not frames:
            begin = last = log.head.seq
        gone = [encode(Gone(slot.stream, slot.origin, begin))] if begin > after else []
        return gone + frames, last
