"""One table: what each call says when it does not work. Who, what became of the message, what to do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from mesh.config import NodeConfig
from mesh.errors import (
    AmbiguousName,
    AnswerLost,
    Expired,
    MeshError,
    NotReached,
    OutboxFull,
    PublishFull,
    RequestTimeout,
    UnknownMember,
)
from mesh.messaging.config import MessagingConfig
from sim.world import SimNode, World
from transport.errors import ValueRefused
from transport.identity import NodeId

Call = Callable[..., Coroutine[Any, Any, Any]]
NOBODY = NodeId(b"\x01" * 32)
SMALL = NodeConfig(messaging=MessagingConfig(outbox_bytes_max=1 << 20))


async def send(node: Any, to: Any, body: Any, **how: Any) -> Any:
    return await node.send(to, body, **how)


async def durable(node: Any, to: Any, body: Any, **how: Any) -> Any:
    return await node.send(to, body, durable=True, **how)


async def request(node: Any, to: Any, body: Any, **how: Any) -> Any:
    return await node.request(to, "hang", body, **how)


async def stream(node: Any, to: Any, body: Any, **how: Any) -> Any:
    return [each async for each in node.stream(to, "drip", body, **how)]


async def publish(node: Any, to: Any, body: Any, **how: Any) -> Any:
    return await node.publish("topic", body, **how)


async def broadcast(node: Any, to: Any, body: Any, **how: Any) -> Any:
    return await node.broadcast(body, **how)


TO_ONE = (send, durable, request, stream)
ALL = (*TO_ONE, publish, broadcast)


class Mesh:
    """Two nodes; the other one answers a question late and a stream slowly, and shows what is still at work there."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.a, self.b = world.spawn(2, config=SMALL)
        world.run_until(lambda: len(self.a.node.members()) == len(self.b.node.members()) == 2, within=10.0)
        self.there = self.b.node.id
        self.at_work = 0
        self.got: list[Any] = []
        self.listen(self.b)

    def listen(self, node: SimNode) -> None:
        life = node.node

        @life.on("hang")
        async def hang(request: Any) -> None:
            self.at_work += 1
            try:
                await asyncio.sleep(60)
            finally:
                self.at_work -= 1

        @life.on("drip")
        async def drip(request: Any) -> AsyncIterator[int]:
            self.at_work += 1
            try:
                for each in range(60):
                    yield each
                    await asyncio.sleep(1.0)
            finally:
                self.at_work -= 1

        @life.on_message
        async def take(message: Any) -> None:
            self.got.append(message.body)

    def fails(self, call: Call, *arguments: Any, **how: Any) -> BaseException:
        """What ``call`` raises; nothing of it may be left behind."""
        with pytest.raises(Exception) as failed:
            self.world.run_in(self.a, call(self.a.node, *arguments, **how))
        self.clean()
        return failed.value

    def clean(self) -> None:
        runtime = self.a.node._runtime
        assert not runtime.direct._waiting and not runtime.direct._room and not runtime.streams._reading


@pytest.fixture
def mesh() -> Any:
    with World(seed=5) as world:
        yield Mesh(world)


@pytest.mark.parametrize("call", TO_ONE)
def test_an_unknown_receiver(mesh: Mesh, call: Call) -> None:
    wrong = mesh.fails(call, "nobody", 1)
    assert isinstance(wrong, UnknownMember) and wrong.name == "nobody"
    assert "nothing was sent" in str(wrong) and "node.members()" in str(wrong)
    if call is not durable:  # a letter may wait for one that is not known yet
        wrong = mesh.fails(call, NOBODY, 1)
        assert isinstance(wrong, UnknownMember) and wrong.name == str(NOBODY)


@pytest.mark.parametrize("call", TO_ONE)
def test_an_ambiguous_receiver(mesh: Mesh, call: Call) -> None:
    members = mesh.a.node._runtime.stack
    members.resolve = lambda name: [mesh.there, NOBODY]
    wrong = mesh.fails(call, mesh.b.name, 1)
    assert isinstance(wrong, AmbiguousName) and wrong.nodes == (mesh.there, NOBODY)
    assert mesh.there.short in str(wrong) and "Use the id" in str(wrong)


@pytest.mark.parametrize("call", TO_ONE)
def test_a_receiver_that_is_down(mesh: Mesh, call: Call) -> None:
    mesh.b.crash()
    mesh.world.run_for(30.0)
    if call is durable:
        assert mesh.world.run_in(mesh.a, call(mesh.a.node, mesh.there, "kept"))
        mesh.b.restart()
        mesh.listen(mesh.b)
        mesh.world.run_until(lambda: mesh.got == ["kept"], within=30.0)
        return
    wrong = mesh.fails(call, mesh.there, 1)
    assert isinstance(wrong, NotReached) and wrong.node == mesh.there
    assert "nothing was sent" in str(wrong) and "safe to try again" in str(wrong)


@pytest.mark.parametrize("call", [request, stream])
def test_a_receiver_that_dies_at_work(mesh: Mesh, call: Call) -> None:
    mesh.world.loop.call_later(2.0, mesh.b.kill)
    before = mesh.world.now
    wrong = mesh.fails(call, mesh.there, 1)
    assert isinstance(wrong, AnswerLost) and wrong.node == mesh.there and mesh.world.now - before < 3.0
    assert "may or may not have been handled" in str(wrong) and "harmless" in str(wrong)


def test_a_deadline_that_passes(mesh: Mesh) -> None:
    wrong = mesh.fails(request, mesh.there, 1, timeout=1.0)
    assert isinstance(wrong, RequestTimeout) and (wrong.node, wrong.timeout_s) == (mesh.there, 1.0)
    assert "may or may not" in str(wrong)
    mesh.world.run_for(0.5)
    assert mesh.at_work == 0  # nobody waits for it: cancelled there


@pytest.mark.parametrize("call", [send, request])
def test_a_receiver_that_is_too_slow_to_take_it(mesh: Mesh, call: Call) -> None:
    how = {"ttl": 0.1} if call is send else {"timeout": 0.1}

    async def fill() -> None:
        refused = 0
        while refused < 3:  # in a row: what is queued leaves it, for a while, without the other end taking it
            try:
                await mesh.a.node.send(mesh.there, bytes(200_000), ttl=0.01)
                refused = 0
            except Expired:
                refused += 1

    with mesh.world.bandwidth(100_000):
        mesh.world.run_in(mesh.a, fill())
        mesh.world.run_in(mesh.a, fill())  # meanwhile the wire took its share; it takes no more for two seconds
        wrong = mesh.fails(call, mesh.there, bytes(200_000), **how)
    assert isinstance(wrong, Expired if call is send else NotReached) and wrong.node == mesh.there
    assert "was not sent" in str(wrong) or "nothing was sent" in str(wrong)


def test_what_waits_has_a_bound_and_says_so(mesh: Mesh) -> None:
    async def letters() -> None:
        while True:
            await mesh.a.node.send(mesh.there, bytes(200_000), durable=True)

    async def topics() -> None:
        while True:
            await mesh.a.node.publish("topic", bytes(100_000), on_full="error")

    with mesh.world.partition([mesh.a], [mesh.b]):
        wrong = mesh.fails(lambda _: letters())
        assert isinstance(wrong, OutboxFull) and "was not taken" in str(wrong) and "ttl" in str(wrong)
    mesh.world.run_for(60.0)
    with mesh.world.bandwidth(50_000):
        wrong = mesh.fails(lambda _: topics())
    assert isinstance(wrong, PublishFull) and "nothing was published" in str(wrong) and "drop_oldest" in str(wrong)


@pytest.mark.parametrize("call", ALL)
@pytest.mark.parametrize(
    ("body", "says"),
    [(object(), "object"), ({1: 2}, "key"), (float("nan"), "NaN"), ("\ud800", "Unicode"), (1 << 64, "64"),
     (bytes(300_000), "262144")],
)  # fmt: skip
def test_a_body_that_does_not_travel(mesh: Mesh, call: Call, body: Any, says: str) -> None:
    wrong = mesh.fails(call, mesh.there, body)
    assert isinstance(wrong, ValueRefused) and says in str(wrong)
    mesh.world.run_for(0.5)
    assert mesh.got == [] and mesh.at_work == 0


@pytest.mark.parametrize("call", [request, stream])
def test_a_caller_that_is_cancelled(mesh: Mesh, call: Call) -> None:
    async def story() -> None:
        calling = asyncio.ensure_future(call(mesh.a.node, mesh.there, 1))
        await asyncio.sleep(1.5)
        assert mesh.at_work == 1
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling

    mesh.world.run_in(mesh.a, story())
    mesh.world.run_for(0.5)
    assert mesh.at_work == 0
    mesh.clean()


@pytest.mark.parametrize("call", [send, request])
def test_a_caller_that_is_cancelled_while_it_waits_for_room(mesh: Mesh, call: Call) -> None:
    async def story() -> None:
        sending = [asyncio.ensure_future(call(mesh.a.node, mesh.there, bytes(200_000))) for _ in range(80)]
        await asyncio.sleep(0.5)
        for each in sending:
            each.cancel()
        told = await asyncio.gather(*sending, return_exceptions=True)
        assert any(isinstance(each, asyncio.CancelledError) for each in told)

    with mesh.world.bandwidth(100_000):
        mesh.world.run_in(mesh.a, story())
    mesh.world.run_for(100.0)
    assert len(mesh.got) < 80 and mesh.at_work == 0
    mesh.clean()


def test_every_error_of_messages_says_what_became_of_it_and_what_to_do() -> None:
    """The words themselves: each of them names a state and a remedy."""
    import mesh.errors as all_errors

    source = {name: getattr(all_errors, name) for name in all_errors.__all__}
    assert all(each.__doc__ for each in source.values() if isinstance(each, type) and issubclass(each, MeshError))
