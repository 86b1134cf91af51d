"""Nodes that find each other though half of discovery does not work."""

from __future__ import annotations

from sim.checkers.convergence import converged
from sim.scenario import scenario
from sim.scenarios.split import everybody_sees_everybody
from sim.world import World

SCOUT_WITHIN_S, MDNS_WITHIN_S = 2.0, 5.0


def _meet(world: World, within: float) -> None:
    world.spawn(4)
    world.run_until(everybody_sees_everybody, within=within)
    (late,) = world.spawn(1)
    late.node.counter("n").increment()
    world.run_until(everybody_sees_everybody, within=within)
    world.run_until(converged)
    assert world.nodes[0].node.counter("n").value == 1


@scenario(seeds=range(10))
def mdns_alone(world: World) -> None:
    """A network that drops the scout's multicast: mDNS alone brings everybody together, seconds later."""
    with world.block("scout"):
        _meet(world, MDNS_WITHIN_S)


@scenario(seeds=range(10))
def scout_alone(world: World) -> None:
    """A network without mDNS: the scout brings everybody together at once."""
    with world.block("mdns"):
        _meet(world, SCOUT_WITHIN_S)
        world.run_for(3.0)  # until mDNS would have spoken


@scenario(seeds=range(10))
def nobody_meets(world: World) -> None:
    """With neither nobody is found, and each is a mesh of its own; once the scout is let through they are one."""
    with world.block("mdns"), world.block("scout"):
        for each in world.spawn(3):
            each.node.counter("n").increment()
        world.run_for(30.0)
        assert all(len(each.node.members()) == 1 for each in world.nodes)
    world.run_until(everybody_sees_everybody, within=15.0)
    world.run_until(converged, within=10.0)
    assert {each.node.counter("n").value for each in world.nodes} == {3}
