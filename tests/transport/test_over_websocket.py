"""The same dialer and links over real sockets and TLS on loopback: what memory cannot show."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from typing import NoReturn, TypeVar

import pytest

from transport.admission import admission
from transport.base import SECOND, Conduit, DialFailed, Hint, Lane, Listener
from transport.dialer import Dialer
from transport.identity import Identity, Mesh, NodeId
from transport.link import EstablishedLink, Refusal
from transport.system import SystemEnv

T = TypeVar("T")
SECRET = admission("m", secret="s", open=False, stretch=lambda secret, salt: (secret + salt).ljust(32)[:32])
OTHER = admission("m", secret="t", open=False, stretch=lambda secret, salt: (secret + salt).ljust(32)[:32])


def no_storage(data: str | None) -> NoReturn:
    raise AssertionError("no storage here")


def told(diary: list[T]) -> Callable[[T], None]:
    """Write into ``diary``, and wake whoever waits in ``until``."""

    def write(entry: T) -> None:
        diary.append(entry)
        Node.told.set()

    return write


class Node:
    """A dialer with a door on loopback."""

    listener: Listener
    told: asyncio.Event  # set whenever any of them is told anything

    def __init__(self, number: int, mesh: Mesh = SECRET) -> None:
        self.env = SystemEnv(no_storage)
        self.identity = Identity(bytes([number]) * 32)
        self.diary: list[str] = []
        self.refused: list[Refusal] = []
        self.unreached: list[tuple[NodeId, bool]] = []
        self.frames: list[tuple[Lane, bytes]] = []
        self.dialer = Dialer(
            self.env, self.identity, mesh, on_link=self._on_link, on_refused=told(self.refused),
            on_lost=lambda link, cause: told(self.diary)(cause),
            on_unreached=lambda *each: told(self.unreached)(each),
        )  # fmt: skip

    async def start(self) -> Node:
        self.listener = await self.env.transport.listen("127.0.0.1:0", self.dialer.accept)
        return self

    @property
    def address(self) -> str:
        return next(each for each in self.listener.addresses if each.startswith("127."))

    def _on_link(self, link: EstablishedLink) -> None:
        told(self.diary)("up")

        def on_frame(lane: Lane, frame: bytes) -> None:
            told(self.frames)((lane, frame))
            link.consumed(lane, len(frame))

        link.on_frame = on_frame

    async def stop(self) -> None:
        self.dialer.close()
        await self.listener.close()
        await self.env.close()


@pytest.fixture
async def nodes() -> AsyncIterator[list[Node]]:
    Node.told = asyncio.Event()
    made = [await Node(1).start(), await Node(2).start()]
    yield made
    for node in made:
        await node.stop()


async def until(question: Callable[[], object], within: float = 10.0) -> None:
    """Wait for what some node was told to make this true."""
    async with asyncio.timeout(within):
        while not question():
            Node.told.clear()
            await Node.told.wait()


async def test_two_nodes_link_and_speak(nodes: list[Node]) -> None:
    one, other = nodes
    one.dialer.hint(Hint("scout", (other.address,), other.identity.id))
    other.dialer.hint(Hint("scout", (one.address,), one.identity.id))
    await until(lambda: one.dialer.links and other.dialer.links)
    link = one.dialer.links[other.identity.id]
    sent = [bytes([n % 251]) * (1 + n * 37 % 9000) for n in range(3000)]
    waiting = iter(sent)
    room = asyncio.Event()
    link.on_writable = lambda lane: room.set()
    for frame in waiting:
        while not link.try_send(Lane.BROADCAST, frame):
            room.clear()
            await room.wait()
    await until(lambda: len(other.frames) == len(sent))
    assert [frame for _, frame in other.frames] == sent
    assert all(type(frame) is bytes for _, frame in other.frames)
    assert one.diary == ["up"] == other.diary and 0 < link.rtt_ns < SECOND


async def test_a_largest_frame_passes_and_control_overtakes_a_full_lane(nodes: list[Node]) -> None:
    one, other = nodes
    one.dialer.connect(other.identity.id, (other.address,))
    await until(lambda: one.dialer.links and other.dialer.links)
    link = one.dialer.links[other.identity.id]
    while link.try_send(Lane.SYNC, os.urandom(1 << 20)):
        pass
    link.try_send(Lane.CONTROL, b"first")
    await until(lambda: len(other.frames) == 4)
    assert other.frames[0] == (Lane.CONTROL, b"first") and len(other.frames[1][1]) == 1 << 20


async def test_outsiders_over_tls(nodes: list[Node]) -> None:
    stranger = await Node(3, OTHER).start()
    try:
        stranger.dialer.hint(Hint("bootstrap", (nodes[0].address,)))
        await until(lambda: stranger.refused and nodes[0].refused)
        assert {each.reason for each in stranger.refused + nodes[0].refused} == {"wrong-secret"}
        assert not stranger.dialer.links and not nodes[0].dialer.links
    finally:
        await stranger.stop()


async def test_a_man_in_the_middle_over_tls(nodes: list[Node]) -> None:
    """A relay with a certificate of its own carries every byte faithfully, and gets nowhere."""
    one, other = nodes
    relay = SystemEnv(no_storage)

    def between(inner: Conduit) -> None:
        early: list[bytes] = []
        inner.on_message = early.append

        def dialed(outer: Conduit | DialFailed) -> None:
            assert not isinstance(outer, DialFailed)
            inner.on_message, outer.on_message = outer.send, inner.send
            inner.on_close, outer.on_close = (lambda reason: outer.close()), (lambda reason: inner.close())
            for message in early:
                outer.send(message)

        relay.transport.dial(other.address, dialed, SECOND)

    door = await relay.transport.listen("127.0.0.1:0", between)
    try:
        one.dialer.connect(other.identity.id, (door.addresses[0],))
        await until(lambda: one.refused and other.refused)
        assert {each.reason for each in one.refused + other.refused} == {"bad-proof"}
        assert not one.dialer.links and not other.dialer.links
    finally:
        await door.close()
        await relay.close()


async def test_a_process_that_ends_is_seen_and_its_address_refuses(nodes: list[Node]) -> None:
    one, other = nodes
    one.dialer.connect(other.identity.id, (other.address,))
    await until(lambda: one.dialer.links and other.dialer.links)
    await other.stop()
    await until(lambda: one.unreached)
    assert one.diary == ["up", "closed"] and one.unreached[0] == (other.identity.id, True)


async def test_half_open_connections_keep_nobody_out(nodes: list[Node]) -> None:
    one, other = nodes
    evil = SystemEnv(no_storage)
    held: list[Conduit | DialFailed] = []
    for _ in range(60):
        evil.transport.dial(one.address, told(held), 5 * SECOND)
    await until(lambda: len(held) == 60)
    other.dialer.connect(one.identity.id, (one.address,))
    await until(lambda: one.dialer.links, within=2.0)
    assert one.dialer.counts["half_open"] <= 16
    await evil.close()
