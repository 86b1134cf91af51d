"""zeroconf: found over a real link in a namespace, and harmless in every way it can fail."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from tests.transport.scouting import Seeker, announcement, env, identity, in_namespace
from tests.transport.test_scout import VETH
from transport.base import Hint
from transport.discovery import mdns
from transport.discovery.mdns import MulticastDns
from transport.interfaces import Interface

LO = Interface("lo", 1, "127.0.0.1", 4)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mdns, "START_S", 0.0)


def service(**told: Any) -> Any:
    """A stranger's service as zeroconf would give it."""
    properties = {b"v": b"1", b"m": b"mesh-tag".hex().encode(), b"n": str(identity(2).id).encode()}
    properties.update({key.encode(): value for key, value in told.items()})
    hosts = ["10.0.0.2", "fe80::2", "fe80::3%eth0", "fd00::2"]
    return SimpleNamespace(properties=properties, port=5002, parsed_scoped_addresses=lambda: hosts)


async def listener(number: int = 1) -> tuple[MulticastDns, list[Hint]]:
    world = env(list)
    source, hints = MulticastDns(world, interfaces=world.interfaces), list[Hint]()
    source._announcement, source._on_hint = announcement(number), hints.append
    await world.close()
    return source, hints


async def test_a_service_of_this_mesh_is_a_hint_with_every_address_that_can_be_dialled() -> None:
    source, hints = await listener()
    source._on_service(service())
    assert hints == [Hint("mdns", ("10.0.0.2:5002", "[fe80::3%eth0]:5002", "[fd00::2]:5002"), identity(2).id)]


@pytest.mark.parametrize("told", [{"m": b"00" * 8}, {"m": None}, {"v": b"9"}, {"v": None}])
async def test_other_meshes_and_versions_are_none(told: dict[str, Any]) -> None:
    source, hints = await listener()
    source._on_service(service(**told))
    assert hints == []


async def test_the_own_service_is_none() -> None:
    source, hints = await listener(2)
    source._on_service(service())
    assert hints == []


async def test_without_an_interface_it_waits_softly_and_stops_at_once() -> None:
    world = env(list)
    source = MulticastDns(world, interfaces=world.interfaces)
    await source.start(announcement(1), lambda _: None)
    await asyncio.sleep(0)
    assert source.explain()["state"] == "no interface"
    source.rescan()
    await asyncio.wait_for(source.stop(), 1.0)
    assert source.explain()["state"] == "stopped"
    await world.close()


async def test_a_stop_right_after_the_start_waits_for_nothing() -> None:
    world = env(list)
    source = MulticastDns(world, interfaces=world.interfaces)
    await source.start(announcement(1), lambda _: None)
    await asyncio.wait_for(source.stop(), 0.5)
    await world.close()


@pytest.mark.parametrize("behaviour", ["raises", "hangs"])
async def test_a_zeroconf_that_raises_or_hangs_is_a_line_of_explain(
    monkeypatch: pytest.MonkeyPatch, behaviour: str
) -> None:
    import zeroconf.asyncio

    made = 0
    twice = asyncio.Event()

    class Broken:
        def __init__(self, **_: Any) -> None:
            nonlocal made
            made += 1
            if made > 1:
                twice.set()
            self.zeroconf = None

        async def async_register_service(self, *_: Any, **__: Any) -> Any:
            if behaviour == "raises":
                raise zeroconf.NonUniqueNameException
            await asyncio.Event().wait()

        async def async_close(self) -> None:
            await asyncio.Event().wait()

    class Browser:
        def __init__(self, *_: Any, **__: Any) -> None: ...

        async def async_cancel(self) -> None:
            raise OSError("no such device")

    monkeypatch.setattr(zeroconf.asyncio, "AsyncZeroconf", Broken)
    monkeypatch.setattr(zeroconf.asyncio, "AsyncServiceBrowser", Browser)
    monkeypatch.setattr(mdns, "STEP_S", 0.05)
    monkeypatch.setattr(mdns, "CLOSE_S", 0.05)
    monkeypatch.setattr(mdns, "RETRY_S", (0.01, 0.01))
    world = env(lambda: [LO])
    source = MulticastDns(world, interfaces=world.interfaces)
    seeker = await Seeker(source).start(1, loopback_only=True)
    await asyncio.wait_for(twice.wait(), 8.0)  # it tries again
    expected = "NonUniqueNameException" if behaviour == "raises" else "TimeoutError"
    assert source.explain()["errors"][0].startswith(expected)
    await asyncio.wait_for(source.stop(), 1.0)
    assert seeker.hints == []
    await world.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.lan
def test_two_nodes_meet() -> None:
    in_namespace("mdns_meets", VETH)
