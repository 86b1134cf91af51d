"""Scenarios over the toy program, for the tests of scenarios, the command line and the determinism check."""

from __future__ import annotations

from sim import World, scenario
from tests.sim.toy import Toy


@scenario(nodes=2, program=Toy)
def holds(world: World) -> None:
    """A word said in a cut arrives after it."""
    a, b = world.nodes
    a.node.dial("10.0.0.2:7000")
    world.run_for(0.5)
    with world.partition([a], [b]):
        a.node.say(b"word")
        world.run_for(3.0)
        assert b"word" not in b.node.got
    world.run_until(lambda: b"word" in b.node.got)


@scenario(nodes=2, program=Toy, seeds=range(20))
def breaks_sometimes(world: World) -> None:
    """Whoever is quick enough: breaks for some seeds."""
    a, b = world.nodes
    a.node.dial("10.0.0.2:7000")
    world.run_for(0.5)
    with world.latency(0.05):
        a.node.say(b"quick")
        world.run_for(0.05)
        assert b"quick" in b.node.got, "too slow"
