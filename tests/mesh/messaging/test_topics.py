"""Topics between real nodes in a simulated world: who gets what, in which order, and what is counted when not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mesh.config import NodeConfig
from mesh.errors import PublishFull
from mesh.messages import Gone
from mesh.messaging.config import MessagingConfig
from mesh.messaging.subscription import TopicMessage
from mesh.messaging.topic import TOPICS
from sim.scenarios.split import everybody_sees_everybody
from sim.world import SimNode, World
from tests.mesh.messaging.conftest import Start
from transport.base import Lane
from transport.frame import GENESIS, KIND_TOPIC, seal
from transport.identity import Identity

SMALL = NodeConfig(messaging=MessagingConfig(window_bytes=1 << 20))


class Reader:
    """What one node read of a pattern, and its subscription."""

    def __init__(self, world: World, node: SimNode, pattern: str) -> None:
        self.got: list[TopicMessage] = []
        self.messages = node.node.subscribe(pattern)
        world.start_in(node, self._read())
        world.run_for(0.01)

    async def _read(self) -> None:
        async with self.messages as messages:
            async for message in messages:
                self.got.append(message)

    @property
    def bodies(self) -> list[Any]:
        return [each.body for each in self.got]


async def publish(node: SimNode, topic: str, bodies: Any, **options: Any) -> None:
    for body in bodies:
        await node.node.publish(topic, body, **options)


def test_who_subscribed_gets_each_once_in_order_the_publisher_too(world: World, start: Start) -> None:
    a, b, c = start(3)
    here, there = Reader(world, a, "orders.**"), Reader(world, b, "orders.*.new")
    elsewhere = Reader(world, c, "invoices")
    world.run(publish(a, "orders.eu.new", range(700)))
    world.run(publish(a, "orders.eu.old", ["no"]))
    world.run_for(1.0)
    assert there.bodies == list(range(700)) and here.bodies == [*range(700), "no"] and elsewhere.bodies == []
    assert {each.sender for each in there.got} == {a.node.id}
    assert {each.topic for each in there.got} == {"orders.eu.new"}
    assert [each.id for each in there.got] == [each.id for each in here.got[:700]]
    assert len({each.id for each in there.got}) == 700
    assert there.messages.dropped == 0 and b.node.dropped == {}


def test_a_broadcast_reaches_every_other_members_message_handler(world: World, start: Start) -> None:
    a, b, c = start(3)
    got: list[tuple[str, Any, bytes]] = []
    for each in (a, b, c):

        async def handler(message: Any, name: str = each.name) -> None:
            got.append((name, message.body, message.sender))

        each.node.on_message(handler)
    reader = Reader(world, b, "**")
    world.run(a.node.broadcast({"all": True}))
    world.run_for(1.0)
    assert sorted(got) == [(each.name, {"all": True}, a.node.id) for each in (b, c)]
    assert reader.got == []


def test_what_was_published_during_a_cut_comes_from_the_window(world: World, start: Start) -> None:
    a, b = start(2)
    reader = Reader(world, b, "t")
    with world.partition([a], [b]):
        world.run(publish(a, "t", range(300)))
        world.run_for(30.0)
        assert reader.got == []
    world.run_until(lambda world: len(reader.got) == 300, within=30.0)
    assert reader.bodies == list(range(300)) and reader.messages.dropped == 0


def test_beyond_the_window_the_loss_is_counted_exactly(world: World, start: Start) -> None:
    a, b = start(2, config=SMALL)
    reader = Reader(world, b, "t")
    world.run(publish(a, "t", ["before"]))
    world.run_for(1.0)
    with world.partition([a], [b]):
        world.run(publish(a, "t", [bytes(10_000)] * 400))
        world.run_for(30.0)
    world.run_until(lambda world: len(reader.got) + reader.messages.dropped == 401, within=30.0)
    assert 0 < reader.messages.dropped < 400
    assert b.node.dropped == {"lost on the way": reader.messages.dropped}
    world.run(publish(a, "t", ["after"]))
    world.run_for(1.0)
    assert reader.bodies[0] == "before" and reader.bodies[-1] == "after"


def test_who_joins_later_gets_what_comes_later(world: World, start: Start) -> None:
    a, _ = start(2)
    world.run(publish(a, "t", range(50)))
    c = world.spawn(1)[0]
    reader = Reader(world, c, "t")
    world.run_until(everybody_sees_everybody, within=10.0)
    world.run_for(5.0)
    world.run(publish(a, "t", ["new"]))
    world.run_for(1.0)
    assert reader.bodies == ["new"] and reader.messages.dropped == 0


def test_a_restarted_publisher_is_heard_again(world: World, start: Start) -> None:
    a, b = start(2)
    reader = Reader(world, b, "t")
    world.run(publish(a, "t", [1]))
    world.run_for(1.0)
    a.crash()
    a.restart()
    world.run_until(everybody_sees_everybody, within=30.0)
    world.run(publish(a, "t", [2]))
    world.run_for(5.0)
    assert reader.bodies == [1, 2] and reader.messages.dropped == 0


def test_a_reader_that_stops_reading_stalls_nobody_and_is_told(world: World, start: Start) -> None:
    config = NodeConfig(messaging=MessagingConfig(subscription_bytes_max=1 << 20))
    a, b = start(2, config=config)
    lazy, quick = b.node.subscribe("t"), Reader(world, b, "t")
    world.run(lazy.__aenter__())
    world.run(publish(a, "t", [bytes(5000)] * 1000))
    world.run_for(5.0)
    assert len(quick.got) == 1000 and quick.messages.dropped == 0
    assert 0 < lazy.dropped == b.node.dropped["read too slowly"]

    async def rest() -> int:
        await lazy.__aexit__(None, None, None)
        return sum([1 async for _ in lazy])

    assert world.run(rest()) + lazy.dropped == 1000


@pytest.mark.parametrize("on_full", ["wait", "error", "drop_oldest"])
def test_a_publisher_that_is_too_fast_does_as_it_asked(world: World, start: Start, on_full: str) -> None:
    a, b = start(2)
    reader = Reader(world, b, "t")
    refused = 0

    async def flood() -> None:
        nonlocal refused
        for each in range(300):
            try:
                await a.node.publish("t", [each, bytes(20_000)], on_full=on_full)
            except PublishFull:
                refused += 1

    with world.bandwidth(2_000_000):
        world.run(flood())
        world.run_for(20.0)
    dropped = a.node.dropped.get("published too fast", 0)
    assert len(reader.got) + refused + dropped == 300 and reader.messages.dropped == 0
    assert [body[0] for body in reader.bodies] == sorted(body[0] for body in reader.bodies)
    assert (refused > 0) == (on_full == "error") and (dropped > 0) == (on_full == "drop_oldest")


def test_one_slow_neighbour_does_not_set_the_pace(world: World, start: Start) -> None:
    a, b, c = start(3)
    reader = Reader(world, b, "t")
    with world.bandwidth(20_000, between=(a, c)):
        began = world.now
        world.run(publish(a, "t", [bytes(10_000)] * 1000))
        world.run_until(lambda world: len(reader.got) == 1000, within=10.0)
        assert world.now - began < 5.0


def test_the_end_of_the_node_ends_the_reading(world: World, start: Start) -> None:
    (a,) = start(1)

    async def read() -> list[Any]:
        async with a.node.subscribe("t") as messages:
            await a.node.publish("t", "last words", priority="high")
            stop = asyncio.ensure_future(a.node.stop())
            got = [message.body async for message in messages]
            await stop
            return got

    assert world.run_in(a, read()) == ["last words"]


def test_who_publishes_and_ends_is_heard(world: World, start: Start) -> None:
    a, b = start(2)
    reader = Reader(world, b, "t")

    async def last_words() -> None:
        await publish(a, "t", [[each, bytes(1000)] for each in range(1000)])
        await a.node.stop()

    with world.bandwidth(3_000_000):
        world.run_in(a, last_words())
        world.run_for(2.0)
    assert [body[0] for body in reader.bodies] == list(range(1000)) and reader.messages.dropped == 0


def test_what_is_wrong_is_refused_before_anything_is_queued(world: World, start: Start) -> None:
    (a,) = start(1)
    reader = Reader(world, a, "**")
    for wrong in ("", "a..b", "a.*"):
        with pytest.raises(ValueError):
            world.run(a.node.publish(wrong, 1))
    with pytest.raises(ValueError):
        world.run(a.node.publish("t", 1, on_full="maybe"))
    with pytest.raises(ValueError, match="NUL"):
        a.node.space("\0topics")
    world.run_for(1.0)
    assert reader.got == []


# -- peers that lie ----------------------------------------------------------------------------------------------------


def hostile(world: World, node: SimNode, items: list[bytes], count: int, *, seed: bytes = b"h" * 32) -> bytes:
    runtime = node.node._runtime
    identity = Identity(seed, runtime.env.suite)
    return seal(
        identity, runtime.mesh, kind=KIND_TOPIC, stream=TOPICS, log=b"l" * 8, first=1, count=count, hlc=0,
        previous=GENESIS, items=items,
    ).raw  # fmt: skip


def receive(world: World, a: SimNode, b: SimNode, raw: bytes) -> None:
    """``a`` sends ``raw`` to ``b`` as a topic frame."""
    a.node._runtime.dialer.links[b.node.id].try_send(Lane.BROADCAST, raw)
    world.run_for(1.0)


def test_an_origins_garbage_is_counted_and_hurts_no_relay(world: World, start: Start) -> None:
    a, b = start(2)
    reader = Reader(world, b, "**")
    receive(world, a, b, hostile(world, a, [b"\x92\xa1t\xc4\x01\xc1", b"\xc0"], 2))
    assert reader.got == [] and reader.messages.dropped == 2
    assert b.node.dropped["not a message"] == 2 and a.node.id in b.node._runtime.dialer.links


def test_a_body_that_is_no_value_is_counted_and_skipped(world: World, start: Start) -> None:
    a, b = start(2)
    reader = Reader(world, b, "**")
    receive(world, a, b, hostile(world, a, [b"\x92\xa1t\xc4\x01\xc1", b"\x92\xa1t\xc4\x01\x07"], 2))
    assert reader.bodies == [7] and reader.messages.dropped == 1 and b.node.dropped["not a value"] == 1


def test_one_member_with_many_logs_crowds_out_none_but_its_own(world: World, start: Start) -> None:
    a, b = start(2)
    world.run(publish(a, "t", [1]))
    world.run_for(1.0)
    reader = Reader(world, b, "t")
    runtime = a.node._runtime
    for each in range(100):
        identity = Identity(b"h" * 32, runtime.env.suite)
        raw = seal(
            identity, runtime.mesh, kind=KIND_TOPIC, stream=TOPICS, log=each.to_bytes(8, "big"), first=1, count=1,
            hlc=0, previous=GENESIS, items=[b"\x92\xa1t\xc4\x01\x07"],
        ).raw  # fmt: skip
        runtime.dialer.links[b.node.id].try_send(Lane.BROADCAST, raw)
        world.run_for(0.05)
    topics = b.node._runtime.topics
    assert len(topics._logs) == 2 + 16 and len(topics._lives) == 2 and len(reader.got) == 100
    stack = b.node._runtime.stack
    assert sum(slot.stream == TOPICS for slot in stack.logs.heads) == 17 == len(stack.tree._sources)
    world.run(publish(a, "t", [2]))
    world.run_for(1.0)
    assert reader.bodies[-1] == 2 and reader.messages.dropped == 0


def test_a_forged_frame_costs_its_bringer_the_link(world: World, start: Start) -> None:
    a, b = start(2)
    reader = Reader(world, b, "**")
    raw = bytearray(hostile(world, a, [b"\x92\xa1t\xc4\x01\x07"], 1))
    raw[-70] ^= 1
    link = a.node._runtime.dialer.links[b.node.id]
    receive(world, a, b, bytes(raw))
    assert reader.got == [] and a.node._runtime.dialer.links.get(b.node.id) is not link


def test_gone_is_believed_only_from_whom_was_asked(world: World, start: Start) -> None:
    a, b = start(2)
    world.run(publish(a, "t", [1]))
    world.run_for(1.0)
    reader = Reader(world, b, "t")
    own = a.node._runtime.topics._own.slot
    a.node._runtime._send(b.node.id, Gone(own.stream, own.origin, 1000), Lane.SYNC)
    world.run(publish(a, "t", [2]))
    world.run_for(1.0)
    assert reader.bodies == [2] and reader.messages.dropped == 0
