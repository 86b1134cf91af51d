"""By which way a message goes: to oneself, over a link made for it, over others; and what relays do not do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from mesh.config import NodeConfig
from mesh.errors import AnswerLost, HandlerFailed, NoHandler
from mesh.messages import Disconnect, Relayed, Send, decode, encode, with_hops
from mesh.messages import Request as Ask
from mesh.messaging import stream
from mesh.messaging.loopback import BYTES_MAX, Loopback
from mesh.protocol import effects as do
from mesh.protocol.hyparview import HyParViewConfig
from mesh.protocol.stack import StackConfig
from sim.world import SimNode, World
from tests.fake_env import FakeEnv
from tests.mesh.messaging.conftest import Start
from transport.base import Lane
from transport.identity import NodeId


async def rest(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]


# -- to oneself --------------------------------------------------------------------------------------------------------


def test_a_node_talks_to_itself_as_to_others(world: World, start: Start) -> None:
    (a,) = start(1)
    got: list[Any] = []

    @a.node.on_message
    async def take(message: Any) -> None:
        got.append((message.body, message.sender))

    @a.node.on("double")
    async def double(request: Any) -> Any:
        return request.body * 2

    @a.node.on("count")
    async def count(request: Any) -> AsyncIterator[int]:
        for each in range(request.body):
            yield each

    async def story() -> None:
        await a.node.send(a.name, "by name")
        await a.node.send(a.node.id, "kept", durable=True)
        assert await a.node.request(a.node.id, "double", 4) == 8
        assert await rest(a.node.stream(a.name, "count", 5000)) == list(range(5000))
        with pytest.raises(NoHandler):
            await a.node.request(a.node.id, "nothing")

    world.run_in(a, story())
    world.run_for(1.0)
    assert sorted(got) == [("by name", a.node.id), ("kept", a.node.id)]
    assert a.node.dropped == {} and not a.node._runtime.outbox._boxes


def test_what_one_tells_oneself_has_a_bound_and_an_order() -> None:
    env, got, told = FakeEnv(), [], []
    loop = Loopback(env, deliver=got.append, writable=lambda: told.append(1))
    messages = [Send(bytes(200_000) + bytes((each,))) for each in range(30)]
    taken = [each for each in messages if loop.try_send(each)]
    assert len(taken) * 200_000 <= BYTES_MAX < (len(taken) + 1) * 200_257 and not got
    env.run_for(0.001)
    assert got == taken and told == [1]
    assert loop.try_send(messages[-1])


# -- a link first ------------------------------------------------------------------------------------------------------


def large_mesh(world: World) -> list[SimNode]:
    """Nodes that are not all linked to all; each has room for some links more."""
    overlay = HyParViewConfig(full_members_max=3, active_min=2, active_max=8, links_max=9)
    nodes = list(world.spawn(14, config=NodeConfig(stack=StackConfig(hyparview=overlay))))
    world.run_until(lambda world: all(len(each.node.members()) == 14 for each in nodes), within=60.0)
    world.run_for(70.0)  # who was let go of while the mesh grew is not dialled for a minute
    for each in nodes:

        @each.node.on("name")
        async def name(request: Any, own: str = each.name) -> str:
            return own

    return nodes


def strangers(nodes: list[SimNode]) -> tuple[SimNode, SimNode]:
    """Two without a link between them, and room for one."""
    links = {each: each.node._runtime.dialer.links for each in nodes}
    return next(
        (one, other) for one in nodes for other in nodes
        if one is not other and other.node.id not in links[one] and 5 <= len(links[one]) < 8 and len(links[other]) < 8
    )  # fmt: skip


def test_who_has_no_link_gets_one_before_others_are_troubled(world: World) -> None:
    nodes = large_mesh(world)
    a, b = strangers(nodes)
    relayed: list[Any] = []
    send = a.node._runtime.relay.send
    a.node._runtime.relay.send = lambda to, message: relayed.append(message) or send(to, message)
    assert world.run(a.node.request(b.node.id, "name")) == b.name
    assert b.node.id in a.node._runtime.dialer.links
    assert not [each for each in relayed if isinstance(each, Ask)]


def test_a_link_that_cannot_be_had_costs_half_a_second_and_only_once(world: World) -> None:
    a, b = strangers(large_mesh(world))
    with world.partition([a], [b]):
        before = world.now
        assert world.run(a.node.request(b.node.id, "name")) == b.name
        assert 0.5 <= world.now - before < 0.7
        before = world.now
        assert world.run(a.node.request(b.node.id, "name")) == b.name
        assert world.now - before < 0.1


def test_an_evicted_link_costs_no_answer(world: World) -> None:
    """The overlay lets go of a link while a question over it is under way: the answer goes over others."""
    nodes = large_mesh(world)
    a, ran = nodes[0], []
    peer = next(iter(a.node._runtime.dialer.links))
    b = next(each for each in nodes if each.node.id == peer)

    @b.node.on("slow")
    async def slow(request: Any) -> str:
        ran.append(request)
        await asyncio.sleep(2.0)
        return b.name

    async def evict() -> None:
        runtime, to = b.node._runtime, a.node.id
        for effect in (do.Send(to, Disconnect("evicted")), do.Forget(to), do.CloseLink(to, "evicted")):
            runtime._perform(effect, None)

    async def story() -> str:
        asking = asyncio.ensure_future(a.node.request(peer, "slow"))
        await asyncio.sleep(0.5)
        link = a.node._runtime.dialer.links[peer]
        world.start_in(b, evict())
        await asyncio.sleep(0.2)
        assert a.node._runtime.dialer.links.get(peer) is not link
        return await asking

    assert world.run_in(a, story()) == b.name and len(ran) == 1


# -- streams over others -----------------------------------------------------------------------------------------------


class Lossy:
    """A relay that loses some of what it should hand on, by a seed of its own."""

    def __init__(self, node: SimNode, rng: Any, loss: float) -> None:
        self.relay, self.rng, self.loss, self.lost = node.node._runtime.relay, rng, loss, 0
        self.on_message = self.relay.on_message
        self.relay.on_message = self.hand_on

    def hand_on(self, peer: NodeId, message: Relayed, raw: bytes) -> None:
        if self.rng.random() < self.loss:
            self.lost += 1
        else:
            self.on_message(peer, message, raw)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("loss", [0.0, 0.2])
def test_a_stream_over_others_is_whole_whatever_gets_lost(seed: int, loss: float) -> None:
    with World(seed=seed) as world:
        a, b, c = world.spawn(3)
        world.run_until(lambda: all(len(each.node.members()) == 3 for each in world.nodes), within=10.0)
        closed, ran = [], []

        @b.node.on("count")
        async def count(request: Any) -> AsyncIterator[list[Any]]:
            ran.append(request.trace)
            try:
                for each in range(request.body):
                    yield [each, bytes(5_000)]
            finally:
                closed.append(1)

        async def read() -> list[int]:
            return [each async for each, _ in a.node.stream(b.node.id, "count", 300)]

        with world.partition([a], [b]):
            world.run_for(30.0)
            relay = Lossy(c, world.seed.stream("lossy"), loss)
            for _ in range(10):  # the question itself may get lost, and is not repeated
                try:
                    assert world.run(read(), within=300.0) == list(range(300))
                    break
                except AnswerLost:
                    assert relay.lost
            else:
                raise AssertionError("never whole")
            world.run_for(stream.SILENCE_S + 5.0)
        assert len(closed) == len(ran) <= 10
        assert not b.node._runtime.feeds._feeds and not a.node._runtime.streams._reading
        assert (relay.lost > 0) == (loss > 0)


def test_over_others_too_a_slow_reader_slows_the_writer_and_an_end_is_told(world: World, start: Start) -> None:
    a, b, c = start(3)
    made, closed = 0, []

    @b.node.on("flood")
    async def flood(request: Any) -> AsyncIterator[bytes]:
        nonlocal made
        try:
            while made < 200:
                made += 1
                yield bytes(10_000)
            raise RuntimeError("dry")
        finally:
            closed.append(1)

    async def read() -> int:
        read = 0
        with pytest.raises(HandlerFailed, match="dry"):
            async for _ in a.node.stream(b.node.id, "flood"):
                read += 1
                await asyncio.sleep(0.1)
                assert made - read <= stream.WINDOW_BYTES // 10_000 + 3
        return read

    async def break_off() -> None:
        async for _ in a.node.stream(b.node.id, "flood"):
            break

    with world.partition([a], [b]):
        world.run_for(30.0)
        assert world.run(read(), within=100.0) == 200
        made = 0
        world.run(break_off())
        world.run_for(3.0)
        assert len(closed) == 2 and not b.node._runtime.feeds._feeds
        with pytest.raises(NoHandler):
            world.run(rest(a.node.stream(b.node.id, "nothing")))
        made = -(10**9)
        reading = a.node.stream(b.node.id, "flood")
        world.run(anext(reading))
        c.crash()  # the only way is gone
        before = world.now
        with pytest.raises(AnswerLost):
            world.run(rest(reading), within=60.0)
        assert world.now - before <= stream.SILENCE_S + 3
        world.run_for(stream.SILENCE_S + 3)
        assert len(closed) == 3 and not b.node._runtime.feeds._feeds
        assert b.node.dropped.get("stream lost") == 1


# -- relays ------------------------------------------------------------------------------------------------------------


def test_a_relay_hands_on_what_it_does_not_know() -> None:
    """Fields that a newer version put behind those of this one survive the way."""
    one = Relayed(b"t" * 32, b"s" * 32, 1 << 40, 8, b"box")
    newer = msgspec.msgpack.encode([*msgspec.msgpack.decode(encode(one)), "new", {"more": 1}])
    onward = with_hops(newer, 7)
    assert msgspec.msgpack.decode(onward) == [51, b"t" * 32, b"s" * 32, 1 << 40, 7, b"box", "new", {"more": 1}]
    assert decode(NodeId(b"s" * 32), onward) == Relayed(b"t" * 32, b"s" * 32, 1 << 40, 7, b"box")


def test_relays_that_are_full_drop_and_never_wait_for_each_other(world: World, start: Start) -> None:
    """Two pairs that talk across each other's links, every lane clogged: nothing stands still for good.

    If taking in waited on handing on, b (full towards c) and c (full towards b) would wait for each other for ever.
    """
    a, b, c, d = start(4)
    got: dict[str, int] = {"a": 0, "d": 0}
    for each, name in ((a, "a"), (d, "d")):

        @each.node.on_message
        async def take(message: Any, name: str = name) -> None:
            got[name] += 1

        @each.node.on("alive")
        async def alive(request: Any) -> bool:
            return True

    async def flood(here: SimNode, there: Any) -> None:
        for _ in range(200):
            try:
                await here.node.send(there, bytes(100_000))
            except Exception:  # noqa: BLE001 - no room anywhere: the point is what comes after
                await asyncio.sleep(0.05)

    # a - b - c - d and nothing else
    with world.partition([a], [c, d]), world.partition([b], [d]):
        world.run_for(30.0)
        with world.bandwidth(200_000):
            world.start_in(a, flood(a, d.node.id))
            world.start_in(d, flood(d, a.node.id))
            world.run_for(20.0)
        world.run_for(20.0)
        assert world.run(a.node.request(d.node.id, "alive")) and world.run(d.node.request(a.node.id, "alive"))
    lost = sum(each.node.dropped.get("no way on", 0) for each in (a, b, c, d))
    assert got["a"] > 0 and got["d"] > 0 and lost > 0


def test_what_is_urgent_overtakes_all_that_waits_for_that_node(world: World, start: Start) -> None:
    a, b = start(2)
    got: list[Any] = []

    @b.node.on_message
    async def take(message: Any) -> None:
        got.append(message.body[0])

    async def send() -> None:
        for _ in range(30):
            await a.node.send(b.node.id, ["normal", bytes(100_000)])
        for each in range(3):
            await a.node.send(b.node.id, ["high", each], priority="high")

    with world.bandwidth(1_000_000):
        world.run(send())
        world.run_until(lambda world: len(got) == 33, within=60.0)
    assert max(index for index, each in enumerate(got) if each == "high") < 15
    assert Lane.DIRECT < Lane.SYNC
