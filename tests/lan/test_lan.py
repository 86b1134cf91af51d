"""What users of several machines are promised, tried on real hosts: discovery, a cut, a kill, a wrong secret."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.lan.lan import ROOT, Host, Lan, eventually, lan_of

pytestmark = [pytest.mark.lan, pytest.mark.timeout(120)]


@pytest.fixture
def five(tmp_path: Path) -> Iterator[Lan]:
    """Five hosts on one switch, nothing started."""
    with lan_of(5, tmp_path) as lan:
        yield lan


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Lan]:
    """Three hosts on one switch, nothing started."""
    with lan_of(3, tmp_path) as lan:
        yield lan


def everywhere(lan: Lan, key: str, wanted: object, within_s: float) -> float:
    """Wait until all hosts read ``wanted``; how long it took."""
    return eventually(lambda: all(host.value(key) == wanted for host in lan.hosts), within_s)[1]


def test_five_hosts_with_nothing_but_a_secret_file(five: Lan) -> None:
    """They find each other, a write is everywhere, 500 concurrent increments are 500, and the commands tell so."""
    five.start()
    five.all_alive(within_s=3.0)

    five.hosts[0].ask("put", key="greeting", value="hello")
    everywhere(five, "greeting", "hello", within_s=0.5)

    def count(host: Host) -> None:
        for _ in range(100):
            host.ask("incr", key="hits", amount=1)

    with ThreadPoolExecutor(max_workers=5) as pool:
        list(pool.map(count, five.hosts))
    everywhere(five, "hits", 500, within_s=5.0)
    five.equal(within_s=2.0)

    told = five.hosts[3].run("members", "--json")
    assert (told.returncode, told.stderr) == (0, "")
    rows = json.loads(told.stdout)
    assert sorted(row["name"] for row in rows) == ["h0", "h1", "h2", "h3", "h4"]
    assert {row["state"] for row in rows} == {"alive"}
    assert five.hosts[4].run("get", "greeting").stdout == "hello\n"
    assert five.hosts[4].run("doctor").returncode == 0


def test_a_cut_two_to_three_and_the_heal(five: Lan) -> None:
    """Each side reports the others gone and goes on writing; healed, both sides' writes are there, once."""
    five.start()
    five.all_alive(within_s=5.0)
    five.hosts[0].ask("incr", key="n", amount=1)
    everywhere(five, "n", 1, within_s=2.0)
    left, right = five.hosts[:2], five.hosts[2:]

    five.split(right)
    for here, away in ((left, right), (right, left)):
        for host in here:
            eventually(lambda host=host, away=away: {host.states()[each.name] for each in away} == {"down"}, 10.0)
    for host in five.hosts:
        host.ask("incr", key="n", amount=10)
        host.ask("add", key="who", value=host.name)
    eventually(lambda: all(host.value("n") == 21 for host in left), 2.0)
    eventually(lambda: all(host.value("n") == 31 for host in right), 2.0)

    five.heal()
    five.all_alive(within_s=5.0)
    five.equal(within_s=10.0)
    assert five.hosts[0].value("n") == 51
    assert five.hosts[4].value("who") == ["h0", "h1", "h2", "h3", "h4"]


def test_a_cut_at_birth(five: Lan) -> None:
    """Two groups that never saw each other become one mesh when the cable is plugged in."""
    left, right = five.hosts[:2], five.hosts[2:]
    five.split(right)
    five.start()
    five.all_alive(within_s=3.0, hosts=left)
    five.all_alive(within_s=3.0, hosts=right)
    left[0].ask("add", key="who", value="left")
    right[0].ask("add", key="who", value="right")
    five.heal()
    five.all_alive(within_s=10.0)
    five.equal(within_s=10.0)
    assert left[1].value("who") == ["left", "right"]


def test_a_three_way_cut_healed_in_the_worst_order(five: Lan) -> None:
    """Two of three parts meet first and must not settle without the third."""
    five.start()
    five.all_alive(within_s=5.0)
    one, two, three = five.hosts[:1], five.hosts[1:3], five.hosts[3:]
    five.split(two, three)
    eventually(lambda: five.hosts[0].states() == {"h0": "alive", **dict.fromkeys(("h1", "h2", "h3", "h4"), "down")}, 10)
    for host in five.hosts:
        host.ask("incr", key="n", amount=1)
        host.ask("field", key="m", field=host.name, value=True)
    five.split([*two, *three])
    five.all_alive(within_s=10.0, hosts=[*two, *three])
    five.equal(within_s=10.0, hosts=[*two, *three])
    assert five.hosts[4].value("n") == 4
    two[0].ask("field", key="m", field="h1", value=False)
    five.heal()
    five.all_alive(within_s=10.0)
    five.equal(within_s=10.0)
    assert one[0].value("n") == 5
    assert one[0].value("m") == {"h0": True, "h1": False, "h2": True, "h3": True, "h4": True}


def test_a_broken_link_between_two_is_no_hindrance(three: Lan) -> None:
    """h0 and h1 cannot link to each other: writes go round by h2, in time, and nobody is called dead."""
    three.start("--chaos")
    three.all_alive(within_s=5.0)
    first, second, _ = three.hosts
    first.ask("cut", nodes=[second.id])
    second.ask("cut", nodes=[first.id])
    for number in range(20):
        first.ask("put", key="k", value=number)
        eventually(lambda number=number: second.value("k") == number, 0.5)
    assert set(first.states().values()) == set(second.states().values()) == {"alive"}


PROGRAM = """
import asyncio, sys
from pathlib import Path
from mesh import Node

async def main(secret, data):
    async with Node("h0", secret=secret, data=data, discovery=False) as node:
        for number in range(20_000):
            node.counter(f"key{number % 200}").increment()
            if number % 500 == 0:
                await node.space("main").flush()
        await node.space("main").flush()

asyncio.run(main(Path(sys.argv[1]).read_text(), sys.argv[2]))
"""


def test_a_late_joiner_catches_up(three: Lan) -> None:
    """20,000 operations written by one program in a loop; who joins then is equal within 3 s of being ready."""
    writer, late, _ = three.hosts
    subprocess.run([sys.executable, "-c", PROGRAM, three.secret_file, writer.data], cwd=ROOT, check=True, timeout=60)
    writer.start()
    assert sum(writer.ask("dump")["value"].values()) == 20_000
    late.start()
    _, took = three.equal(within_s=3.0, hosts=[writer, late])
    assert late.value("key0") == 100
    print(f"equal {took:.3f} s after ready")


def test_a_killed_node_is_missed_at_once_and_returns_with_everything(three: Lan) -> None:
    """``kill -9`` while it writes: noticed in half a second, and nothing acknowledged is lost."""
    three.start()
    three.all_alive(within_s=5.0)
    victim, *others = three.hosts
    acknowledged = sum(victim.ask("incr", key="n", amount=1) > 0 for _ in range(50))
    victim.kill()
    eventually(lambda: all(host.states()[victim.name] == "down" for host in others), 0.5)
    before = victim.id
    victim.start()
    assert victim.id == before
    three.all_alive(within_s=5.0)
    everywhere(three, "n", acknowledged, within_s=5.0)
    three.equal(within_s=5.0)


def test_a_frozen_node_is_missed_and_comes_back(three: Lan) -> None:
    """SIGSTOP says nothing on the wire: silence is noticed in 3 s, and the return is no new node."""
    three.start()
    three.all_alive(within_s=5.0)
    frozen, *others = three.hosts
    frozen.signal(signal.SIGSTOP)
    eventually(lambda: all(host.states()[frozen.name] == "down" for host in others), 3.0)
    others[0].ask("incr", key="n", amount=7)
    frozen.signal(signal.SIGCONT)
    three.all_alive(within_s=10.0)
    everywhere(three, "n", 7, within_s=5.0)


def test_without_multicast_one_address_is_enough(three: Lan) -> None:
    """The switch drops multicast: nobody is found, ``doctor`` says so, and one --join (among wrong ones) is enough."""
    three.drop_multicast()
    first, second, third = three.hosts
    first.start("--listen", f"{first.address}:4747")
    second.start()
    assert second.states() == {"h1": "alive"}
    third.start("--join", "10.77.0.99:4747", "--join", f"{first.address}:4747", "--join", f"{first.address}:1")
    three.all_alive(within_s=3.0, hosts=[first, third])
    assert "h1" not in first.states()
    told = second.run("doctor")
    assert told.returncode == 1
    assert "--join" in told.stdout


def test_a_wrong_secret_is_refused_and_says_so(three: Lan) -> None:
    """The stranger is nobody's member and reads nothing; both sides say what happened."""
    insiders, stranger = three.hosts[:2], three.hosts[2]
    three.start(hosts=insiders)
    three.all_alive(within_s=5.0, hosts=insiders)
    insiders[0].ask("put", key="k", value="inside")
    stranger.start("--join", f"{insiders[0].address}:17470", secret="another-secret-of-many-bits")
    eventually(lambda: any(each["event"] == "refused" for each in stranger.events() + insiders[0].events()), 5.0)
    watch_until = time.monotonic() + 1.0
    while time.monotonic() < watch_until:
        assert set(stranger.states()) == {"h2"}
        assert set(insiders[0].states()) == {"h0", "h1"}
        assert stranger.value("k") is None
    told = stranger.run("doctor")
    assert told.returncode == 1
    assert "secret" in told.stdout


def test_goodbye_is_seen_as_left(three: Lan) -> None:
    """SIGTERM: exit code 0, and the others see ``left`` rather than a failure."""
    three.start()
    three.all_alive(within_s=5.0)
    assert three.hosts[0].leave() == 0
    eventually(lambda: all(host.states()["h0"] == "left" for host in three.hosts[1:]), 2.0)
    assert three.hosts[1].run("leave").returncode == 0
    eventually(lambda: three.hosts[2].states()["h1"] == "left", 2.0)
