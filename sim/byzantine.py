"""A member that lies. It has the secret and a key of its own, and runs the real node; only what leaves it is wrong.

Each manner is a fault with a count: what it does to one of its messages counts once. Honest nodes must go on: nothing
forged is ever shown, who forges loses its links, and all that an honest node holds reaches every honest node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal

from crdt import Document
from crdt.hlc import HLC_MAX
from sim.faults import Fault
from transport.base import MILLISECOND, SECOND, Lane
from transport.frame import parse, seal
from transport.identity import LOG_BYTES, SIGNATURE_BYTES, Origin

if TYPE_CHECKING:
    from sim.node import SimNode
    from sim.world import World

Manner = Literal["forge", "mutate", "equivocate", "replay", "withhold", "flood", "insult", "future"]
ONE_IN = 3  # of relayed frames it mutates
REPLAYED_MAX = 2000  # frames it remembers; the oldest are forgotten first
REPLAY_EVERY_NS = 50 * MILLISECOND
FLOOD_EVERY_NS = 20 * MILLISECOND
FLOOD_FRAMES = 4  # at a time, each the beginning of a log nobody has heard of
FORGE_EVERY_NS = SECOND
STAMPS_LEFT = 1 << 16  # writes it has until its own clock is at its end


def corrupt(world: World, node: SimNode, manner: Manner) -> Fault:
    """Let ``node`` lie from now on, in this life: ``remove`` makes it honest again.

    "forge": frames in others' names. "mutate": changed bytes in frames it relays. "equivocate": two histories of its
    own log, each told to half of its peers. "replay": frames sent before, again and again. "withhold": it claims what
    others wrote and never serves it. "flood": genuine frames of ever new logs. "insult": the first thing it says on
    every new link is none. "future": the stamps of what it writes are near the end of time.
    """
    fault = world.fault("byzantine", f"{node.name} {manner}")
    if fault.muted:
        return fault
    undo = _MANNERS[manner](world, node, fault)

    def end() -> None:
        undo()
        world.note(f"honest {manner}", node.name)

    fault.undo_with(end)
    world.note(f"byzantine {manner}", node.name)
    return fault


def every(world: World, node: SimNode, wait: int, act: Callable[[], None]) -> Callable[[], None]:
    """Call ``act`` as part of the node's process until the returned function is called."""
    process, running = node.process, [True]
    assert process is not None

    def turn() -> None:
        if running[0]:
            act()
            process.at(world.loop.now + wait, turn)

    process.at(world.loop.now + wait, turn)
    return lambda: running.__setitem__(0, False)


def links_of(node: SimNode) -> list[Any]:
    return list(node.node._runtime.dialer.links.values())


def swap(owner: Any, name: str, twin: Any, had: Any = None) -> Callable[[], None]:
    """Put ``twin`` in the place of a method of this one object, or of what it ``had`` there."""
    setattr(owner, name, twin)
    return lambda: delattr(owner, name) if had is None else setattr(owner, name, had)


def flipped(raw: bytes, at: int) -> bytes:
    """``raw`` with one bit of byte ``at`` the other way: a 1 becomes a 9."""
    return raw[:at] + bytes((raw[at] ^ 8,)) + raw[at + 1 :]


def _mutate(world: World, node: SimNode, fault: Fault) -> Callable[[], None]:
    spaces, rng = node.node._runtime.spaces, world.seed.stream(f"byzantine/{node.name}")
    frame_at, frames_after = spaces.frame_at, spaces.frames_after

    def spoil(raw: bytes | None) -> bytes | None:
        if raw is None or parse(raw).origin.node == node.node.id or rng.randrange(ONE_IN):
            return raw
        fault.fire()
        return flipped(raw, len(raw) - SIGNATURE_BYTES - 1)  # the last byte of what was written

    def all_after(slot: Any, after: int, bytes_max: int) -> list[bytes | None] | None:
        frames: list[bytes] | None = frames_after(slot, after, bytes_max)
        return None if frames is None else [spoil(raw) for raw in frames]

    one = swap(spaces, "frame_at", lambda slot, first: spoil(frame_at(slot, first)))
    other = swap(spaces, "frames_after", all_after)
    return lambda: (one(), other())[0]


def _withhold(world: World, node: SimNode, fault: Fault) -> Callable[[], None]:
    spaces = node.node._runtime.spaces
    frames_after = spaces.frames_after

    def none_after(slot: Any, after: int, bytes_max: int) -> list[bytes] | None:
        if slot.origin.node == node.node.id:
            return frames_after(slot, after, bytes_max)  # type: ignore[no-any-return]
        fault.fire()
        return []

    def no_push(slot: Any, first: int) -> bytes | None:
        if slot.origin.node == node.node.id:
            return kept(slot, first)  # type: ignore[no-any-return]
        fault.fire()
        return None

    kept = spaces.frame_at
    one, other = swap(spaces, "frames_after", none_after), swap(spaces, "frame_at", no_push)
    return lambda: (one(), other())[0]


def _equivocate(world: World, node: SimNode, fault: Fault) -> Callable[[], None]:
    """The other history is written by a second document of the same name, and told to every second peer."""
    runtime = node.node._runtime
    spaces, identity, mesh = runtime.spaces, runtime.identity, runtime.mesh
    replica = spaces._replica("main")
    log = replica.writer.own
    double = Document(replica.doc.actor, lambda: world.loop.now // MILLISECOND, keep_history=False)
    double.join(replica.doc.snapshot(), events=False)
    heads: dict[Origin, bytes] = {log.slot.origin: log.head.hash}
    twins: dict[int, bytes] = {}
    made: list[Any] = []
    double.on_change = made.append

    def twin(raw: bytes) -> bytes:
        frame = parse(raw)
        if frame.first not in twins:
            made.clear()
            for number in range(frame.count):
                double.register("forked").set(f"lie {frame.first + number}")
            other = seal(
                identity, mesh, stream=frame.stream, log=frame.origin.log, first=frame.first, count=frame.count,
                hlc=made[0].hlc, previous=heads[frame.origin], items=[each.item() for each in made],
            )  # fmt: skip
            heads[frame.origin] = other.digest
            twins[frame.first] = other.raw
        fault.fire()
        return twins[frame.first]

    links = runtime.dialer.links
    push = runtime._push

    def two_faced(held: Any, peers: Iterable[Any]) -> None:
        if held.slot.origin != log.slot.origin:
            push(held, tuple(peers))
            return
        raw = spaces.frame_at(held.slot, held.first)
        deceived = sorted(links)[::2]
        for peer in peers:
            if raw is not None and peer in links:
                links[peer].try_send(Lane.BROADCAST, twin(raw) if peer in deceived else raw)

    return swap(runtime, "_push", two_faced)


def _replay(world: World, node: SimNode, fault: Fault) -> Callable[[], None]:
    runtime, rng = node.node._runtime, world.seed.stream(f"byzantine/{node.name}")
    heard: dict[bytes, None] = {}
    receive = runtime.spaces.receive

    def listen(peer: Any, raw: bytes, done: Callable[[], None]) -> None:
        heard[raw] = None
        if len(heard) > REPLAYED_MAX:
            del heard[next(iter(heard))]
        receive(peer, raw, done)

    def again() -> None:
        known = list(heard)
        for link in links_of(node):
            for _ in range(min(5, len(known))):
                link.try_send(Lane.BROADCAST, rng.choice(known))
                fault.fire()

    unhook, stop = swap(runtime.spaces, "receive", listen), every(world, node, REPLAY_EVERY_NS, again)
    return lambda: (unhook(), stop())[0]


def _forge(world: World, node: SimNode, fault: Fault) -> Callable[[], None]:
    """A frame that would follow another's log, signed with the wrong key."""
    runtime = node.node._runtime

    def act() -> None:
        replica = runtime.spaces._replica("main")
        others = [log for log in replica.logs.values() if log.slot.origin.node != node.node.id and log.head.seq]
        if not others:
            return
        victim = others[world.seed.stream(f"byzantine/{node.name}").randrange(len(others))]
        lie = Document(victim.actor, keep_history=False)
        made: list[Any] = []
        lie.on_change = made.append
        lie.counter("n").increment(1_000_000)
        own = seal(
            runtime.identity, runtime.mesh, stream="main", log=victim.slot.origin.log, first=victim.head.seq + 1,
            count=1, hlc=made[0].hlc, previous=victim.head.hash, items=[made[0].item()],
        )  # fmt: skip
        at = own.raw.index(bytes(node.node.id))
        forged = own.raw[:at] + bytes(victim.slot.origin.node) + own.raw[at + len(node.node.id) :]
        for link in links_of(node):
            link.try_send(Lane.BROADCAST, forged)
            fault.fire()

    return every(world, node, FORGE_EVERY_NS, act)


def _flood(world: World, node: SimNode, fault: Fault) -> Callable[[], None]:
    runtime, rng = node.node._runtime, world.seed.stream(f"byzantine/{node.name}")

    def act() -> None:
        for link in links_of(node):
            for _ in range(FLOOD_FRAMES):
                log = rng.randbytes(LOG_BYTES)
                writer = Document(str(Origin.of(node.node.id, log)), keep_history=False)
                made: list[Any] = []
                writer.on_change = made.append
                writer.register("flood").set(rng.randrange(1 << 30))
                frame = seal(
                    runtime.identity, runtime.mesh, stream="flood", log=log, first=1, count=1, hlc=made[0].hlc,
                    previous=bytes(16), items=[made[0].item()],
                )  # fmt: skip
                fault.fire()
                if not link.try_send(Lane.BROADCAST, frame.raw):
                    break

    return every(world, node, FLOOD_EVERY_NS, act)


def _insult(world: World, node: SimNode, fault: Fault) -> Callable[[], None]:
    runtime = node.node._runtime
    greet = runtime.dialer._on_link

    def rude(link: Any) -> None:
        greet(link)
        fault.fire()
        link.try_send(Lane.CONTROL, b"\xc1")

    for link in links_of(node):
        link.close("closed")
    return swap(runtime.dialer, "_on_link", rude, had=greet)


def _future(world: World, node: SimNode, fault: Fault) -> Callable[[], None]:
    doc = node.node._runtime.spaces._replica("main").doc
    doc.hlc.now = HLC_MAX - STAMPS_LEFT
    committed = doc.on_change

    def stamped(change: Any) -> None:
        fault.fire()
        committed(change)

    doc.on_change = stamped
    return lambda: setattr(doc, "on_change", committed)


_MANNERS: dict[str, Callable[[Any, Any, Fault], Callable[[], None]]] = {
    "forge": _forge,
    "mutate": _mutate,
    "equivocate": _equivocate,
    "replay": _replay,
    "withhold": _withhold,
    "flood": _flood,
    "insult": _insult,
    "future": _future,
}
