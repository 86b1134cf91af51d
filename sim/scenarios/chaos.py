"""Everything at once: clients on all nodes, faults drawn from the seed, then quiet, then agreement."""

from __future__ import annotations

from mesh.config import NodeConfig
from mesh.state.config import StateConfig
from sim.checkers.bounds import quiet
from sim.checkers.convergence import converged
from sim.checkers.rounds import demand_rounds
from sim.draws import draw_plan
from sim.nemesis import Nemesis
from sim.scenario import scenario
from sim.scenarios.split import everybody_sees_everybody
from sim.workload import Workload
from sim.world import World

WARM_UP_S, FAULTS_S, HEAL_WITHIN_S = 2.0, 25.0, 40.0
ROUNDS = 4  # of repair, once the links are back; a disk that refused is tried again after 15 s, three of them


@scenario(nodes=5, seeds=range(10))
def chaos(world: World) -> None:
    """Five nodes, two writes a second each, all faults for 25 s: nothing acknowledged is lost, and all agree."""
    told(world)


@scenario(
    nodes=5, seeds=range(10), config=NodeConfig(state=StateConfig(fold_frames=12, fold_bytes=4096, durable_every_s=0.5))
)
def chaos_folding(world: World) -> None:
    """The same with nodes that fold their logs every few seconds, so that whoever was away is sent snapshots."""
    told(world)


def told(world: World) -> None:
    """Quiet, then faults under load, then quiet again; then everything is demanded."""
    world.run_until(everybody_sees_everybody, within=10.0)
    workload = Workload(world)
    workload.start()
    world.run_for(WARM_UP_S)
    nemesis = Nemesis(world, draw_plan(world, FAULTS_S))
    nemesis.run(FAULTS_S)
    workload.stop()
    nemesis.end()
    rounds = demand_rounds(world, ROUNDS)
    world.run_until(everybody_sees_everybody, within=HEAL_WITHIN_S)
    world.run_for(2.0)
    world.run_until(converged, within=HEAL_WITHIN_S)
    world.run_until(quiet, within=20.0)
    delivered = workload.check_end()
    world.note(f"{workload.summary()}; agreed after {rounds:.1f} rounds; stable latencies {delivered.stable_s}")
