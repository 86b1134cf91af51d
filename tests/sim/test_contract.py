"""DESIGN section 11 on the simulator, as an outsider would type it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mesh import Node, NodeConfig
from sim import NeverFired, World, check_clocks, converged
from sim.scenarios.split import everybody_sees_everybody


def test_the_page_as_it_stands() -> None:
    with World(seed=7) as world:
        a, b, c = world.spawn(3)
        assert [each.name for each in world.nodes] == ["n1", "n2", "n3"] and isinstance(a.node, Node)
        world.run(a.node.wait_for_members(3, timeout=5.0))
        a.node.counter("hits").increment(3)  # between runs, time stands still
        old = b.node
        b.crash()
        world.run_for(1.0)
        b.restart()
        assert b.node is not old and b.name == "n2"
        a.pause(0.5)
        c.skew(30.0)
        with world.partition([a], [b, c]):
            world.run_for(10.0)
        with world.latency(0.05), world.loss(0.05), world.bandwidth(1_000_000):
            world.run_for(5.0)
        one_way, clog = world.one_way(a, b), world.clog(b, c)
        world.run_for(5.0)
        one_way.remove()
        clog.remove()
        world.run_until(everybody_sees_everybody, within=15.0)
        took = world.run_until(lambda: converged(world), within=10.0)
        assert took >= 0 and c.node.counter("hits").value == 3
        assert len(world.trace_hash) == 32
        stats = world.stats
        assert {"sent", "delayed", "cut", "lost"} <= set(stats["frames"]) & set(stats["datagrams"])
        assert all(stats["faults"][name] for name in ("partition", "one_way", "clog", "latency", "loss", "skew"))


def test_node_options_reach_every_node_and_messages_travel() -> None:
    with World(3) as world:
        a, b = world.spawn(2, open=True, mesh="lab", config=NodeConfig())
        assert a.node.mesh_name == "lab"

        @b.node.on("sum")
        async def add(request: Any) -> int:
            await asyncio.sleep(1.0)
            return sum(request.body)

        world.run(a.node.wait_for_members(2, timeout=5.0))
        began = world.now
        assert world.run(a.node.request("n2", "sum", [1, 2, 3])) == 6
        assert 1.0 < world.now - began < 1.1


def test_a_mesh_without_discovery_needs_the_list() -> None:
    with World(4) as world:
        (a,) = world.spawn(1, discovery=False)
        (b,) = world.spawn(1, discovery=False, bootstrap=a.node.addresses)
        (c,) = world.spawn(1, discovery=False)
        world.run(b.node.wait_for_members(2, timeout=5.0))
        world.run_for(20.0)
        assert len(c.node.members()) == 1


def test_another_secret_never_gets_in() -> None:
    with World(5) as world:
        a, _ = world.spawn(2, secret="right")
        (wrong,) = world.spawn(1, secret="wrong")
        a.node.counter("n").increment()
        world.run_for(30.0)
        assert len(wrong.node.members()) == 1 and wrong.node.counter("n").value == 0
        assert len(a.node.members()) == 2


def test_a_quorum_confirms_and_a_minority_does_not() -> None:
    with World(6) as world:
        a, b, c = world.spawn(3)
        world.run_until(everybody_sees_everybody)
        a.node.counter("n").increment()
        world.run(a.node.space("main").confirm("quorum", timeout=2.0))
        with world.partition([a], [b, c]):
            a.node.counter("n").increment()
            with pytest.raises(Exception, match="not confirmed"):
                world.run(a.node.space("main").confirm("quorum", timeout=2.0))
        world.run(a.node.space("main").confirm("all", timeout=20.0))
        assert all(each.node.counter("n").value == 2 for each in (b, c))


def test_a_node_that_leaves_is_seen_to_have_left() -> None:
    with World(7) as world:
        a, b = world.spawn(2)
        world.run_until(everybody_sees_everybody)
        b.stop()
        world.run_until(lambda: any(each.state == "left" for each in a.node.members()), within=2.0)
        b.restart()
        world.run_until(everybody_sees_everybody, within=10.0)


def test_a_fault_nobody_felt_is_an_error() -> None:
    with pytest.raises(NeverFired, match="partition"), World(8) as world:
        a, b = world.spawn(2, discovery=False)
        world.partition([a], [b])


def test_equal_clocks_are_equal_digests_also_while_apart() -> None:
    with World(9) as world:
        a, b, c = world.spawn(3)
        world.run_until(everybody_sees_everybody)
        with world.partition([a], [b, c]):
            for _ in range(20):
                for each in world.nodes:
                    each.node.map("m").counter("n").increment()
                world.run_for(0.3)
                check_clocks(world)
        world.run_until(everybody_sees_everybody, within=20.0)
        world.run_until(converged, within=10.0)
        assert a.node.map("m").counter("n").value == 60
