"""What scout and mDNS tests share: announcements, and stories told inside a fresh network namespace."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from transport.base import Announcement, Hint
from transport.discovery.mdns import MulticastDns
from transport.discovery.scout import Scout
from transport.identity import ED25519, Identity, verify
from transport.interfaces import Interface, system_interfaces
from transport.system import SystemEnv

MESH_ID = b"i" * 16


def identity(number: int) -> Identity:
    return Identity(bytes([number]) * 32)


def announcement(number: int, *, tag: bytes = b"mesh-tag", loopback_only: bool = False) -> Announcement:
    me = identity(number)
    return Announcement(
        tag,
        me.id,
        5000 + number,
        lambda datagram: me.sign(b"scout", MESH_ID, datagram),
        lambda node, datagram, signature: verify(ED25519, node, b"scout", MESH_ID, datagram, signature),
        loopback_only,
    )


def in_namespace(story: str, setup: str = "") -> None:
    """Run ``story`` of this module in a namespace of its own, where only lo is up. Fails as the story does."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("needs root on Linux, for a network namespace")
    command = f"ip link set lo up; {setup or ':'}; exec {sys.executable} -m tests.transport.scouting {story}"
    ended = subprocess.run(["unshare", "-n", "sh", "-ec", command], capture_output=True, text=True, timeout=40)
    if "Operation not permitted" in ended.stderr and "unshare" in ended.stderr:
        pytest.skip("this container may not make network namespaces")
    assert ended.returncode == 0, ended.stdout + ended.stderr


class Seeker:
    """One source of one node, and what it heard."""

    def __init__(self, source: Scout | MulticastDns) -> None:
        self.source = source
        self.hints: list[Hint] = []
        self._news = asyncio.Event()

    async def start(self, number: int, **options: Any) -> Seeker:
        await self.source.start(announcement(number, **options), self._on_hint)
        return self

    def _on_hint(self, hint: Hint) -> None:
        self.hints.append(hint)
        self._news.set()

    async def until(self, question: Callable[[], object], within_s: float = 8.0) -> None:
        async with asyncio.timeout(within_s):
            while not question():
                self._news.clear()
                await self._news.wait()

    def addresses_of(self, number: int) -> set[str]:
        return {a for hint in self.hints if hint.node == identity(number).id for a in hint.addresses}


def env(interfaces: Callable[[], Sequence[Interface]] = system_interfaces) -> SystemEnv:
    def no_storage(_: str | None) -> Any:
        raise AssertionError("discovery opens no storage")

    return SystemEnv(no_storage, interfaces=interfaces)


async def meet_on_loopback() -> None:
    """Three scouts of one host hear each other over a lo without route or multicast flag; a fourth, of another mesh,
    and one that goes before, do not disturb."""
    worlds = [env() for _ in range(4)]
    one = await Seeker(Scout(worlds[0], interfaces=worlds[0].interfaces)).start(1, loopback_only=True)
    two = await Seeker(Scout(worlds[1], interfaces=worlds[1].interfaces)).start(2)
    other = await Seeker(Scout(worlds[3], interfaces=worlds[3].interfaces)).start(4, tag=b"another!")
    await one.until(lambda: one.addresses_of(2))
    await two.until(lambda: two.addresses_of(1))
    three = await Seeker(Scout(worlds[2], interfaces=worlds[2].interfaces)).start(3, loopback_only=True)
    await three.until(lambda: three.addresses_of(1) and three.addresses_of(2))
    assert one.addresses_of(2) == {"127.0.0.1:5002"}
    assert three.addresses_of(1) == {"127.0.0.1:5001"}
    assert other.hints == []
    assert other.source.explain()["other_mesh"] > 0
    assert one.source.explain()["errors"] == {}
    for each in (one, two, three, other):
        await each.source.stop()
    for world in worlds:
        await world.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def a_failing_interface_hurts_no_other() -> None:
    """An interface whose address is gone, listed first, is noted; lo still works. When it comes, it is used."""
    gone = Interface("ghost0", 999, "10.99.99.99", 4)
    ghost6 = Interface("ghost0", 999, "fe80::1%ghost0", 6)
    worlds = [env(lambda: [gone, ghost6, *system_interfaces()]), env()]
    one = await Seeker(Scout(worlds[0], interfaces=worlds[0].interfaces)).start(1)
    two = await Seeker(Scout(worlds[1], interfaces=worlds[1].interfaces)).start(2)
    await one.until(lambda: one.addresses_of(2))
    await two.until(lambda: two.addresses_of(1))
    errors = one.source.explain()["errors"]
    assert {"10.99.99.99 (ghost0)", "fe80::1%ghost0 (ghost0)"} <= set(errors), errors
    for each, world in zip((one, two), worlds, strict=True):
        await each.source.stop()
        await world.close()


async def the_reachable_address_is_named() -> None:
    """A wide scout is heard on a link by the address it has there, in IPv4 and link-local IPv6; a loopback-only one
    is not heard there. A new address is asked on after a rescan."""
    worlds = [env() for _ in range(3)]
    one = await Seeker(Scout(worlds[0], interfaces=worlds[0].interfaces)).start(1)
    two = await Seeker(Scout(worlds[1], interfaces=worlds[1].interfaces)).start(2)
    shy = await Seeker(Scout(worlds[2], interfaces=worlds[2].interfaces)).start(3, loopback_only=True)
    await one.until(lambda: {"10.9.0.1:5002", "127.0.0.1:5002"} <= one.addresses_of(2))
    await one.until(lambda: any(a.startswith("[fe80:") and "%e" in a for a in one.addresses_of(2)))
    await shy.until(lambda: shy.addresses_of(1) and shy.addresses_of(2))
    assert one.addresses_of(3) == two.addresses_of(3) == {"127.0.0.1:5003"}
    assert shy.addresses_of(1) == {"127.0.0.1:5001"}
    added = await asyncio.create_subprocess_exec("ip", "addr", "add", "10.8.0.1/24", "dev", "e1")
    assert await added.wait() == 0
    one.source.rescan()
    two.source.rescan()
    await one.until(lambda: "10.8.0.1:5002" in one.addresses_of(2))
    for each, world in zip((one, two, shy), worlds, strict=True):
        await each.source.stop()
        await world.close()


async def mdns_meets() -> None:
    """Two nodes find each other by zeroconf; one of another mesh finds nobody. Goodbye takes bounded time."""
    worlds = [env() for _ in range(3)]
    one = await Seeker(MulticastDns(worlds[0], interfaces=worlds[0].interfaces)).start(1)
    two = await Seeker(MulticastDns(worlds[1], interfaces=worlds[1].interfaces)).start(2)
    other = await Seeker(MulticastDns(worlds[2], interfaces=worlds[2].interfaces)).start(3, tag=b"another!")
    await one.until(lambda: one.addresses_of(2), within_s=15)
    await two.until(lambda: two.addresses_of(1), within_s=15)
    assert "10.9.0.1:5002" in one.addresses_of(2)
    assert other.hints == []
    assert one.source.explain()["errors"] == []
    for each, world in zip((one, two, other), worlds, strict=True):
        await each.source.stop()
        await world.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


if __name__ == "__main__":
    stories = (meet_on_loopback, a_failing_interface_hurts_no_other, the_reachable_address_is_named, mdns_meets)
    asyncio.run({story.__name__: story for story in stories}[sys.argv[1]]())
