"""What runs for others: checked by annotation, limited in time and number, and never able to hurt the node."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

import msgspec
import pytest

from mesh.config import NodeConfig
from mesh.errors import BodyInvalid, Busy, HandlerFailed, RequestTimeout
from mesh.messaging import handlers
from mesh.messaging.config import MessagingConfig
from mesh.messaging.handler import BodyRefused, Handler, Message, Request
from sim.world import World
from tests.mesh.messaging.conftest import Start


@dataclass
class Line:
    article: str
    amount: int = 1


@dataclass
class Order:
    lines: list[Line]
    note: str | None = None
    tags: list[str] = field(default_factory=list)


class Place(TypedDict):
    city: str
    zip: int


class Point(msgspec.Struct, tag=True):
    x: float
    y: float


@pytest.mark.parametrize(
    ("wanted", "good", "becomes", "bad", "names"),
    [
        (Order, {"lines": [{"article": "tea"}]}, Order([Line("tea")]), {"lines": [{"article": 3}]}, r"\$\.lines\[0\]"),
        (Order, {"lines": [], "note": "x"}, Order([], "x"), {"note": "x"}, "lines"),
        (Place, {"city": "Ulm", "zip": 89073}, {"city": "Ulm", "zip": 89073}, {"city": "Ulm", "zip": "x"}, r"\$\.zip"),
        (Point, {"type": "Point", "x": 1, "y": 2.5}, Point(1.0, 2.5), {"type": "Point", "x": 1}, "y"),
        (int, 3, 3, "3", "int"), (str, "a", "a", 1, "str"), (list[int], [1], [1], [1, "b"], r"\$\[1\]"),
        (dict[str, int], {"a": 1}, {"a": 1}, {"a": None}, r"\$\[\.\.\.\]"), (int | None, None, None, "x", "int | null"),
        (Literal["on", "off"], "on", "on", "dim", "dim"), (tuple[int, str], [1, "a"], (1, "a"), [1], "array"),
    ],
)  # fmt: skip
def test_a_body_becomes_what_the_annotation_says_or_the_error_names_the_place(
    wanted: Any, good: Any, becomes: Any, bad: Any, names: str
) -> None:
    async def take(message: Message[wanted]) -> None: ...  # type: ignore[valid-type]

    take.__annotations__["message"] = Message[wanted]
    handler = Handler(take)
    assert handler.check(good) == becomes
    with pytest.raises(BodyRefused, match=names):
        handler.check(bad)


def test_what_cannot_be_checked_is_refused_when_it_is_registered() -> None:
    class Own:
        pass

    async def own(request: Request[Own]) -> None: ...
    async def body(request: Order) -> None: ...
    async def number(request: int) -> None: ...
    def numbers(request: Any) -> Any:
        yield 1

    own.__annotations__["request"] = Request[list[Own]]
    with pytest.raises(TypeError, match="no body can be checked"):
        Handler(own)
    with pytest.raises(TypeError, match=r"Request\[Order\]"):
        Handler(body)
    with pytest.raises(TypeError, match=r"Request\[int\]"):
        Handler(number)
    with pytest.raises(TypeError, match="async def"):
        Handler(numbers)
    with pytest.raises(ValueError, match="above 0"):
        Handler(body, timeout=0)


def test_a_plain_function_is_a_handler_too(world: World, start: Start) -> None:
    a, b = start(2)
    got: list[Any] = []
    b.node.on_message(lambda message: got.append(message.body))

    @b.node.on("double")
    def double(request: Request[int]) -> int:
        return request.body * 2

    assert world.run(a.node.request(b.node.id, "double", 21)) == 42
    world.run(a.node.send(b.node.id, "x"))
    world.run_for(1.0)
    assert got == ["x"]


def test_a_thousand_failures_leave_nothing_behind(world: World, start: Start) -> None:
    """Raised, cancelled from inside, timed out by itself, no value: each asker is told, and the node is as it was."""
    a, b = start(2)
    logging.getLogger("gossamer").disabled = True

    @b.node.on("fail")
    async def fail(request: Request[int]) -> Any:
        match request.body % 5:
            case 0:
                raise RuntimeError("tea")
            case 1:
                raise asyncio.CancelledError
            case 2:
                raise TimeoutError("its own")
            case 3:
                return object()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.cancel()
        return await future

    @b.node.on("fall")
    async def fall(request: Request[int]) -> AsyncIterator[Any]:
        yield 1
        await fail(request)

    @b.node.on_message
    async def take(message: Any) -> None:
        raise RuntimeError("no")

    async def ask(number: int) -> None:
        with pytest.raises(HandlerFailed):
            await a.node.request(b.node.id, "fail", number, timeout=5.0)
        with pytest.raises(HandlerFailed):
            async for _ in a.node.stream(b.node.id, "fall", [0, 1, 2, 4][number % 4]):
                pass
        await a.node.send(b.node.id, number)

    async def story(count: int) -> None:
        for at in range(0, count, 50):
            await asyncio.gather(*(ask(number) for number in range(at, at + 50)))

    try:
        world.run_in(a, story(100))
        gc.collect()
        before = len(gc.get_objects())
        world.run_in(a, story(1000), within=600.0)
        world.run_for(10.0)
        gc.collect()
        grown = len(gc.get_objects()) - before
    finally:
        logging.getLogger("gossamer").disabled = False
    runtime = b.node._runtime
    assert not runtime.handlers._running and not runtime.handlers._of_peer and not runtime.feeds._feeds
    assert not a.node._runtime.direct._waiting and not a.node._runtime.streams._reading
    assert b.node.dropped == {"handler failed": 1100}
    assert grown < 2000, grown


def test_one_peer_cannot_take_all_handlers_and_who_is_too_many_is_told(
    world: World, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handlers, "HANDLERS_MAX", 10)
    monkeypatch.setattr(handlers, "OF_ONE_PEER_MAX", 6)
    a, b, c = start(3)
    at_work = 0

    @b.node.on("hang")
    async def hang(request: Any) -> None:
        nonlocal at_work
        at_work += 1
        try:
            await asyncio.sleep(60)
        finally:
            at_work -= 1

    async def ask(node: Any, count: int) -> list[Any]:
        asked = (node.node.request(b.node.id, "hang", timeout=3.0) for _ in range(count))
        return [type(each) for each in await asyncio.gather(*asked, return_exceptions=True)]

    async def story() -> None:
        of_a = asyncio.ensure_future(ask(a, 8))
        await asyncio.sleep(0.5)
        of_c = asyncio.ensure_future(ask(c, 6))
        await asyncio.sleep(0.5)
        assert at_work == 10
        told = await of_a
        assert (told.count(Busy), told.count(RequestTimeout)) == (2, 6)
        told = await of_c
        assert (told.count(Busy), told.count(RequestTimeout)) == (2, 4)

    world.run_in(a, story())
    world.run_for(1.0)
    assert at_work == 0 and not b.node._runtime.handlers._running


def test_a_handler_that_hangs_is_ended_and_its_letter_tried_again_then_dead(world: World, start: Start) -> None:
    a, b = start(2, config=NodeConfig(messaging=MessagingConfig(handler_s=5.0)))
    began: list[Any] = []

    @b.node.on_message
    async def hang(message: Any) -> None:
        began.append(message.body)
        if message.body == "stuck" or (message.body == "slow" and began.count("slow") == 1):
            await asyncio.Event().wait()

    async def letters() -> None:
        for body in ("slow", "stuck", "fine"):
            await a.node.send(b.node.id, body, durable=True)

    world.run(letters())
    world.run_until(lambda world: "fine" in began, within=120.0)
    world.run_for(1.0)
    assert began == ["slow", "slow", *["stuck"] * 5, "fine"]
    (dead,) = a.node.dead_letters()
    assert (dead.body, dead.tries) == ("stuck", 5) and "within 5 s" in dead.reason

    @b.node.on_message(timeout=0.5)
    async def shorter(message: Any) -> None:
        began.append(message.body)
        await asyncio.sleep(1.0)

    @b.node.on("long", timeout=0.5)
    async def long(request: Any) -> None:
        await asyncio.sleep(1.0)

    world.run(a.node.send(b.node.id, "plain"))
    with pytest.raises(HandlerFailed, match=r"within 0\.5 s"):
        world.run(a.node.request(b.node.id, "long"))
    world.run_for(1.0)
    assert b.node.dropped == {"handler out of time": 1}


def test_a_body_of_the_wrong_shape_under_a_key_is_told_each_time(world: World, start: Start) -> None:
    a, b = start(2)

    @b.node.on("order")
    async def order(request: Request[Order]) -> int:
        return len(request.body.lines)

    for _ in range(2):
        with pytest.raises(BodyInvalid, match="lines"):
            world.run(a.node.request(b.node.id, "order", {}, key="k"))
    assert world.run(a.node.request(b.node.id, "order", {"lines": []}, key="k")) == 0
