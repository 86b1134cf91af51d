"""The shell around the cores: feeds them what happens, performs what they ask. No decision is made here.

links ──frames──▶ runtime ──events──▶ stack (membership, overlay, broadcast, repair)
  ▲                  │  ◀──effects──────┘
  └──frames──────────┤
                     └──frames──▶ spaces (verify, journal, apply) ──Held, Gap …──▶ stack
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Hashable
from functools import partial
from typing import assert_never

from mesh.config import NodeConfig
from mesh.messages import (
    Abandon,
    ConfirmAsk,
    Digest,
    Durable,
    DurableAsk,
    Evidence,
    Gone,
    IHave,
    KindUnknown,
    LinkMessage,
    Post,
    Probe,
    ProbeAck,
    Receipt,
    Relayed,
    Reply,
    Request,
    Send,
    SnapshotPart,
    SnapshotPull,
    StreamEnd,
    StreamGrant,
    StreamItem,
    StreamOpen,
    StreamStop,
    UnknownKind,
    Vector,
    decode,
    encode,
)
from mesh.messaging.cause import Causes
from mesh.messaging.direct import Direct
from mesh.messaging.feed import Feeds
from mesh.messaging.handler import Handler
from mesh.messaging.handlers import Handlers
from mesh.messaging.inbox import Inbox
from mesh.messaging.loopback import Loopback
from mesh.messaging.outbox import Outbox
from mesh.messaging.reach import Reach
from mesh.messaging.relay import Relay
from mesh.messaging.stream import Streams
from mesh.messaging.topic import Topics
from mesh.protocol import effects as do
from mesh.protocol.antientropy import SWEEP
from mesh.protocol.facts import (
    Fact,
    PeerMisbehaved,
    PeerRefused,
)
from mesh.protocol.stack import Stack
from mesh.serving import Serving
from mesh.state.spaces import Spaces
from transport.address import for_others
from transport.base import MILLISECOND, SECOND, Env, Hint, Lane, Link, Storage, Timer
from transport.dialer import Dialer
from transport.errors import PeerFault
from transport.frame import KIND_TOPIC, is_signed_frame, kind_of
from transport.identity import Identity, Mesh, NodeId
from transport.link import EstablishedLink, Refusal

log = logging.getLogger("gossamer")
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

HEARD_NS = 100 * MILLISECOND  # once in so long is enough to know that a peer lives
LATE_NS = 50 * MILLISECOND  # below this, lateness says nothing
DRAIN_LOOK_S = 0.005  # how often a node that stops looks whether its lanes are empty


class Runtime:
    """One node's cores, links and timers. ``Node`` is the face; this is what runs behind it."""

    def __init__(
        self,
        env: Env,
        identity: Identity,
        mesh: Mesh,
        storage: Storage,
        config: NodeConfig,
        *,
        name: str,
        incarnation: int,
        durable: bool,
        tell: Callable[[Fact], None],
        dropped: Counter[str],
        handlers: dict[str, Handler],
    ) -> None:
        self.env, self.identity, self.mesh = env, identity, mesh
        self._tell_node, self._dropped = tell, dropped
        self._timers: dict[Hashable, Timer] = {}
        self._heard: dict[NodeId, int] = {}  # linked peers: when the stack was last told that something came
        self._late_until = 0  # up to here this loop's lateness was told
        self.compared = asyncio.Event()  # a peer has said what it holds, so also how much of our own log
        self._closed = False
        self._queue: deque[do.Event] = deque()
        self._busy = False
        self._members_version = 0
        self.stack = Stack(
            identity, mesh, config.stack, env.rng("stack"), name=name, incarnation=incarnation, durable=durable
        )
        self.dialer = Dialer(
            env, identity, mesh, config=config.dialer,
            on_link=self._on_link, on_lost=self._on_lost, on_refused=self._on_refused, on_unreached=self._on_unreached,
        )  # fmt: skip
        self.spaces = Spaces(
            env, identity, mesh, storage, config=config.state, tell=self.tell, feed=self.feed, send=self._send,
            reach=self._report, on_fault=self._on_fault,
        )  # fmt: skip
        self.causes = Causes(env.rng("causes"))
        self.loopback = Loopback(
            env, deliver=partial(self._deliver, identity.id), writable=partial(self._on_room, identity.id, Lane.DIRECT)
        )
        self.reach = Reach(env, is_linked=self._is_near, dial=self._dial)
        self.direct = Direct(send=self._send_anyhow, reach=self.reach, is_near=self._is_near)
        self.handlers = Handlers(
            env, handlers, handler_s=config.messaging.handler_s, queue=self.direct.queue, dropped=dropped
        )
        self.relay = Relay(
            env, identity, mesh, links=self.dialer.links, is_member=self.stack.is_present, deliver=self._deliver,
            dropped=dropped,
        )  # fmt: skip
        self.outbox = Outbox(
            env, storage, self.spaces.journal, config.messaging,
            send=self._send_anyhow, is_present=self.stack.is_present, reach=self.reach, tell=self.tell,
            dropped=dropped,
        )  # fmt: skip
        self.inbox = Inbox(
            env, storage, take=self.handlers.take, commit=self.spaces.commit, send=self._send_anyhow
        )  # fmt: skip
        self.streams = Streams(
            env, ask=self.direct.ask, send=self._send_anyhow, is_near=self._is_near, on_fault=self._on_fault
        )
        self.feeds = Feeds(
            env, handlers, queue=self.direct.queue, send=self._send_anyhow, is_near=self._is_near,
            on_fault=self._on_fault, dropped=dropped,
        )  # fmt: skip
        self.topics = Topics(
            env, identity, mesh, config.messaging, config.state, feed=self.feed, tell=self.tell,
            on_fault=self._on_fault, send=self._send, outlets=self.dialer.links.values, is_asked=self._is_asked,
            forget=self.stack.forget, on_broadcast=self.handlers.on_send_of, dropped=dropped,
        )  # fmt: skip
        self.serving = Serving(
            env, links=self.dialer.links, spaces=self.spaces, topics=self.topics, feed=self.feed
        )  # fmt: skip
        self._drain_ns = int(config.messaging.drain_s * SECOND)

    async def open(self) -> None:
        """Load what the disk holds; the stack learns it before anything else."""
        self.outbox.load()
        self.inbox.load()
        await self.spaces.open()
        self.outbox.linked(self.identity.id)

    def start(self, addresses: tuple[str, ...]) -> None:
        """The node listens at ``addresses``; from now on it may be found. Called again when they change."""
        self.feed(do.Started(for_others(addresses)))

    async def close(self, *, leave: bool = True) -> None:
        """Tell the others, make everything durable, end the links. Safe to call twice."""
        if self._closed:
            return
        self.topics.finish()
        self.inbox.close()
        self.outbox.close()
        await self.spaces.close()
        await self._drain()
        self.topics.close()
        if leave:
            self.feed(do.Leave())
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self.direct.close()
        self.reach.close()
        self.handlers.close()
        self.streams.close()
        self.serving.close()
        self.feeds.close()
        self.dialer.close()

    async def _drain(self) -> None:
        """Let the lanes take what was queued for them, for a moment: a program that publishes and ends is heard."""
        until = self.env.mono() + self._drain_ns
        lanes = (Lane.DIRECT, Lane.BROADCAST, Lane.SYNC)  # what was refused there goes out here
        while self.env.mono() < until and (
            self.stack.tree.is_behind or any(link.queued(lane) for link in self.dialer.links.values() for lane in lanes)
        ):
            await self.env.sleep(DRAIN_LOOK_S)

    # -- events in, effects out ------------------------------------------------------------------------------------

    def feed(self, event: do.Event) -> None:
        """Give the stack one event and perform what it asks; events that follow from that wait their turn."""
        if self._closed:
            return
        if event.__class__ is do.Held and event.source is not None:
            self.relay.heard(event.slot.origin.node, event.source)
        if self._busy:
            self._queue.append(event)
            return
        self._busy = True
        try:
            stack, queue = self.stack, self._queue
            while True:
                effects = stack.handle(event, self.env.mono())
                if self._members_version != stack.members_version:
                    self._members_changed()
                for effect in effects:
                    self._perform(effect, event)
                if not queue:
                    break
                event = queue.popleft()
        finally:
            self._busy = False

    def _perform(self, effect: do.Effect, cause: do.Event) -> None:
        match effect:
            case do.SetTimer(key, after_ns):
                self._set_timer(key, after_ns)
            case do.Send(peer, message, lane):
                self._send(peer, message, lane)
            case do.Push(peers):
                assert isinstance(cause, do.Held)
                self._push(cause, peers)
            case do.Serve(peer, slot, after):
                self.serving.serve(peer, slot, after)
            case do.CancelTimer(key):
                if timer := self._timers.pop(key, None):
                    timer.cancel()
            case do.Connect(member, addresses):
                self.dialer.connect(member, addresses)
            case do.Forget(member):
                self.dialer.forget(member)
            case do.CloseLink(peer, why):
                if link := self.dialer.links.get(peer):
                    link.close(why)
            case do.Emit(fact):
                self.tell(fact)
            case _:
                assert_never(effect)

    def _set_timer(self, key: Hashable, after_ns: int) -> None:
        if old := self._timers.pop(key, None):
            old.cancel()
        due = self.env.mono() + after_ns
        self._timers[key] = self.env.call_at(due, partial(self._ring, key, due))

    def _ring(self, key: Hashable, due: int) -> None:
        """Whoever is late himself must not call others silent (Lifeguard): the stack is told so before the first of
        the timers that were late together."""
        self._timers.pop(key, None)
        now = self.env.mono()
        if now - due > LATE_NS and due >= self._late_until:
            self._late_until = now
            self.feed(do.LoopLate(now - due))
        if key == SWEEP:
            for peer in self.spaces.arriving():
                self.feed(do.Arriving(peer))
        self.feed(do.TimerFired(key))

    def tell(self, fact: Fact) -> None:
        """Log a fact, and pass it to the node's observers."""
        level = _LEVELS[fact.level]
        if log.isEnabledFor(level):
            log.log(level, "%s %s", fact.name, " ".join(f"{key}={value}" for key, value in fact.fields().items()))
        self._tell_node(fact)

    def _members_changed(self) -> None:
        """Also for changes that are no fact: a member first heard of when it was down already still counts."""
        self._members_version = self.stack.members_version
        self.spaces.members([(each.id, each.state, each.durable, each.since) for each in self.stack.members()])

    # -- links -----------------------------------------------------------------------------------------------------

    def hint(self, hint: Hint) -> None:
        """A source of discovery saw somebody."""
        if not self._closed:
            self.dialer.hint(hint)

    def _on_link(self, link: Link) -> None:
        peer = link.peer
        link.on_frame = partial(self._on_frame, link)
        link.on_writable = partial(self._on_writable, peer)
        self._heard[peer] = self.env.mono()
        self.feed(do.LinkUp(peer, link.rtt_ns))
        self.spaces.linked(peer, True)
        self.topics.linked(peer)
        self.inbox.linked(peer)
        self.outbox.linked(peer)
        self.reach.settled(peer)

    def _on_lost(self, link: EstablishedLink, cause: str) -> None:
        if link.fault is not None:
            self.tell(PeerMisbehaved(link.peer, link.fault.rule))
        self.serving.lost(link.peer)
        self._heard.pop(link.peer, None)
        self.spaces.linked(link.peer, False)
        if self.stack.overlay.cause(link.peer, cause) != "evicted":  # that peer is well, and so is the way over others
            self.direct.lost(link.peer)
            self.handlers.lost(link.peer)
        self.direct.moved(link.peer)
        self.streams.lost(link.peer)
        self.feeds.lost(link.peer)
        self.outbox.lost(link.peer)
        self.feed(do.LinkClosed(link.peer, cause))

    def _on_refused(self, refusal: Refusal) -> None:
        self.tell(PeerRefused(refusal.address, refusal.reason, refusal.peer))

    def _on_unreached(self, member: NodeId, refused: bool) -> None:
        self.feed(do.DialRefused(member, refused))

    def _on_fault(self, peer: NodeId, rule: str) -> None:
        self.tell(PeerMisbehaved(peer, rule))
        if link := self.dialer.links.get(peer):
            link.close("banned")

    def _send(self, peer: NodeId, message: LinkMessage, lane: Lane = Lane.CONTROL) -> bool:
        link = self.dialer.links.get(peer)
        return link is not None and link.try_send(lane, encode(message))

    def _on_frame(self, link: Link, lane: Lane, raw: bytes) -> None:
        peer = link.peer
        if is_signed_frame(raw):
            self._lives(peer)
            room = self.topics if kind_of(raw) == KIND_TOPIC else self.spaces
            room.receive(peer, raw, partial(link.consumed, lane, len(raw)))
            return
        try:
            message = decode(peer, raw)
        except PeerFault as fault:
            self._on_fault(peer, fault.rule)
            return
        except KindUnknown as unknown:  # of a newer version: it is told, and the link goes on
            self._dropped["a kind of message this version does not know"] += 1
            self._send(peer, UnknownKind(unknown.kind))
            link.consumed(lane, len(raw))
            return
        match message:
            case Probe() | ProbeAck():  # most of what comes when nobody writes
                self._receive(peer, message)
            case UnknownKind():
                self._dropped["a kind of message a peer does not know"] += 1
            case Relayed():
                self.relay.on_message(peer, message, raw)
            case SnapshotPart() | Durable() | ConfirmAsk() | DurableAsk() | Evidence():
                self.spaces.on_message(peer, message)
            case SnapshotPull():
                self.serving.pull(peer, message)
            case Gone():
                self.topics.on_gone(peer, message)
            case IHave():
                self.topics.on_ihave(message)
                self._receive(peer, message)
            case Vector(entries):
                self.spaces.peer_holds(peer, entries)  # a peer that knows more of our own log than we do
                self.compared.set()
                self._receive(peer, message)
            case Digest(digest):
                if digest == self.stack.logs.digest():
                    self.compared.set()
                self._receive(peer, message)
            case _:
                if not self._deliver(peer, message):
                    self._receive(peer, message)
        self._lives(peer)
        link.consumed(lane, len(raw))

    def _lives(self, peer: NodeId) -> None:
        """Something came from ``peer``: tell the stack, unless it saw that itself or was told just now."""
        now, told = self.env.mono(), self._heard.get(peer)
        if told is not None and now - told >= HEARD_NS:
            self._heard[peer] = now
            self.feed(do.Heard(peer))

    def _receive(self, peer: NodeId, message: LinkMessage) -> None:
        """``message`` is the stack's."""
        self._heard[peer] = self.env.mono()
        self.feed(do.Received(peer, message))

    # -- frames out ------------------------------------------------------------------------------------------------

    def _deliver(self, sender: NodeId, message: LinkMessage) -> bool:
        """A message of an application, by whatever way it came. Whether it was one."""
        match message:
            case Send() | Request() | Abandon():
                self.handlers.on_message(sender, message)
            case Reply():
                self.direct.on_reply(sender, message)
            case Post():
                self.inbox.on_post(sender, message)
            case Receipt():
                self.outbox.on_receipt(sender, message)
            case StreamItem() | StreamEnd():
                self.streams.on_message(sender, message)
            case StreamOpen() | StreamGrant() | StreamStop():
                self.feeds.on_message(sender, message)
            case Durable() | ConfirmAsk() | DurableAsk():
                self.spaces.on_message(sender, message)
            case _:
                return False
        return True

    def _send_anyhow(
        self, peer: NodeId, message: LinkMessage, lane: Lane = Lane.DIRECT, urgent: bool = False
    ) -> bool:  # fmt: skip
        """Over the link to ``peer``, else sealed over others; to this node itself at once."""
        if (link := self.dialer.links.get(peer)) is not None:
            return link.try_send(lane, encode(message), urgent)
        if peer == self.identity.id:
            return self.loopback.try_send(message)
        return self.relay.send(peer, message)

    def knows(self, peer: NodeId) -> bool:
        """Whether ``peer`` is this node, linked to it, or a member it heard of, whatever its state."""
        return self._is_near(peer) or self.stack.swim.table.get(peer) is not None

    def _is_near(self, peer: NodeId) -> bool:
        return peer in self.dialer.links or peer == self.identity.id

    def _dial(self, peer: NodeId) -> bool:
        """Whether a link to ``peer`` is dialled now."""
        if not self.stack.overlay.may_dial(peer):
            return False
        self.feed(do.Wanted(peer))
        return True

    def _report(self, peer: NodeId, message: LinkMessage) -> bool:
        """What members tell each other about their disks: small, so it goes as control where there is a link."""
        return self._send_anyhow(peer, message, Lane.CONTROL)

    def _is_asked(self, peer: NodeId, slot: do.Slot) -> bool:
        ask = self.stack.logs.asked.get(slot)
        return ask is not None and ask.peer == peer

    def _push(self, held: do.Held, peers: tuple[NodeId, ...]) -> None:
        room = self.topics if self.topics.holds(held.slot) else self.spaces
        raw = room.frame_at(held.slot, held.first)
        for peer in peers:
            link = self.dialer.links.get(peer)
            if link is not None and (raw is None or not link.try_send(Lane.BROADCAST, raw)):
                self.feed(do.PushRefused(peer, held.slot, held.head))

    def _on_writable(self, peer: NodeId, lane: Lane) -> None:
        if lane is Lane.SYNC:
            self.serving.go(peer)
        self._on_room(peer, lane)

    def _on_room(self, peer: NodeId, lane: Lane) -> None:
        if lane is Lane.DIRECT:
            self.outbox.writable(peer)
        self.direct.writable(peer, lane)
