"""Asked and answered without a link: over others, sealed, so that they read the header only."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.config import NodeConfig
from mesh.errors import NotReached, UnknownMember
from mesh.messages import Relayed, encode
from mesh.protocol.hyparview import HyParViewConfig
from mesh.protocol.stack import StackConfig
from sim.world import SimNode, World
from tests.mesh.messaging.conftest import Start
from transport.base import Lane
from transport.identity import ED25519, Identity, NodeId


def eavesdrop(node: SimNode) -> list[Relayed]:
    """What ``node`` is handed to relay, or gets."""
    relay, seen = node.node._runtime.relay, []
    on_message = relay.on_message

    def listen(peer: NodeId, message: Relayed, raw: bytes) -> None:
        seen.append(message)
        on_message(peer, message, raw)

    relay.on_message = listen
    return seen


@pytest.mark.parametrize("has_written", [False, True])
def test_around_a_cut_link_and_back(world: World, start: Start, has_written: bool) -> None:
    """With a way known from frames that came, and without one."""
    a, b, c = start(3)
    heard = eavesdrop(c)

    @b.node.on("double")
    async def double(request: Any) -> Any:
        assert request.sender == a.node.id
        return ["secret", request.body * 2]

    got: list[Any] = []

    @b.node.on_message
    async def take(message: Any) -> None:
        got.append((message.body, message.sender))

    with world.partition([a], [b]):
        world.run_for(30.0)
        assert b.node.id not in a.node._runtime.dialer.links
        if has_written:
            b.node.counter("n").increment()
            world.run_for(1.0)
        assert world.run(a.node.request(b.node.id, "double", 21)) == ["secret", 42]
        world.run(a.node.send(b.node.id, "hello"))
        world.run_for(1.0)
    assert got == [("hello", a.node.id)]
    assert heard and all(b"secret" not in each.box and b"hello" not in each.box for each in heard)
    assert all(each.node.dropped == {} for each in (a, b, c))


def test_letters_go_over_others_one_at_a_time_in_order(world: World, start: Start) -> None:
    a, b, c = start(3)
    got: list[Any] = []

    @b.node.on_message
    async def take(message: Any) -> None:
        got.append(message.body)

    async def send() -> None:
        for each in range(30):
            await a.node.send(b.node.id, each, durable=True)

    with world.partition([a], [b]):
        world.run_for(30.0)
        world.run(send())
        world.run_until(lambda world: len(got) == 30, within=10.0)
        c.crash("kept")  # the way on is gone; another comes
        world.run_for(1.0)
        world.run(send())
        world.run_for(10.0)
        c.restart()
        world.run_until(lambda world: len(got) == 60, within=60.0)
    world.run_for(10.0)
    assert got == [*range(30), *range(30)]
    assert not a.node._runtime.outbox._boxes


def test_in_a_mesh_too_large_for_links_to_all_everybody_reaches_everybody(world: World) -> None:
    overlay = HyParViewConfig(full_members_max=3, active_min=3, active_max=3, links_max=4)
    nodes = list(world.spawn(9, config=NodeConfig(stack=StackConfig(hyparview=overlay))))
    world.run_until(lambda world: all(len(each.node.members()) == 9 for each in nodes), within=60.0)
    world.run_for(10.0)
    for each in nodes:

        @each.node.on("name")
        async def name(request: Any, own: str = each.name) -> str:
            return own

    unlinked = 0
    for each in nodes[:3]:
        for other in nodes:
            if other is not each:
                unlinked += other.node.id not in each.node._runtime.dialer.links
                assert world.run(each.node.request(other.node.id, "name")) == other.name
    assert unlinked > 0


def test_who_is_gone_is_not_reached_by_others_either(world: World, start: Start) -> None:
    a, b, _ = start(3)
    there = b.node.id
    b.stop()
    world.run_for(5.0)
    with pytest.raises(NotReached):
        world.run(a.node.send(there, 1))
    with pytest.raises(UnknownMember):
        world.run(a.node.send(NodeId(b"?" * 32), 1))


def test_what_was_changed_repeated_or_forged_on_the_way_is_not_delivered(world: World, start: Start) -> None:
    a, b, c = start(3)
    heard, got = eavesdrop(c), []

    @b.node.on_message
    async def take(message: Any) -> None:
        got.append(message.body)

    with world.partition([a], [b]):
        world.run_for(30.0)
        world.run(a.node.send(b.node.id, 1))
        world.run_for(1.0)
        assert got == [1]
        one = next(each for each in heard if each.to == b.node.id)
        link = c.node._runtime.dialer.links[b.node.id]
        forged = [
            one,
            Relayed(one.to, one.sender, one.number + 1, 5, one.box),
            Relayed(one.to, bytes(c.node.id), one.number, 5, one.box),
            Relayed(one.to, one.sender, one.number + 2, 5, one.box[:-1] + bytes((one.box[-1] ^ 1,))),
            Relayed(one.to, one.sender, one.number + 3, 5, b""),
            Relayed(bytes(a.node.id), one.sender, one.number + 4, 1, b"no way on: a is not linked, and hops are up"),
        ]
        for each in forged:
            link.try_send(Lane.DIRECT, encode(each))
        world.run_for(1.0)
    assert got == [1]
    assert b.node.dropped == {"seal broken": 4, "no way on": 1}
    assert c.node.id in b.node._runtime.dialer.links  # who handed it on is not to blame


def test_real_keys_agree_and_strangers_do_not() -> None:
    one, other, third = (Identity(bytes((each,)) * 32, ED25519) for each in (1, 2, 3))
    key = one.agree(b"p", b"m" * 16, other.id)
    assert key is not None and key == other.agree(b"p", b"m" * 16, one.id)
    others = [
        third.agree(b"p", b"m" * 16, one.id),
        one.agree(b"q", b"m" * 16, other.id),
        one.agree(b"p", b"n" * 16, other.id),
    ]
    assert key not in others and len(set(others)) == 3
    assert one.agree(b"p", b"m" * 16, NodeId(bytes(32))) is None  # a point of small order
