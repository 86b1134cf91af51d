"""Wall clocks that are wrong: they order concurrent writes, and decide nothing else."""

from __future__ import annotations

from sim.checkers.convergence import converged
from sim.scenario import scenario
from sim.scenarios.split import everybody_sees_everybody
from sim.world import World

DAY = 86_400.0


@scenario(nodes=3, seeds=range(5))
def clock_jump(world: World) -> None:
    """A machine that boots a day behind, or a year ahead, goes on where it was; a later write still wins."""
    world.run_until(everybody_sees_everybody, within=10.0)
    a, b, c = world.nodes
    for offset in (-DAY, 365 * DAY, 0.0):
        a.node.register("r").set(f"before {offset}")
        world.run_until(converged)
        a.crash()
        a.skew(offset)
        a.restart()
        a.node.register("r").set(f"after {offset}")
        world.run_until(converged)
        world.run_until(everybody_sees_everybody)
        b.node.register("r").set(f"answer {offset}")  # it saw that write, so it beats it, whatever the stamps
        world.run_until(converged)
        assert {each.node.register("r").value for each in (a, b, c)} == {f"answer {offset}"}
    a.crash()
    a.restart()
    world.run_until(converged)
