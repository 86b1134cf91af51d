"""Nothing goes wrong: how fast, and at what price."""

from __future__ import annotations

from sim.checkers.convergence import converged
from sim.scenario import scenario
from sim.scenarios.split import everybody_sees_everybody
from sim.workload import Workload
from sim.world import World

LATENCY_S = 0.05
STABLE_WITHIN_S = 0.6  # measured: 0.14 at most half of the time, 0.35 at worst
MESSAGES = 0.45  # of what the checker allows; measured: 0.36 at most


@scenario(nodes=6, seeds=range(10))
def calm(world: World) -> None:
    """Six nodes far apart write five times a second each: what one acknowledged all others show a moment later."""
    world.run_until(everybody_sees_everybody, within=10.0)
    world.run_for(1.0)
    workload = Workload(world, writes_per_s=5.0, look_every_s=0.02)
    with world.latency(LATENCY_S):
        workload.start()
        world.run_for(8.0)
        workload.stop()
        world.run_until(converged, within=15.0)
    delivered = workload.check_end(messages=MESSAGES)
    delivered.demand(STABLE_WITHIN_S)
    world.note(f"stable latencies: {delivered.stable_s}")
