"""Bad weather on real hosts: no CPU left, a frozen process, a road that is cut, another address, a long sleep."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.lan.lan import PATIENCE, Host, Lan, Loopback, eventually, lan_of

pytestmark = [pytest.mark.soak, pytest.mark.timeout(180)]


def everywhere(hosts: list[Host], key: str, wanted: object, within_s: float) -> float:
    """Wait until all of them read ``wanted``; how long it took."""
    return eventually(lambda: all(host.value(key) == wanted for host in hosts), within_s, 0.002)[1]


def let_pass(seconds: float) -> None:
    """Weather takes its time: there is nothing to wait for but the clock."""
    threading.Event().wait(seconds)


@contextlib.contextmanager
def no_cpu_left() -> Iterator[None]:
    """Four busy processes for every core, at the same priority as the nodes."""
    busy = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True)
        for _ in range(4 * (os.cpu_count() or 1))
    ]
    try:
        yield
    finally:
        for each in busy:
            each.kill()
        for each in busy:
            each.wait()


def judged(hosts: list[Host], *states: str) -> list[tuple[str, str, str | None]]:
    """Who said of whom that it is in one of ``states``, and why."""
    return [
        (host.name, f"{each['name']} {each['state']}", each["cause"])
        for host in hosts
        for each in host.events()
        if each["event"] == "member" and each["state"] in states
    ]


# -- without root ------------------------------------------------------------------------------------------------------


def test_no_healthy_node_is_called_down_on_an_overloaded_machine(tmp_path: Path) -> None:
    """Three nodes that write, four times more work than there are cores, for 15 s: nobody is declared down."""
    with Loopback(3, tmp_path) as nodes:
        nodes.start()
        nodes.all_alive(5.0)
        with no_cpu_left(), ThreadPoolExecutor(3) as pool:
            until = time.monotonic() + 15.0

            def write(host: Host) -> tuple[int, float]:
                count, worst = 0, 0.0
                while time.monotonic() < until:
                    began = time.monotonic()
                    host.ask("incr", key="n", amount=1)
                    count, worst = count + 1, max(worst, time.monotonic() - began)
                    let_pass(0.05)
                return count, worst

            figures = list(pool.map(write, nodes.hosts))
        print(f"increments and slowest answer under load: {figures}; suspected: {judged(nodes.hosts, 'suspect')}")
        assert judged(nodes.hosts, "down", "left") == []
        nodes.equal(5.0)
        assert nodes.hosts[0].value("n") == sum(count for count, _ in figures)


def test_a_frozen_process_is_down_in_three_seconds_and_returns(tmp_path: Path) -> None:
    """SIGSTOP: silence and nothing else. Then 20 s of sleep with writes on the other side, and it is back."""
    with Loopback(3, tmp_path) as nodes:
        nodes.start()
        nodes.all_alive(5.0)
        frozen, *others = nodes.hosts
        frozen.ask("incr", key="n", amount=1)
        everywhere(nodes.hosts, "n", 1, 2.0)
        frozen.signal(signal.SIGSTOP)
        began = time.monotonic()
        _, took = eventually(lambda: all(host.states()[frozen.name] == "down" for host in others), 3.0)
        print(f"down on all after {took:.2f} s")
        for number in range(20):
            others[number % 2].ask("incr", key="n", amount=10)
        let_pass(max(0.0, 20.0 - (time.monotonic() - began)))
        frozen.signal(signal.SIGCONT)
        nodes.all_alive(5.0)
        took = everywhere(nodes.hosts, "n", 201, 5.0)
        frozen.ask("incr", key="n", amount=1)
        everywhere(nodes.hosts, "n", 202, 2.0)
        nodes.equal(5.0)
        assert not [each for each in judged(nodes.hosts, "down") if each[1] != f"{frozen.name} down"]


# -- on hosts of their own ---------------------------------------------------------------------------------------------


@pytest.fixture
def five(tmp_path: Path) -> Iterator[Lan]:
    with lan_of(5, tmp_path) as lan:
        yield lan


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Lan]:
    with lan_of(3, tmp_path) as lan:
        yield lan


@pytest.mark.lan
def test_five_hosts_in_time(five: Lan) -> None:
    """All list all alive within 3 s of the last start; a put is everywhere within 0.5 s; 5 x 100 is 500."""
    for host in five.hosts[:4]:
        host.start(wait=False)
    for host in five.hosts[:4]:
        host.ready()
    began = time.monotonic()
    five.hosts[4].start()
    ready = time.monotonic() - began
    took = five.all_alive(3.0)
    print(f"ready {ready:.2f} s after it was typed, all alive {took:.3f} s later")
    assert ready + took < 3.0 * PATIENCE
    worst = 0.0
    for number in range(20):
        five.hosts[number % 5].ask("put", key="k", value=number)
        worst = max(worst, everywhere(five.hosts, "k", number, 0.5))
    print(f"a put is everywhere after {worst * 1000:.0f} ms at worst of 20 (control sockets included)")

    def count(host: Host) -> None:
        for _ in range(100):
            host.ask("incr", key="hits", amount=1)

    with ThreadPoolExecutor(max_workers=5) as pool:
        list(pool.map(count, five.hosts))
    everywhere(five.hosts, "hits", 500, 5.0)
    five.equal(2.0)


@pytest.mark.lan
def test_one_wrong_address_among_three(three: Lan) -> None:
    """Multicast is blocked; of three --join one leads nowhere: linked within a second all the same."""
    three.drop_multicast()
    first, second, third = three.hosts
    first.start("--no-discovery", "--listen", f"{first.address}:4747")
    second.start("--listen", f"{second.address}:4747", "--join", f"{first.address}:4747")
    three.all_alive(3.0, [first, second])
    for wrong in ("10.77.0.99:4747", f"{first.address}:1", "10.99.99.99:4747", "no-such-host.invalid:4747"):
        began = time.monotonic()
        third.start("--join", wrong, "--join", f"{first.address}:4747", "--join", f"{second.address}:4747")
        ready = time.monotonic() - began
        took = three.all_alive(1.0)
        print(f"{wrong}: all alive {took:.3f} s after ready ({ready:.2f} s)")
        assert third.leave() == 0


@pytest.mark.lan
def test_a_cut_road_between_two_of_five(five: Lan) -> None:
    """Two hosts cannot reach each other, all others both: a put still arrives within 0.5 s, nobody is called down."""
    five.start()
    five.all_alive(5.0)
    one, two = five.hosts[0], five.hosts[1]
    five.inside(one, f"route add blackhole {two.address}/32")
    five.inside(two, f"route add blackhole {one.address}/32")
    worst = 0.0
    until = time.monotonic() + 12.0  # the link between them ends in that time, with all that follows from it
    number = 0
    while time.monotonic() < until:
        number += 1
        writer, reader = (one, two) if number % 2 else (two, one)
        writer.ask("put", key="k", value=number)
        worst = max(worst, eventually(lambda reader=reader, n=number: reader.value("k") == n, 0.5, 0.002)[1])
        let_pass(0.05)
    print(f"{number} puts around the cut road, {worst * 1000:.0f} ms at worst")
    assert judged(five.hosts, "down", "left") == []
    five.inside(one, f"route del blackhole {two.address}/32")
    five.inside(two, f"route del blackhole {one.address}/32")
    eventually(
        lambda: all(each["rtt_ms"] is not None for each in one.ask("members") if each["name"] != one.name), 40.0, 0.2
    )
    five.equal(5.0)


@pytest.mark.lan
def test_three_parts_from_birth_healed_in_the_worst_order(five: Lan) -> None:
    """Born apart in three; the first two meet, then part, then one of them meets the third, then all."""
    one, two, three_ = five.hosts[:2], five.hosts[2:4], five.hosts[4:]
    five.split(two, three_)
    five.start()
    for part in (one, two, three_):
        five.all_alive(3.0, part)
        part[0].ask("add", key="who", value=part[0].name)
        part[-1].ask("incr", key="n", amount=1)
    five.split([*one, *two], three_)
    five.all_alive(10.0, [*one, *two])
    five.equal(10.0, [*one, *two])
    five.split(one, [*two, *three_])
    five.all_alive(10.0, [*two, *three_])
    five.hosts[2].ask("incr", key="n", amount=10)
    five.equal(10.0, [*two, *three_])
    five.heal()
    took = five.all_alive(10.0)
    _, equal = five.equal(10.0)
    print(f"one component {took:.2f} s after the heal, equal {equal:.2f} s later")
    assert five.hosts[0].value("who") == ["h0", "h2", "h4"]
    assert five.hosts[0].value("n") == 13


@pytest.mark.lan
def test_fifteen_seconds_two_to_three(five: Lan) -> None:
    """Both sides go on for 15 s; then one component in 5 s, equal in 10 s, exactly the joined values."""
    five.start()
    five.all_alive(5.0)
    left, right = five.hosts[:2], five.hosts[2:]
    five.split(right)
    began = time.monotonic()
    written = 0
    while time.monotonic() - began < 15.0:
        for host in five.hosts:
            host.ask("incr", key="n", amount=1)
            written += 1
        let_pass(0.2)
    for here, away in ((left, right), (right, left)):
        for host in here:
            assert {host.states()[each.name] for each in away} == {"down"}
    five.heal()
    took = five.all_alive(5.0)
    _, equal = five.equal(10.0)
    print(f"{written} increments during the cut; one component after {took:.2f} s, equal {equal:.2f} s later")
    assert {host.value("n") for host in five.hosts} == {written}


@pytest.mark.lan
def test_another_address(three: Lan) -> None:
    """A host's address changes under the running node: it is linked again, from both sides, and nothing is lost."""
    three.start()
    three.all_alive(5.0)
    mover, *others = three.hosts
    mover.ask("incr", key="n", amount=1)
    three.inside(
        mover, f"addr del {mover.address}/24 dev eth0", "addr add 10.77.0.101/24 dev eth0",
        "route add default via 10.77.0.254 dev eth0",
    )  # fmt: skip
    others[0].ask("incr", key="n", amount=10)
    mover.ask("incr", key="n", amount=100)

    def is_linked() -> bool:
        return all(
            each["rtt_ms"] is not None and each["state"] == "alive"
            for host in three.hosts
            for each in host.ask("members")
            if each["name"] != host.name
        )

    def knows() -> bool:
        rows = others[0].ask("members")
        return any(
            "10.77.0.101" in address for each in rows if each["name"] == mover.name for address in each["addresses"]
        )

    began = time.monotonic()
    everywhere(three.hosts, "n", 111, 20.0)
    eventually(lambda: knows() and is_linked(), 20.0)
    print(f"equal and linked again {time.monotonic() - began:.2f} s after the address changed")
    three.equal(5.0)


@pytest.mark.lan
def test_a_capture_of_the_lan_shows_nothing(three: Lan, tmp_path: Path) -> None:
    """Every byte on every cable, discovery's datagrams too: no value, no key, no name of the secret."""
    capture = tmp_path / "capture"
    sniffer = subprocess.Popen(
        ["ip", "netns", "exec", three.switches, sys.executable, "-c", SNIFF, str(capture)], stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        assert sniffer.stdout is not None
        assert sniffer.stdout.readline() == "listening\n"
        three.start()
        three.all_alive(5.0)
        for number in range(30):
            three.hosts[number % 3].ask("put", key=f"secretkey{number}", value=f"marker-{number}-" * 20)
        three.equal(5.0)
        three.hosts[2].kill()
        three.hosts[2].start()
        three.all_alive(5.0)
        three.equal(5.0)
    finally:
        sniffer.terminate()
        sniffer.wait()
    seen = capture.read_bytes()
    print(f"{len(seen)} bytes captured")
    assert len(seen) > 20_000
    assert b"gossamer" in seen, "not even the greetings were captured"
    secret = three.secret_file.read_bytes().strip()
    for word in (b"marker", b"secretkey", secret, secret[:12]):
        assert word not in seen


SNIFF = """
import socket, sys
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3)) as raw, open(sys.argv[1], "wb", 0) as file:
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
    print("listening", flush=True)
    while True:
        file.write(raw.recv(1 << 17))
"""
