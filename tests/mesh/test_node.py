"""The facade: what its arguments mean, how it begins and ends, and what it says when it is used wrongly."""

from __future__ import annotations

import pytest

from mesh import Member, Node, Request
from mesh.errors import AmbiguousName, Closed, NotReached, UnknownMember
from mesh.protocol.facts import MemberDown, MemberUp
from transport.base import Lane
from transport.identity import NodeId


def quiet(name: str, *, secret: str | None = "a secret", bootstrap: tuple[str, ...] = ()) -> Node:
    """A node on loopback that looks for nobody by itself."""
    return Node(name, secret=secret, listen="127.0.0.1:0", discovery=False, bootstrap=bootstrap)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"secret": "x", "open": True}, "not both"),
        ({"secret": "  \n"}, "empty"),
        ({"listen": "0.0.0.0:0"}, "admits anyone"),
        ({"listen": "nonsense"}, "HOST:PORT"),
        ({"listen": "nonsense", "secret": "x"}, "HOST:PORT"),
    ],
)
def test_contradictory_arguments_are_refused_before_anything_starts(arguments: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Node("n", **arguments)  # type: ignore[arg-type]


async def test_a_node_that_does_not_run_says_so() -> None:
    node = quiet("n")
    for use in (node.members, node.explain, node.space, lambda: node.addresses, lambda: node.counter("x")):
        with pytest.raises(Closed):
            use()
    await node.stop()  # nothing to do, and no harm


async def test_a_node_may_start_again_and_is_another_one_without_a_disk() -> None:
    node = quiet("n")
    async with node:
        first = node.id
        node.counter("x").increment()
    async with node:
        assert node.id != first
        assert node.counter("x").value == 0


async def test_a_failed_start_leaves_nothing_behind(tmp_path: object) -> None:
    async with quiet("first") as first:
        taken = first.addresses[0]
        second = Node("second", secret="s", listen=taken, discovery=False, data=tmp_path)
        with pytest.raises(OSError, match=r"[Aa]ddress"):
            await second.start()
        with pytest.raises(Closed):
            second.members()
    async with Node("third", secret="s", listen=taken, discovery=False, data=tmp_path):
        pass  # the directory and the port are free again


async def test_who_is_here_who_left_and_whom_a_name_means() -> None:
    async with quiet("ann") as ann:
        events = ann.events()
        async with quiet("ben", bootstrap=ann.addresses) as ben:
            members = await ann.wait_for_members(2, timeout=10)
            assert {each.name for each in members} == {"ann", "ben"}
            assert all(isinstance(each, Member) and isinstance(each.id, NodeId) for each in members)
            async for fact in events:
                if isinstance(fact, MemberUp):
                    assert fact.member == ben.id
                    break
            with pytest.raises(UnknownMember):
                await ann.send("nobody", 1)
            with pytest.raises(TimeoutError, match="alive are: ann, ben"):
                await ann.wait_for_members(3, timeout=0)
            async with quiet("ben", bootstrap=ann.addresses) as other:
                await ann.wait_for_members(3, timeout=10)
                with pytest.raises(AmbiguousName) as ambiguous:
                    await ann.send("ben", 1)
                assert set(ambiguous.value.nodes) == {ben.id, other.id}
        async for fact in events:
            if isinstance(fact, MemberDown) and fact.member == ben.id:
                assert fact.cause == "left"
                break
        with pytest.raises(NotReached):
            await ann.request(ben.id, "anything", timeout=5.0)


async def test_events_end_with_the_node() -> None:
    node = quiet("n")
    async with node:
        events = node.events()
    assert [fact async for fact in events] == []


async def test_a_message_of_an_unknown_kind_is_refused_by_name_and_the_link_stays_up() -> None:
    """A newer version may say what we do not know (M11): it is told so, and everything else goes on."""
    async with quiet("ann") as ann, quiet("ben", bootstrap=ann.addresses) as ben:
        await ann.wait_for_members(2, timeout=10)

        @ann.on("echo")
        async def echo(request: Request) -> object:
            return request.body

        assert await ben.request("ann", "echo", 1, timeout=10.0) == 1
        assert ben._runtime is not None
        link = ben._runtime.dialer.links[ann.id]
        assert link.try_send(Lane.CONTROL, bytes((0x92, 99, 1)))  # an array of kind 99, and something
        assert await ben.request("ann", "echo", 2, timeout=10.0) == 2  # control went first, so it was handled by now
        assert ben._runtime.dialer.links[ann.id] is link
        assert ann.dropped == {"a kind of message this version does not know": 1}
        assert ben.dropped == {"a kind of message a peer does not know": 1}
