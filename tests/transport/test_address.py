"""Addresses as text, the host's interfaces, and the two lists of hints."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transport.scouting import announcement, identity
from transport.address import join_address, split_address
from transport.base import Hint
from transport.discovery import Bootstrap
from transport.interfaces import INTERFACES_MAX, Interface, reachable_hosts, system_interfaces, usable

HOSTS = st.one_of(
    st.ip_addresses().map(str),
    st.sampled_from(["*", "localhost", "fe80::1%eth0", "a-b.example", "xn--bcher-kva.example"]),
)


@given(host=HOSTS, port=st.integers(0, 65535))
@settings(max_examples=50)
def test_split_is_the_inverse_of_join(host: str, port: int) -> None:
    assert split_address(join_address(host, port)) == (host, port)


@given(text=st.text(max_size=40))
@settings(max_examples=100)
def test_any_text_is_an_address_or_a_clear_error(text: str) -> None:
    try:
        host, port = split_address(text)
    except ValueError as wrong:
        assert repr(text) in str(wrong)
    else:
        assert host
        assert 0 <= port <= 65535


@pytest.mark.parametrize(
    "text",
    ["", "host", ":1", "host:", "host:-1", "host:65536", "host:٣", "::1:80", "[::1]", "[host]:1", "[]:1", "a b:1",
     "user@host:1", "host/x:1", "x" * 300 + ":1"],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"address|host"):
        split_address(text)


def test_interfaces_rank_lan_before_containers_before_loopback_and_are_bounded() -> None:
    lo, lo6 = Interface("lo", 1, "127.0.0.1", 4), Interface("lo", 1, "::1", 6)
    lan, lan6 = Interface("eth0", 2, "192.168.1.5", 4), Interface("eth0", 2, "fd00::5", 6)
    scoped = Interface("eth0", 2, "fe80::5%eth0", 6)
    docker = Interface("docker0", 3, "172.17.0.1", 4)
    ranked = usable([lo, lo6, docker, scoped, lan6, lan, lan])
    assert ranked == [lan, lan6, scoped, docker, lo, lo6]
    assert reachable_hosts(ranked, 4) == ["192.168.1.5", "172.17.0.1", "127.0.0.1"]
    assert reachable_hosts(ranked, 6) == ["fd00::5", "::1"]
    crowd = usable([lo, *(Interface(f"br-{n}", n, f"10.0.{n}.1", 4) for n in range(200)), lan])
    assert len(crowd) == INTERFACES_MAX
    assert (crowd[0], crowd[-1]) == (lan, lo)


def test_this_host_has_a_loopback_listed_last() -> None:
    found = system_interfaces()
    assert any(each.is_loopback for each in found)
    assert [each.is_loopback for each in found] == sorted(each.is_loopback for each in found)


async def test_the_list_is_told_at_the_start_and_again_on_a_rescan_and_never_inside_the_call() -> None:
    me, peer = identity(1).id, identity(2).id
    source = Bootstrap(
        ["10.0.0.1:7946", "[fd00::1]:7946", "10.0.0.1:7946"],
        [(me, ["10.0.0.9:1"]), (peer, ["10.0.0.2:1", "10.0.0.3:1"]), (peer, [])],
    )
    heard: list[Hint] = []
    source.rescan()  # before the start: nobody to tell
    await source.start(announcement(1), heard.append)
    assert heard == []
    await asyncio.sleep(0)
    expected = [
        Hint("bootstrap", ("10.0.0.1:7946",)),
        Hint("bootstrap", ("[fd00::1]:7946",)),
        Hint("known", ("10.0.0.2:1", "10.0.0.3:1"), peer),
    ]
    assert heard == expected
    source.rescan()
    await asyncio.sleep(0)
    assert heard == expected * 2
    source.rescan()
    await source.stop()
    await asyncio.sleep(0)
    assert heard == expected * 2
    assert source.explain() == {
        "bootstrap": ["10.0.0.1:7946", "[fd00::1]:7946"],
        "known": ["10.0.0.2:1", "10.0.0.3:1"],
        "told": 6,
    }


def test_a_typing_error_in_the_list_is_told_at_once() -> None:
    with pytest.raises(ValueError, match="no address"):
        Bootstrap(["10.0.0.1"])
