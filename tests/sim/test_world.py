"""The world over a toy program: links behave as TCP does, crashes as power cuts, and faults prove that they bit."""

from __future__ import annotations

import asyncio
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sim.node import SimNode
from sim.world import NeverFired, NodeFailed, NotReached, World
from tests.sim.toy import Toy
from transport.base import SECOND, DialFault

ROOT = Path(__file__).parents[2]


def pair(world: World, **options: Any) -> tuple[SimNode, SimNode]:
    a, b = world.spawn(2, program=Toy, **options)
    a.node.dial("10.0.0.2:7000")
    world.run_for(0.2)
    assert a.node.conduits and b.node.conduits
    return a, b


def test_messages_arrive_in_order_and_the_scout_finds_both_ways() -> None:
    with World(1) as world:
        a, b = pair(world, beat_s=1e6)
        for each in range(100):
            a.node.say(b"%d" % each)
        world.run_for(1.0)
        assert b.node.got == [b"%d" % each for each in range(100)]
        assert {hint.node for hint in a.node.hints} == {b.node.public}
        assert {hint.addresses for hint in b.node.hints} == {("10.0.0.1:7000",)}


def test_a_cut_is_silence_and_what_was_said_arrives_after_a_heal() -> None:
    with World(2) as world:
        a, b = pair(world, beat_s=1e6)
        with world.partition([a], [b]) as cut:
            a.node.say(b"late")
            a.node.dial("10.0.0.2:7000", 2.0)
            world.run_for(5.0)
            assert b.node.got == [] and a.node.closed == []
            assert [each.fault for each in a.node.failed] == [DialFault.TIMEOUT]
        assert cut.fired > 0
        world.run_for(10.0)
        assert b.node.got == [b"late"]
        assert world.stats["frames"]["cut"] > 0


def test_a_long_cut_closes_the_sender_and_leaves_the_other_half_open() -> None:
    with World(3) as world:
        a, b = pair(world, beat_s=1e6)
        with world.partition([a], [b]):
            a.node.say(b"lost")
            began = world.loop.now
            world.run_for(20.0)
            (when, reason) = a.node.closed[0]
            assert reason == "timed out" and when - began == 15 * SECOND
            assert b.node.closed == []
        world.run_for(5.0)
        assert b.node.closed == []  # it said nothing, so it knows nothing
        b.node.say(b"hello?")
        world.run_for(1.0)
        assert [reason for _, reason in b.node.closed] == ["reset by peer"]
        assert b.node.got == []


def test_one_way_lets_the_other_way_through_but_not_its_acknowledgement() -> None:
    with World(4) as world:
        a, b = pair(world, beat_s=1e6)
        with world.one_way(a, b):
            a.node.say(b"to b")
            b.node.say(b"to a")
            world.run_for(10.0)
            assert b.node.got == [] and a.node.got == [b"to a"]
            world.run_for(10.0)
            assert [reason for _, reason in b.node.closed] == ["timed out"]


def test_a_clog_bursts() -> None:
    with World(5) as world:
        a, b = pair(world, beat_s=1e6)
        with world.clog(a, b):
            for each in range(10):
                a.node.say(b"%d" % each)
            world.run_for(60.0)
            assert b.node.got == []
        world.run_for(0.1)
        assert b.node.got == [b"%d" % each for each in range(10)]


def test_bandwidth_makes_a_backlog_that_drains() -> None:
    with World(6) as world:
        a, b = pair(world, beat_s=1e6)
        (conduit,) = a.node.conduits.values()
        drained: list[int] = []
        conduit.on_drained = lambda: drained.append(world.loop.now)
        with world.bandwidth(100_000):
            for _ in range(10):
                a.node.say(bytes(100_000))
            assert conduit.backlog > 500_000
            world.run_for(8.0)
            assert len(b.node.got) == 7 and len(drained) == 0
            world.run_for(2.5)
            assert len(b.node.got) == 10 and len(drained) == 1 and conduit.backlog == 0


def test_latency_delays_and_loss_costs_delay() -> None:
    with World(7) as world:
        a, b = pair(world, beat_s=1e6)
        with world.latency(0.0, least=0.5):
            began = world.loop.now
            a.node.say(b"slow")
            world.run_for(1.0)
            assert b.node.times[0] - began >= SECOND // 2
        with world.loss(0.5):
            for _ in range(20):
                a.node.say(b"again")
                world.run_for(3.0)
        world.run_for(15.0)
        assert b.node.closed or len(b.node.got) == 21  # all of it, or the link ended


@pytest.mark.parametrize("probability", [0.01, 0.1, 0.3])
def test_loss_of_datagrams_measures_what_was_asked(probability: float) -> None:
    with World(8) as world:
        a, b = world.spawn(2, program=Toy, beat_s=1e6)
        with world.loss(probability):
            here, there = a.machine, b.machine
            before = dict(world.network.datagrams)
            count = 4000
            for _ in range(count):
                world.network.datagram(here, there, b"x", lambda: None)
            lost = world.network.datagrams["lost"] - before["lost"]
            world.run_for(1.0)
        sigma = math.sqrt(count * probability * (1 - probability))
        assert abs(lost - count * probability) <= 3 * sigma


def test_a_crash_runs_no_finally_and_peers_hear_silence() -> None:
    with World(9) as world:
        a, b = pair(world)
        old = b.node
        b.crash()
        world.run_for(10.0)
        assert old.ended == [] and a.node.closed == []
        world.run_for(10.0)
        assert [reason for _, reason in a.node.closed] == ["timed out"]
        a.node.dial("10.0.0.2:7000", 2.0)
        world.run_for(3.0)
        assert a.node.failed[-1].fault is DialFault.TIMEOUT
        assert old.ended == []


def test_a_restart_soon_after_resets_what_was_open() -> None:
    with World(10) as world:
        a, b = pair(world)
        b.crash()
        world.run_for(1.0)
        b.restart()
        world.run_for(8.0)
        assert [reason for _, reason in a.node.closed] == ["reset by peer"]
        a.node.dial("10.0.0.2:7000")
        world.run_for(1.0)
        assert a.node.conduits


def test_a_kill_closes_at_once_and_its_port_refuses() -> None:
    with World(11) as world:
        a, b = pair(world)
        old = b.node
        b.kill()
        world.run_for(0.1)
        assert [reason for _, reason in a.node.closed] == ["reset by peer"]
        a.node.dial("10.0.0.2:7000")
        world.run_for(0.1)
        assert a.node.failed[-1].fault is DialFault.REFUSED
        assert old.ended == []


def test_a_dial_to_nowhere_says_how_it_failed() -> None:
    with World(12) as world:
        (a,) = world.spawn(1, program=Toy)
        for address in ("10.0.9.9:1", "nonsense", "10.0.0.1:1"):
            a.node.dial(address)
        world.run_for(6.0)
        assert {each.address: each.fault for each in a.node.failed} == {
            "10.0.9.9:1": DialFault.UNREACHABLE,
            "nonsense": DialFault.INVALID,
            "10.0.0.1:1": DialFault.REFUSED,
        }


@pytest.mark.parametrize("seed", range(10))
def test_what_was_durable_survives_and_the_rest_is_lost_kept_or_torn(seed: int) -> None:
    with World(seed) as world:
        a, _ = pair(world, beat_s=1e6)
        for each in range(30):
            a.node.say(b"ping %d" % each)
            world.run_for(0.0007)
        durable = a.node.durable
        a.crash()
        a.restart()
        broken = a.node.storage.damaged()
        assert durable <= a.node.durable <= 30
        assert len(broken) <= 30 - durable
        assert [raw for raw, _ in a.node.storage.scan("log", b"")] == sorted(
            raw for raw, _ in a.node.storage.scan("log", b"")
        )


def test_power_cuts_do_lose_keep_and_tear() -> None:
    fates: dict[str, int] = {}
    for seed in range(12):
        with World(seed) as world:
            a, _ = pair(world, beat_s=1e6)
            for each in range(10):
                a.node.say(b"ping %d" % each)
            while not a.process.offloaded:
                world.run_for(0.0002)
            a.crash()
            for name, count in world.stats["machines"].items():
                fates[name] = fates.get(name, 0) + count
    assert fates["disk.lost"] and fates["disk.kept"] and fates["disk.torn"], fates


def test_a_lying_disk_loses_what_it_called_durable() -> None:
    with World(13) as world:
        a, _ = pair(world, beat_s=1e6)
        a.node.say(b"ping 0")
        world.run_for(0.1)
        with a.lying_disk():
            a.node.say(b"ping 1")
            world.run_for(0.1)
            assert a.node.durable == 2
            a.crash()
        a.restart()
        assert a.node.durable == 1


def test_a_wiped_disk_is_empty_and_rot_is_found() -> None:
    with World(14) as world:
        a, _ = pair(world, beat_s=1e6)
        for each in range(3):
            a.node.say(b"ping %d" % each)
        world.run_for(0.1)
        assert a.rot(1) == 1
        assert len(a.node.storage.damaged()) == 1 and len(list(a.node.storage.scan("log", b""))) == 2
        a.crash(disk="wiped")
        a.restart()
        assert a.node.durable == 0


def test_a_pause_delivers_late_and_in_order() -> None:
    with World(15) as world:
        a, b = pair(world, beat_s=1e6)
        b.pause(2.0)
        for each in range(10):
            a.node.say(b"%d" % each)
        world.run_for(1.9)
        assert b.node.got == []
        world.run_for(0.2)
        assert b.node.got == [b"%d" % each for each in range(10)]


def test_skew_is_seen_by_its_own_node_only() -> None:
    with World(16) as world:
        a, b = world.spawn(2, program=Toy)
        a.skew(-3600.0)
        b.drift(1000)
        world.run_for(100.0)
        assert a.node.env.now() - b.node.env.now() == -3600 * SECOND - 100 * SECOND // 1000
        assert a.node.env.mono() == b.node.env.mono()


def test_a_fault_that_never_fired_fails_the_world() -> None:
    with pytest.raises(NeverFired, match="loss"), World(17) as world:
        world.spawn(1, program=Toy)
        with world.loss(0.5):
            world.run_for(1.0)


def test_a_node_that_raises_fails_the_world_with_its_name_and_the_seed() -> None:
    class Broken(Toy):
        async def live(self) -> None:
            await asyncio.sleep(3)
            raise ZeroDivisionError("my bug")

    with pytest.raises(NodeFailed, match="n1/1 raised in the task live at 3") as caught, World(18) as world:
        world.spawn(1, program=Broken)
        world.run_for(10.0)
    assert "seed 18" in caught.value.__notes__[0]
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_demand_that_is_not_met_says_so() -> None:
    with pytest.raises(NotReached, match="within 2 s"), World(19) as world:
        world.run_until(lambda: False, within=2.0)


def test_run_gives_the_result_and_runs_beside_the_nodes() -> None:
    async def waits(node: SimNode) -> int:
        await asyncio.sleep(2.5)
        return len(node.node.got)

    with World(20) as world:
        a, b = pair(world)
        assert world.run(waits(b)) == 2
        assert world.run_in(a, waits(b)) > 2


def story(seed: int) -> str:
    """A bit of everything; its trace."""
    with World(seed) as world:
        a, b, c = world.spawn(3, program=Toy)
        for each in (a, b):
            each.node.dial("10.0.0.3:7000")
        world.run_for(1.0)
        with world.partition([a], [b, c]), world.latency(0.02):
            c.node.say(b"ping 1")
            world.run_for(3.0)
        with world.loss(0.3):
            b.node.say(b"ping 2")
            b.pause(0.5)
            world.run_for(5.0)
        b.crash()
        world.run_for(2.0)
        b.restart()
        world.run_for(1.0)
        return f"{world.trace_hash} {world.stats}"


def test_a_seed_is_a_trace() -> None:
    assert story(3) == story(3)
    assert story(3) != story(4)


def test_the_trace_is_the_same_in_other_processes_and_on_other_pythons() -> None:
    others = os.environ.get("GOSSAMER_PYTHONS", "").split()  # other interpreters that have the dependencies
    program = "from tests.sim.test_world import story; print(story(3).split()[0])"
    hashes = {
        subprocess.run(
            [python, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONMALLOC": allocator, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            check=True,
            text=True,
        ).stdout.strip()
        for python in (sys.executable, *others)
        for hash_seed, allocator in (("1", "malloc"), ("2", "pymalloc"))
    }
    assert hashes == {story(3).split()[0]}


def test_wall_clocks_that_are_years_apart_decide_nothing() -> None:
    """One host lives in the past, one in the future, and both jump: they agree all the same, and later writes win."""
    year = 365 * 86_400.0
    with World(seed=11) as world:
        a, b, c = world.spawn(3)
        a.skew(-30 * year)
        c.skew(20 * year)
        world.run_until(lambda: all(len(each.node.members()) == 3 for each in world.nodes), within=5.0)
        c.node.register("title").set("from the future")
        world.run_until(lambda: a.node.register("title").value == "from the future", within=2.0)
        a.node.register("title").set("from the past, but later")
        a.node.counter("n").increment()
        world.run_until(lambda: c.node.register("title").value == "from the past, but later", within=2.0)
        with world.partition([a], [b, c]):
            a.skew(5 * year)  # a jump while it is cut off
            c.skew(-5 * year)
            for each in world.nodes:
                each.node.counter("n").increment()
                each.node.register("title").set(f"by {each.name}")
            world.run_for(10.0)
        world.run_until(lambda: len({each.node.space("main").digest() for each in world.nodes}) == 1, within=10.0)
        assert {each.node.counter("n").value for each in world.nodes} == {4}
        assert {member.state for each in world.nodes for member in each.node.members()} == {"alive"}
        title = b.node.register("title").value
        for each in world.nodes:  # nobody's stamps are stuck: each can still overwrite what all agreed on
            each.node.register("title").set(f"{each.name} after {title}")
            world.run_until(
                lambda each=each: (
                    {other.node.register("title").value for other in world.nodes} == {f"{each.name} after {title}"}
                ),
                within=2.0,
            )
