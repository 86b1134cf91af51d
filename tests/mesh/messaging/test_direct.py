"""One node to another: sent, asked, streamed; what the error says when it did not work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from mesh.errors import AnswerLost, BodyInvalid, Expired, HandlerFailed, NoHandler, NotReached, RequestTimeout
from mesh.messages import StreamItem
from mesh.messaging import stream
from mesh.messaging.handler import Handler, Message, Request
from sim.world import World
from tests.mesh.messaging.conftest import Start
from transport.base import Lane


@dataclass
class Order:
    article: str
    amount: int


async def rest(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]


# -- bodies and annotations --------------------------------------------------------------------------------------------


def test_a_body_is_what_the_annotation_says_or_the_error_names_the_field(world: World, start: Start) -> None:
    a, b = start(2)
    seen: list[Order] = []

    @b.node.on("order")
    async def order(request: Request[Order]) -> int:
        seen.append(request.body)
        return request.body.amount * 2

    assert world.run(a.node.request(b.node.id, "order", {"article": "tea", "amount": 2})) == 4
    assert seen == [Order("tea", 2)]
    with pytest.raises(BodyInvalid, match=r"\$\.amount") as refused:
        world.run(a.node.request(b.node.id, "order", {"article": "tea", "amount": "two"}))
    assert refused.value.node == b.node.id and len(seen) == 1


def test_a_message_of_another_shape_is_counted_and_hurts_nobody(world: World, start: Start) -> None:
    a, b = start(2)
    seen: list[Order] = []

    @b.node.on_message
    async def take(message: Message[Order]) -> None:
        seen.append(message.body)

    world.run(a.node.send(b.node.id, {"article": "tea"}))
    world.run(a.node.send(b.node.id, {"article": "tea", "amount": 1}))
    world.run_for(1.0)
    assert seen == [Order("tea", 1)] and b.node.dropped == {"another body": 1}


def test_an_annotation_nobody_knows_is_told_at_once() -> None:
    async def plain(request): ...  # type: ignore[no-untyped-def]

    async def unknown(request: Request[Nowhere]) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    async def bare(request: Elsewhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    assert Handler(plain).check({"any": 1}) == {"any": 1}
    assert Handler(bare).check({"any": 1}) == {"any": 1}
    with pytest.raises(TypeError, match="Nowhere"):
        Handler(unknown)


# -- send --------------------------------------------------------------------------------------------------------------


def test_a_message_that_finds_no_room_in_its_time_is_not_sent(world: World, start: Start) -> None:
    a, b = start(2)
    got: list[Any] = []

    @b.node.on_message
    async def take(message: Any) -> None:
        got.append(len(message.body))

    async def flood() -> int:
        for sent in range(1000):
            try:
                await a.node.send(b.node.id, bytes(200_000), ttl=0.5)
            except Expired as expired:
                assert expired.node == b.node.id
                return sent
        raise AssertionError("there was always room")

    with world.bandwidth(100_000):
        sent = world.run(flood())
    world.run_until(lambda world: len(got) == sent, within=300.0)
    world.run_for(1.0)
    assert len(got) == sent


def test_what_is_urgent_overtakes_what_is_low(world: World, start: Start) -> None:
    a, b = start(2)
    got: list[Any] = []

    @b.node.on_message
    async def take(message: Any) -> None:
        got.append(message.body[0])

    async def send() -> None:
        for _ in range(20):
            await a.node.send(b.node.id, ["low", bytes(100_000)], priority="low")
        await a.node.send(b.node.id, ["high"], priority="high")

    with world.bandwidth(1_000_000):
        world.run(send())
        world.run_until(lambda world: len(got) == 21, within=60.0)
    assert got.index("high") < 10


def test_to_nobody_there_is_no_way(world: World, start: Start) -> None:
    a, b = start(2)
    there = b.node.id
    b.stop()
    world.run_for(5.0)
    with pytest.raises(NotReached):
        world.run(a.node.send(there, 1))


# -- request -----------------------------------------------------------------------------------------------------------


def test_each_end_of_a_question_has_its_error(world: World, start: Start) -> None:
    a, b = start(2)
    cancelled: list[bool] = []

    @b.node.on("slow")
    async def slow(request: Any) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    @b.node.on("broken")
    async def broken(request: Any) -> None:
        raise RuntimeError("no tea")

    @b.node.on("many")
    async def many(request: Any) -> AsyncIterator[int]:
        yield 1

    with pytest.raises(RequestTimeout):
        world.run(a.node.request(b.node.id, "slow", timeout=1.0))
    world.run_for(1.0)
    assert cancelled == [True]
    with pytest.raises(HandlerFailed, match="no tea"):
        world.run(a.node.request(b.node.id, "broken"))
    with pytest.raises(NoHandler):
        world.run(a.node.request(b.node.id, "many"))
    with pytest.raises(NoHandler):
        world.run(a.node.request(b.node.id, "nothing"))


# -- stream ------------------------------------------------------------------------------------------------------------


def test_a_stream_gives_everything_in_order_and_ends(world: World, start: Start) -> None:
    a, b = start(2)

    @b.node.on("count")
    async def count(request: Request[int]) -> AsyncIterator[int]:
        for each in range(request.body):
            yield each

    assert world.run(rest(a.node.stream(b.node.name, "count", 3000))) == list(range(3000))
    with pytest.raises(BodyInvalid):
        world.run(rest(a.node.stream(b.node.id, "count", "many")))
    with pytest.raises(NoHandler):
        world.run(rest(a.node.stream(b.node.id, "nothing")))


def test_a_slow_reader_slows_the_writer(world: World, start: Start) -> None:
    a, b = start(2)
    made = 0

    @b.node.on("flood")
    async def flood(request: Any) -> AsyncIterator[bytes]:
        nonlocal made
        while True:
            made += 1
            yield bytes(10_000)

    async def read() -> None:
        items = a.node.stream(b.node.id, "flood")
        for read in range(1, 100):
            await anext(items)
            await asyncio.sleep(0.1)
            assert made - read <= stream.WINDOW_BYTES // 10_000 + 3
        await items.aclose()

    world.run(read())
    world.run_for(1.0)
    before = made
    world.run_for(10.0)
    assert made == before and not b.node._runtime.feeds._feeds and not a.node._runtime.streams._reading


def test_who_stops_reading_closes_the_generator_and_a_failure_comes_last(world: World, start: Start) -> None:
    a, b = start(2)
    closed: list[str] = []

    @b.node.on("numbers")
    async def numbers(request: Any) -> AsyncIterator[int]:
        try:
            for each in range(1000):
                if each == request.body:
                    raise ValueError("enough")
                yield each
                await asyncio.sleep(0.01)
        finally:
            closed.append("closed")

    async def some() -> None:
        async for each in a.node.stream(b.node.id, "numbers"):
            if each == 5:
                break

    world.run(some())
    world.run_for(1.0)
    assert closed == ["closed"]

    async def until_it_fails() -> list[int]:
        got = []
        with pytest.raises(HandlerFailed, match="enough"):
            async for each in a.node.stream(b.node.id, "numbers", 3):
                got.append(each)
        return got

    assert world.run(until_it_fails()) == [0, 1, 2]


def test_a_link_that_ends_ends_the_stream_at_both_ends(world: World, start: Start) -> None:
    a, b = start(2)
    closed: list[str] = []

    @b.node.on("ticks")
    async def ticks(request: Any) -> AsyncIterator[int]:
        try:
            while True:
                yield 1
                await asyncio.sleep(0.1)
        finally:
            closed.append("closed")

    async def read() -> None:
        async for _ in a.node.stream(b.node.id, "ticks"):
            pass

    async def cut() -> None:
        reading = asyncio.ensure_future(read())
        await asyncio.sleep(1.0)
        a.node._runtime.dialer.links[b.node.id].close("closed")
        with pytest.raises(AnswerLost):
            await reading

    world.run_in(a, cut())
    world.run_for(1.0)
    assert closed == ["closed"]


def test_a_writer_that_passes_its_credit_loses_the_link(world: World, start: Start) -> None:
    a, b = start(2)

    @b.node.on("silent")
    async def silent(request: Any) -> AsyncIterator[int]:
        await asyncio.sleep(1000)
        yield 1

    async def read() -> None:
        items = a.node.stream(b.node.id, "silent")
        asking = asyncio.ensure_future(anext(items))
        await asyncio.sleep(0.5)
        assert await asking == 0
        for _ in range(10):
            b.node._runtime._send(a.node.id, StreamItem(1, b"\xc6\x00\x03\x00\x00" + bytes(3 << 16)), Lane.DIRECT)
        await asyncio.sleep(0.5)
        assert a.node._runtime.streams._reading[1].arrived <= stream.WINDOW_BYTES * 2
        await items.aclose()

    async def feed() -> None:
        await asyncio.sleep(0.2)
        b.node._runtime._send(a.node.id, StreamItem(1, b"\x00"), Lane.DIRECT)

    world.start_in(b, feed())
    link = a.node._runtime.dialer.links[b.node.id]
    world.run_in(a, read())
    assert a.node._runtime.dialer.links.get(b.node.id) is not link
