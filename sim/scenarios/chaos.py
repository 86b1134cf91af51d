"""Everything at once: clients on all nodes, faults drawn from the seed, then quiet, then agreement."""

from __future__ import annotations

from sim.checkers.convergence import converged
from sim.nemesis import Nemesis, draw_plan
from sim.scenario import scenario
from sim.scenarios.split import everybody_sees_everybody
from sim.workload import Workload
from sim.world import World

WARM_UP_S, FAULTS_S, HEAL_WITHIN_S = 2.0, 25.0, 40.0


@scenario(nodes=5, seeds=range(10))
def chaos(world: World) -> None:
    """Five nodes, two writes a second each, all faults for 25 s: nothing acknowledged is lost, and all agree."""
    world.run_until(everybody_sees_everybody, within=10.0)
    workload = Workload(world)
    workload.start()
    world.run_for(WARM_UP_S)
    nemesis = Nemesis(world, draw_plan(world, FAULTS_S))
    nemesis.run(FAULTS_S)
    workload.stop()
    nemesis.end()
    world.run_until(converged, within=HEAL_WITHIN_S)
    world.run_until(everybody_sees_everybody, within=HEAL_WITHIN_S)
    world.run_for(2.0)
    world.run_until(converged, within=HEAL_WITHIN_S)
    workload.check_end()
    world.note(workload.summary())
