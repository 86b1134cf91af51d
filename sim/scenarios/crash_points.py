"""Power cuts at the worst moments."""

from __future__ import annotations

from mesh.config import NodeConfig
from mesh.state.config import StateConfig
from sim.checkers.bounds import quiet
from sim.checkers.convergence import check_values, converged
from sim.points import POINTS, arm
from sim.scenario import scenario
from sim.scenarios.split import everybody_sees_everybody
from sim.workload import Workload
from sim.world import World

ROUNDS = 12


@scenario(
    nodes=3, seeds=range(10), config=NodeConfig(state=StateConfig(fold_frames=8, fold_bytes=2048, durable_every_s=0.3))
)
def crash_points(world: World) -> None:
    """The power goes between an append and its commit, in mid-fold, in mid-snapshot: nothing promised is lost."""
    world.run_until(everybody_sees_everybody, within=10.0)
    rng = world.seed.stream("story")
    workload = Workload(world, writes_per_s=6.0)
    workload.start()
    fired = 0
    for _ in range(ROUNDS):
        node = rng.choice(world.nodes)
        point = arm(world, node, rng.choice(sorted(POINTS)), 0.5)
        world.run_for(1.5)
        fired += point.fired
        point.remove()
        if not node.alive:
            world.run_for(rng.random())
            node.restart()
    workload.stop()
    world.run_until(everybody_sees_everybody, within=20.0)
    world.run_until(converged, within=20.0)
    check_values(world)
    world.run_for(2.0)
    world.run_until(quiet, within=20.0)
    workload.check_end()
    assert fired, "no point was passed"
