"""What travels beside a body: traces, on whose behalf, idempotency keys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import ChainTooLong, HandlerFailed, RequestTimeout
from mesh.messages import ABOUT_BYTES_MAX, Reply
from mesh.messaging.context import CHAIN_MAX, NOTHING, Context, Trace, read_about
from mesh.messaging.once import ANSWERS_MAX, BYTES_MAX, WINDOW_NS, Once
from sim.world import World
from tests.mesh.messaging.conftest import Start
from transport.errors import ValueRefused
from transport.identity import NodeId

NODES = st.binary(min_size=32, max_size=32).map(NodeId)
TRACES = st.builds(
    Trace,
    st.integers(1, 2**128 - 1).map("{:032x}".format),
    st.integers(1, 2**64 - 1).map("{:016x}".format),
    st.integers(0, 255),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=512),
)
CONTEXTS = st.builds(
    Context,
    st.none() | TRACES,
    st.lists(NODES, max_size=CHAIN_MAX).map(tuple),
    st.text(max_size=128),
    st.dictionaries(st.sampled_from(["new", "newer"]), st.integers(0, 99).map(msgspec.msgpack.encode)).map(
        lambda each: tuple(sorted(each.items()))
    ),
)


# -- laws --------------------------------------------------------------------------------------------------------------


@given(CONTEXTS)
def test_what_was_written_is_read_and_fits(context: Context) -> None:
    assert read_about(context.about) == context
    assert len(context.about) <= ABOUT_BYTES_MAX


@given(st.binary(max_size=200) | CONTEXTS.map(lambda each: each.about[:-1]))
def test_other_bytes_end_in_one_error(raw: bytes) -> None:
    try:
        read_about(raw)
    except ValueRefused:
        pass


@given(CONTEXTS, NODES, st.integers())
def test_handed_on_it_keeps_the_trace_and_what_it_does_not_know_and_adds_a_hop(
    context: Context, sender: NodeId, seed: int
) -> None:
    if len(context.on_behalf_of) == CHAIN_MAX:
        with pytest.raises(ChainTooLong):
            context.handed_on(sender, Random(seed))
        return
    on = context.handed_on(sender, Random(seed))
    assert on.on_behalf_of == (*context.on_behalf_of, sender) and on.more == context.more and on.key == ""
    if context.trace is None:
        assert on.trace is None
    else:
        assert on.trace is not None and (on.trace.id, on.trace.flags) == (context.trace.id, context.trace.flags)
        assert on.trace.span != context.trace.span and on.trace.state == context.trace.state


@given(TRACES)
def test_a_traceparent_is_read_as_it_was_written(trace: Trace) -> None:
    assert Trace.parse(str(trace), trace.state) == trace


@pytest.mark.parametrize(
    "wrong",
    [
        "", "hello", "00-" + "0" * 32 + "-" + "1" * 16 + "-01", "00-" + "1" * 32 + "-" + "0" * 16 + "-01",
        "ff-" + "1" * 32 + "-" + "1" * 16 + "-01", "00-" + "1" * 32 + "-" + "1" * 16 + "-01-more",
        "00-" + "A" * 32 + "-" + "1" * 16 + "-01", "00-" + "1" * 31 + "-" + "1" * 16 + "-01",
    ],
)  # fmt: skip
def test_what_is_no_traceparent_names_no_trace(wrong: str) -> None:
    """The cases of the standard's section 3.2.2."""
    assert Trace.parse(wrong) is None
    assert Trace.parse("01-" + "1" * 32 + "-" + "1" * 16 + "-01-more") is not None  # a newer version may say more


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5), st.integers(0, 3 * 10**11))))
def test_a_key_is_answered_as_long_as_its_window(events: list[tuple[str, int, int]]) -> None:
    """Against a dumb list of what was answered and when."""
    once, now, answered = Once(), 0, {}
    for key, number, passes in events:
        now += passes
        slot = (NodeId(bytes(32)), "sum", key)
        known = answered.get(key)
        wanted = known[1] if known is not None and known[0] + WINDOW_NS > now else None
        assert once.answer(slot, now) == wanted
        if wanted is None:
            once.begin(slot)
            assert once.join(slot, (NodeId(bytes(32)), number))
            answer = None if number == 5 else Reply(number, "", b"")
            assert once.end(slot, answer, now) == [(NodeId(bytes(32)), number)]
            answered.pop(key, None)
            if answer is not None:
                answered[key] = now, answer


def test_the_window_has_a_bound_in_answers_and_in_bytes() -> None:
    once = Once()
    for number in range(ANSWERS_MAX + 10):
        slot = (NodeId(bytes(32)), "", str(number))
        once.begin(slot)
        once.end(slot, Reply(0, "", b"x" * 10), 0)
    assert len(once._answers) == ANSWERS_MAX and once.answer((NodeId(bytes(32)), "", "5"), 0) is None
    for number in range(100):
        slot = (NodeId(bytes(32)), "", f"big {number}")
        once.begin(slot)
        once.end(slot, Reply(0, "", bytes(200_000)), 0)
        assert once._bytes <= BYTES_MAX
    assert once._bytes == sum(len(each.body) + 512 for _, each in once._answers.values())


# -- on nodes ----------------------------------------------------------------------------------------------------------


def test_a_trace_and_a_chain_go_through_handlers_by_themselves(world: World, start: Start) -> None:
    """a asks b, whose handler asks c, which streams from d and leaves a letter: one trace, a hop more each."""
    a, b, c, d = start(4)
    seen: dict[str, Any] = {}

    @b.node.on("first")
    async def first(request: Any) -> Any:
        seen["b"] = request
        await asyncio.sleep(0.1)
        return await b.node.request(c.node.id, "second")

    @c.node.on("second")
    async def second(request: Any) -> Any:
        seen["c"] = request

        async def aside() -> None:
            await c.node.send(a.node.id, "told", durable=True)

        await asyncio.create_task(aside())  # of a task that it starts, too
        return [each async for each in c.node.stream(d.node.id, "third")]

    @d.node.on("third")
    async def third(request: Any) -> AsyncIterator[int]:
        seen["d"] = request
        await d.node.broadcast("all")
        yield 1

    @a.node.on_message
    async def take(message: Any) -> None:
        seen[f"a {message.body}"] = message

    parent = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"
    assert world.run(a.node.request(b.node.id, "first", cause=parent)) == [1]
    world.run_until(lambda world: len(seen) == 5, within=10.0)
    ids = {name: each.node.id for name, each in zip("abcd", (a, b, c, d), strict=True)}
    chains = {who: [*each.on_behalf_of, each.sender] for who, each in seen.items()}
    assert chains == {
        "b": [ids["a"]], "c": [ids["a"], ids["b"]], "d": [ids["a"], ids["b"], ids["c"]],
        "a told": [ids["a"], ids["b"], ids["c"]], "a all": [ids["a"], ids["b"], ids["c"], ids["d"]],
    }  # fmt: skip
    assert {each.trace.id for each in seen.values()} == {"ab" * 16}
    assert len({each.trace.span for each in seen.values()} | {"cd" * 8}) == 6
    assert {each.trace.flags for each in seen.values()} == {1}
    seen.clear()
    world.run(a.node.request(b.node.id, "first"))
    assert seen["b"].trace.id == seen["d"].trace.id != "ab" * 16  # another call, another trace
    assert seen["b"].on_behalf_of == ()


def test_what_is_read_from_a_topic_is_a_cause_when_one_says_so(world: World, start: Start) -> None:
    a, b, c = start(3)
    world.run_for(3.0)
    seen: list[Any] = []

    @c.node.on("work")
    async def work(request: Any) -> None:
        seen.append(request)

    @a.node.on("go")
    async def go(request: Any) -> None:
        await a.node.publish("jobs.traced", 1)

    async def worker() -> list[Any]:
        got = []
        async with b.node.subscribe("jobs.*") as jobs:
            async for job in jobs:
                got.append(job)
                await b.node.request(c.node.id, "work", cause=job)
                if len(got) == 2:
                    return got
        return got

    async def story() -> list[Any]:
        reading = asyncio.ensure_future(worker())
        await asyncio.sleep(0.1)
        await a.node.publish("jobs.plain", 0)
        await a.node.request(a.node.id, "go")
        return await reading

    plain, traced = world.run_in(a, story())
    assert plain.trace is None and plain.on_behalf_of == () and seen[0].on_behalf_of == (a.node.id,)
    assert traced.trace.id == seen[1].trace.id and seen[1].on_behalf_of == (a.node.id, a.node.id)


def test_handlers_that_ask_each_other_in_a_circle_are_stopped(world: World, start: Start) -> None:
    a, b = start(2)
    count = 0
    for here, there in ((a, b), (b, a)):

        @here.node.on("round")
        async def ask(request: Any, here: Any = here, there: Any = there) -> Any:
            nonlocal count
            count += 1
            return await here.node.request(there.node.id, "round")

    with pytest.raises(HandlerFailed, match="in a circle"):
        world.run(a.node.request(b.node.id, "round"))
    assert count == CHAIN_MAX + 1


def test_two_questions_under_one_key_run_one_handler(world: World, start: Start) -> None:
    a, b, c = start(3)
    ran: list[Any] = []

    @b.node.on("book")
    async def book(request: Any) -> Any:
        ran.append((request.sender, request.key, request.body))
        await asyncio.sleep(1.0)
        if request.body == "bad":
            raise RuntimeError("sold out")
        return len(ran)

    async def ask(node: Any, key: str, body: Any = None, timeout: float = 10.0) -> Any:
        return await node.node.request(b.node.id, "book", body, key=key, timeout=timeout)

    async def story() -> None:
        assert await asyncio.gather(ask(a, "k"), ask(a, "k"), ask(a, "k")) == [1, 1, 1]
        assert await ask(a, "k") == 1 and len(ran) == 1  # much later too
        assert await ask(c, "k") == 2  # another's key is another key
        assert await ask(a, "other") == 3
        with pytest.raises(RequestTimeout):
            await ask(a, "hurry", timeout=0.3)
        assert await ask(a, "hurry") == 4 == len(ran)  # the first one ran to its end
        for _ in range(2):
            with pytest.raises(HandlerFailed, match="sold out"):
                await ask(a, "again", "bad")
        assert len(ran) == 6  # what failed is tried again
        await asyncio.sleep(WINDOW_NS / 1e9)
        assert await ask(a, "k") == 7  # forgotten

    world.run_in(a, story(), within=2000.0)
    assert not b.node._runtime.handlers.once._waiting and not b.node._runtime.handlers._keyed


@pytest.mark.parametrize("durable", [False, True])
def test_two_messages_under_one_key_run_one_handler(world: World, start: Start, durable: bool) -> None:
    a, b = start(2)
    got: list[Any] = []

    @b.node.on_message
    async def take(message: Any) -> None:
        got.append((message.key, message.body))
        await asyncio.sleep(0.5)

    async def story() -> None:
        for body in (1, 2, 3):
            await a.node.send(b.node.id, body, key="k", durable=durable)
        await asyncio.sleep(5.0)
        await a.node.send(b.node.id, 4, key="k", durable=durable)
        await a.node.send(b.node.id, 5, key="l", durable=durable)
        with pytest.raises(ValueError, match="128"):
            await a.node.send(b.node.id, 5, key="l" * 129, durable=durable)

    world.run_in(a, story())
    world.run_for(60.0)
    assert [key for key, _ in got] == ["k", "l"] and (not durable or got == [("k", 1), ("l", 5)])
    assert b.node.dropped == {} and not a.node._runtime.outbox._boxes


def test_a_context_that_is_none_is_the_senders_fault_and_hurts_nobody(world: World, start: Start) -> None:
    a, b = start(2)

    @b.node.on("echo")
    async def echo(request: Any) -> Any:
        return request.body

    @b.node.on_message
    async def take(message: Any) -> None:
        raise AssertionError("it was refused")

    causes = a.node._runtime.causes
    causes.about = lambda *_, **__: b"\x81\xa5trace\x01"
    with pytest.raises(HandlerFailed, match="beside a body"):
        world.run(a.node.request(b.node.id, "echo", 1))
    world.run(a.node.send(b.node.id, 1))
    world.run_for(1.0)
    assert b.node.dropped == {"not a value": 1}
    del causes.about
    assert world.run(a.node.request(b.node.id, "echo", 1)) == 1
    assert NOTHING.about == b""
