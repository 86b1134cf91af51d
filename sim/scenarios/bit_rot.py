"""Records that fail their checksum are never served, and what they held comes back from others."""

from __future__ import annotations

from sim.checkers.convergence import converged
from sim.scenario import scenario
from sim.scenarios.split import everybody_sees_everybody
from sim.world import World


@scenario(nodes=4, seeds=range(10))
def bit_rot(world: World) -> None:
    """While one node is away its peers write; some of their records rot; it still catches up with everything."""
    world.run_until(everybody_sees_everybody, within=10.0)
    away, *others = world.nodes
    with world.partition([away], others):
        for number in range(30):
            for each in others:
                each.node.counter("n").increment()
            world.run_for(0.1)
            if number == 15:
                world.run_for(5.0)
        for each in others[:2]:
            each.rot(40)
    world.run_until(everybody_sees_everybody, within=20.0)
    world.run_until(converged, within=30.0)
    assert away.node.counter("n").value == 90
