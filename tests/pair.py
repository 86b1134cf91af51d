"""Cores on a wire of calls: two or more stacks, virtual time, and the faults a network has. No asyncio, no sockets.

A link is in order and loses frames only by ending. A cut is silent: what is sent across is held back, as TCP does,
and comes when the cut heals, unless an end closed meanwhile. A crash closes the links of the process; a frozen process
keeps them. The dialer of the runtime is imitated: one link a pair, back-off, ``Connect`` again starts at once.
"""

from __future__ import annotations

import dataclasses
import hashlib
import heapq
import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from itertools import count
from random import Random

from mesh.messages import (
    Digest,
    Graft,
    Have,
    IHave,
    LinkMessage,
    Probe,
    ProbeAck,
    ProbeFor,
    ProbeVerdict,
    Prune,
    Records,
    Rumour,
    Shuffle,
    Vector,
    Want,
    decode,
    encode,
)
from mesh.protocol import effects as fx
from mesh.protocol.effects import Effect, Event, Head, Slot
from mesh.protocol.facts import Fact
from mesh.protocol.record import decode as decode_record
from mesh.protocol.stack import Stack, StackConfig
from transport.base import MILLISECOND, SECOND
from transport.identity import Identity, Mesh, NodeId, Origin

MESH = Mesh("pair", b"pair-tag", b"pair-mesh-id-16b", None)
DIAL_TIMEOUT_NS = 1 * SECOND
BACKOFF_NS = (200 * MILLISECOND, 5 * SECOND)


class QuickSuite:
    """A stand-in for Ed25519: keyed hashes that anybody could forge, and nobody here does."""

    def keypair(self, seed: bytes) -> tuple[bytes, bytes]:
        public = hashlib.blake2b(seed, digest_size=32).digest()
        return public, public

    def sign(self, secret: bytes, message: bytes) -> bytes:
        return hashlib.blake2b(message, key=secret).digest()

    def verify(self, public: bytes, message: bytes, signature: bytes) -> bool:
        return len(public) == 32 and hashlib.blake2b(message, key=public).digest() == signature


class End:
    """One end of a link."""

    def __init__(self, owner: Box, peer: Box) -> None:
        self.owner, self.peer = owner, peer
        self.open = True
        self.other: End
        self.last_arrival = 0


class Box:
    """One node: a stack, its timers, its links, and the logs it holds."""

    def __init__(self, wire: Wire, name: str, identity: Identity, config: StackConfig) -> None:
        self.wire, self.name, self.config = wire, name, config
        self.identity = identity
        self.id = self.identity.id
        self.address = f"{name}:1"
        self.logs: dict[Slot, list[tuple[int, bytes]]] = {}  # (last sequence, hash) of every frame
        self.lives = 0
        self.boot(1)

    def boot(self, incarnation: int) -> None:
        self.lives += 1
        rng = Random(f"{self.wire.seed}/{self.name}/{self.lives}")
        self.stack = Stack(self.identity, MESH, self.config, rng, name=self.name, incarnation=incarnation)
        self.origin = Origin.of(self.id, self.lives.to_bytes(8, "big"))
        self.alive, self.frozen_at = True, 0
        self.frozen = False
        self.parked: list[tuple[int, Callable[[], None]]] = []
        self.timers: dict[Hashable, int] = {}
        self.links: dict[NodeId, End] = {}
        self.wishes: dict[NodeId, int] = {}  # generation
        self.facts: list[tuple[int, Fact]] = []

    def run(self, event: Event) -> None:
        life = self.lives
        held = event if isinstance(event, fx.Held) else None
        for effect in self.stack.handle(event, self.wire.now):
            if self.lives == life and self.alive:
                self.perform(effect, held)

    def later(self, after_ns: int, act: Callable[[], None]) -> None:
        """Do something of this node's at a later time: not while it is frozen, not in another life."""
        life = self.lives

        def due() -> None:
            if self.lives != life or not self.alive:
                return
            if self.frozen:
                self.parked.append((self.wire.now, act))
            else:
                act()

        self.wire.at(self.wire.now + after_ns, due)

    def perform(self, effect: Effect, held: fx.Held | None) -> None:
        match effect:
            case fx.Send(peer, message):
                self.transmit(peer, message)
            case fx.Push(peers):
                assert held is not None and held.size > 0, "a push belongs to a held frame"
                for peer in peers:
                    if (self.name, self.wire.by_id[peer].name) in self.wire.full:
                        refused = fx.PushRefused(peer, held.slot, held.head)
                        self.later(0, lambda refused=refused: self.run(refused))
                    else:
                        self.send_frame(peer, held.slot, held.first, held.head)
            case fx.Serve(peer, slot, after):
                first = 1
                for last, digest in self.logs.get(slot, []):
                    if last > after:
                        self.send_frame(peer, slot, first, Head(last, digest))
                    first = last + 1
                self.later(0, lambda: self.run(fx.Served(peer, slot, first - 1)))
            case fx.SetTimer(key, after_ns):
                assert after_ns >= 0
                self.timers[key] = generation = next(self.wire.ticket)
                self.later(after_ns, lambda: self.ring(key, generation))
            case fx.CancelTimer(key):
                self.timers.pop(key, None)
            case fx.Connect(member, addresses):
                if not addresses:
                    return
                self.wishes[member] = generation = next(self.wire.ticket)
                self.dial(member, generation, BACKOFF_NS[0])
            case fx.Forget(member):
                self.wishes.pop(member, None)
            case fx.CloseLink(peer, cause):
                if end := self.links.get(peer):
                    self.close(end, cause)
            case fx.Emit(fact):
                self.facts.append((self.wire.now, fact))
                self.wire.say(f"{self.name}    {self.wire.fact_text(fact)}")

    def ring(self, key: Hashable, generation: int) -> None:
        if self.timers.get(key) == generation:
            del self.timers[key]
            self.run(fx.TimerFired(key))

    # -- links -------------------------------------------------------------------------------------------------------

    def dial(self, member: NodeId, generation: int, backoff_ns: int) -> None:
        target = self.wire.by_id[member]
        if self.wishes.get(member) != generation or member in self.links:
            return
        self.wire.dials += 1

        def retry(refused: bool) -> None:
            if self.wishes.get(member) == generation and member not in self.links:
                self.run(fx.DialRefused(member, refused))
                pause = int(backoff_ns * self.wire.rng.uniform(0.5, 1))
                self.later(pause, lambda: self.dial(member, generation, min(2 * backoff_ns, BACKOFF_NS[1])))

        def knock() -> None:
            if self.wire.is_cut(self, target) or target.frozen:
                self.later(DIAL_TIMEOUT_NS, lambda: retry(False))
            elif not target.alive:
                self.later(self.wire.latency(), lambda: retry(True))
            elif member not in self.links:
                self.wire.link(self, target)

        self.later(2 * self.wire.latency(), knock)

    def transmit(self, peer: NodeId, message: LinkMessage) -> None:
        end = self.links.get(peer)
        if end is None:
            return
        self.wire.messages += 1
        self.wire.kinds[type(message)] += 1
        self.wire.say(f"{self.name}>{end.peer.name}  {self.wire.message_text(message)}")
        raw = encode(message)
        self.wire.carry(end, lambda other: self.wire.feed(other, fx.Received(self.id, decode(self.id, raw))))

    def send_frame(self, peer: NodeId, slot: Slot, first: int, head: Head) -> None:
        end = self.links.get(peer)
        if end is None:
            return
        self.wire.frames += 1
        self.wire.say(f"{self.name}>{end.peer.name}  frame {self.wire.slot_text(slot)} {first}..{head.seq}")
        self.wire.carry(end, lambda other: other.owner.take(self.id, slot, first, head))

    def take(self, peer: NodeId, slot: Slot, first: int, head: Head) -> None:
        log = self.logs.setdefault(slot, [])
        last = log[-1][0] if log else 0
        self.run(fx.Heard(peer))
        if head.seq <= last:
            self.run(fx.Repeated(peer, slot, head.seq))
        elif first > last + 1:
            self.run(fx.Gap(peer, slot, first))
        else:
            log.append((head.seq, head.hash))
            self.run(fx.Held(slot, first, head, peer, 100))

    def write(self, count: int = 1, stream: str = "main") -> None:
        """This node writes one frame of ``count`` operations."""
        slot = Slot(stream, self.origin)
        log = self.logs.setdefault(slot, [])
        last, previous = log[-1] if log else (0, b"")
        head = Head(last + count, hashlib.blake2b(previous + self.origin + stream.encode(), digest_size=16).digest())
        log.append((head.seq, head.hash))
        self.run(fx.Held(slot, last + 1, head, None, 100))

    def close(self, end: End, cause: str) -> None:
        """This end closes; the other learns it when the wire lets it."""
        if not end.open:
            return
        end.open = False
        self.links.pop(end.peer.id, None)
        self.wire.carry(end, lambda other: self.wire.end_closed(other, "closed"))
        self.run(fx.LinkClosed(end.peer.id, cause))

    # -- what a test does and asks -----------------------------------------------------------------------------------

    def leave(self) -> None:
        """The application ends it, in good order."""
        self.run(fx.Leave())
        self.alive = False

    def states(self) -> dict[str, str]:
        return {view.name: view.state for view in self.stack.members()}

    def vector(self) -> dict[Slot, tuple[int, bytes]]:
        return {slot: log[-1] for slot, log in self.logs.items() if log}

    def told(self, kind: type[Fact]) -> list[tuple[int, Fact]]:
        return [(when, fact) for when, fact in self.facts if isinstance(fact, kind)]


class Wire:
    """The world of a test: boxes, virtual time, faults."""

    def __init__(
        self, names: Iterable[str], *, seed: int = 0, latency_ms: tuple[float, float] = (0.5, 0.5),
        config: StackConfig | None = None,
    ) -> None:  # fmt: skip
        self.seed = seed
        self.rng = Random(f"wire/{seed}")
        self.now = SECOND
        self.ticket = count(1)
        self.queue: list[tuple[int, int, Callable[[], None]]] = []
        self.latency_ms = latency_ms
        self.places: dict[str, tuple[float, float]] = {}  # on a map in ms: how much further apart two nodes are
        self.cuts: set[frozenset[str]] = set()
        self.full: set[tuple[str, str]] = set()
        self.held_back: list[tuple[End, Callable[[End], None]]] = []
        self.lines: list[str] = []
        self.recording = False
        self.frames = self.dials = self.messages = 0
        self.kinds: Counter[type[LinkMessage]] = Counter()  # of messages sent
        names = list(names)
        keys = [Identity(hashlib.sha256(f"key {at}".encode()).digest(), QuickSuite()) for at in range(len(names))]
        keys.sort(key=lambda identity: identity.id)  # so that a dials before b
        self.boxes = {
            name: Box(self, name, key, config or StackConfig()) for name, key in zip(names, keys, strict=True)
        }
        self.by_id = {box.id: box for box in self.boxes.values()}
        for box in self.boxes.values():
            box.run(fx.Started((box.address,)))

    def __getitem__(self, name: str) -> Box:
        return self.boxes[name]

    def __iter__(self) -> Iterable[Box]:
        return iter(self.boxes.values())

    # -- time --------------------------------------------------------------------------------------------------------

    def at(self, when: int, act: Callable[[], None]) -> None:
        heapq.heappush(self.queue, (when, next(self.ticket), act))

    def run_for(self, seconds: float) -> None:
        until = self.now + int(seconds * SECOND)
        while self.queue and self.queue[0][0] <= until:
            self.now, _, act = heapq.heappop(self.queue)
            act()
        self.now = until

    def run_until(self, is_so: Callable[[], bool], within_s: float) -> float:
        """Run until it is so; how many seconds that took. Fails past ``within_s``."""
        start, until = self.now, self.now + int(within_s * SECOND)
        while not is_so():
            assert self.queue and self.queue[0][0] <= until, f"not so within {within_s} s"
            self.now, _, act = heapq.heappop(self.queue)
            act()
        return (self.now - start) / SECOND

    def latency(self) -> int:
        return int(self.rng.uniform(*self.latency_ms) * MILLISECOND)

    # -- links -------------------------------------------------------------------------------------------------------

    def distance_ns(self, one: Box, other: Box) -> int:
        """What the map adds to the latency between two."""
        here, there = self.places.get(one.name), self.places.get(other.name)
        return 0 if here is None or there is None else int(math.dist(here, there) * MILLISECOND)

    def is_cut(self, one: Box, other: Box) -> bool:
        return frozenset((one.name, other.name)) in self.cuts

    def carry(self, end: End, deliver: Callable[[End], None]) -> None:
        """Bring something to the other end, in order."""
        if self.is_cut(end.owner, end.peer):
            self.held_back.append((end, deliver))
            return
        delay = self.latency() + self.distance_ns(end.owner, end.peer)
        end.last_arrival = max(end.last_arrival, self.now + delay)

        def arrive() -> None:
            if self.is_cut(end.owner, end.peer):
                self.held_back.append((end, deliver))
            elif end.other.open:
                deliver(end.other)

        other = end.other.owner
        other.later(end.last_arrival - self.now, arrive)

    def feed(self, end: End, event: Event) -> None:
        end.owner.run(event)

    def end_closed(self, end: End, cause: str) -> None:
        if end.open:
            end.open = False
            end.owner.links.pop(end.peer.id, None)
            end.owner.run(fx.LinkClosed(end.peer.id, cause))

    def link(self, one: Box, other: Box) -> None:
        """A link comes up between two; an older one, half open perhaps, is replaced."""
        for box, peer in ((one, other), (other, one)):
            if old := box.links.get(peer.id):
                old.open = False
                del box.links[peer.id]
                box.run(fx.LinkClosed(peer.id, "replaced"))
        near, far = End(one, other), End(other, one)
        near.other, far.other = far, near
        one.links[other.id], other.links[one.id] = near, far
        self.say(f"{one.name}={other.name}  linked")
        rtt = int(sum(self.latency_ms) * MILLISECOND) + 2 * self.distance_ns(one, other)
        for box, peer in ((one, other), (other, one)):
            box.run(fx.LinkUp(peer.id, rtt))

    def meet_all(self, within_s: float = 5.0) -> float:
        """Everybody hears of the first one, as from discovery; until all are linked to all."""
        first, *others = self.boxes.values()
        for box in others:
            self.link(box, first)
        return self.run_until(self.is_complete, within_s)

    def is_complete(self) -> bool:
        """All that live are linked to all, and all see exactly those as alive."""
        live = [box for box in self.boxes.values() if box.alive and not box.frozen]
        names = {box.name for box in live}
        return all(
            {name for name, state in box.states().items() if state == "alive"} == names
            and len([peer for peer in box.links if self.by_id[peer].name in names]) == len(live) - 1
            for box in live
        )

    def agree(self) -> bool:
        """All that live hold the same logs."""
        vectors = [box.vector() for box in self.boxes.values() if box.alive]
        return all(vector == vectors[0] for vector in vectors)

    # -- faults ------------------------------------------------------------------------------------------------------

    def crash(self, name: str) -> None:
        """``kill -9``: the kernel closes its connections; its logs stay, as on a disk."""
        box = self.boxes[name]
        box.alive = False
        for end in list(box.links.values()):
            end.open = False
            self.carry(end, lambda other: self.end_closed(other, "closed"))
        box.links = {}

    def restart(self, name: str, incarnation: int = 1) -> None:
        box = self.boxes[name]
        box.boot(incarnation)
        for slot, log in box.logs.items():
            if log:
                box.run(fx.Held(slot, 0, Head(*log[-1]), None, 0))
        box.run(fx.Started((box.address,)))
        for other in self.boxes.values():
            if other is not box:  # discovery: the peers that were known last time
                box.perform(fx.Connect(other.id, (other.address,)), None)

    def freeze(self, name: str) -> None:
        box = self.boxes[name]
        box.frozen, box.frozen_at = True, self.now

    def thaw(self, name: str) -> None:
        box = self.boxes[name]
        box.frozen = False
        parked, box.parked = box.parked, []
        box.run(fx.LoopLate(self.now - box.frozen_at))
        for _, act in parked:
            box.later(0, act)

    def cut(self, left: Iterable[str], right: Iterable[str]) -> None:
        right = list(right)
        self.cuts |= {frozenset((one, other)) for one in left for other in right}

    def heal(self) -> None:
        self.cuts = set()
        held_back, self.held_back = self.held_back, []
        for end, deliver in held_back:
            self.carry(end, deliver)

    # -- transcripts -------------------------------------------------------------------------------------------------

    def say(self, text: str) -> None:
        if self.recording:
            self.lines.append(f"{(self.now - SECOND) / MILLISECOND:9.1f}  {text}")

    def name_of(self, raw: bytes) -> str:
        box = self.by_id.get(NodeId(raw[:32]))
        return box.name if box else "?"

    def slot_text(self, slot: Slot) -> str:
        return f"{slot.stream}/{self.name_of(slot.origin)}"

    def fact_text(self, fact: Fact) -> str:
        parts = []
        for key in (each.name for each in dataclasses.fields(fact)):
            value = getattr(fact, key)
            if isinstance(value, NodeId):
                value = self.name_of(value)
            elif isinstance(value, tuple):
                value = ",".join(self.name_of(each) for each in value)
            if key != "member_name":
                parts.append(f"{key}={value}")
        return " ".join([f"[{fact.name}]", *parts])

    def message_text(self, message: LinkMessage) -> str:
        def entries(haves: list[Have]) -> str:
            return " ".join(f"{have.stream}/{self.name_of(have.origin)}:{have.seq}" for have in haves) or "nothing"

        match message:
            case Records(records):
                read = [decode_record(NodeId(bytes(32)), raw) for raw in records]
                words = [f"{each.name}{' left' if each.left else ''}@{each.incarnation}" for each in read]
                return f"records {' '.join(words)}"
            case Rumour(member, incarnation, down, accuser, cause):
                state = "down" if down else "suspect"
                return f"rumour {self.name_of(member)}@{incarnation} {state} ({cause}) says {self.name_of(accuser)}"
            case Probe(number):
                return f"probe {number}"
            case ProbeAck(number):
                return f"ack {number}"
            case ProbeFor(number, target):
                return f"probe {self.name_of(target)} for me {number}"
            case ProbeVerdict(number, target, verdict):
                return f"{self.name_of(target)} is {verdict} {number}"
            case Digest():
                return "digest"
            case Vector(haves, whole):
                return f"vector {'whole' if whole else 'part'}: {entries(haves)}"
            case IHave(haves):
                return f"ihave {entries(haves)}"
            case Want(stream, origin, after) | Graft(stream, origin, after):
                return f"{type(message).__name__.lower()} {stream}/{self.name_of(origin)} after {after}"
            case Prune(origin):
                return f"prune {self.name_of(origin)}"
            case Shuffle(contacts):
                return f"shuffle {len(contacts)}"
            case _:
                return type(message).__name__.lower()
