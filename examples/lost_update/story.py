"""Three box offices, a few customers, faults drawn from the seed; and what has to be true at the end.

gossamer sim swarm examples/lost_update/story.py --seeds 50
gossamer sim shrink examples/lost_update/story.py --seed N
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from mesh.errors import MeshError
from sim import World, converged, scenario
from sim.nemesis import Nemesis, draw_plan
from sim.scenarios.split import everybody_sees_everybody

sys.path.insert(0, str(Path(__file__).parent))
from shop import SEATS, open_office


@scenario(nodes=3, seeds=range(5))
def box_office(world: World) -> None:
    """Every seat that was sold is counted."""
    world.run_until(everybody_sees_everybody)
    office, *others = world.nodes
    open_office(office.node)

    async def customer(name: str, wait: float) -> None:
        await asyncio.sleep(wait)
        asks = others[len(name) % len(others)]
        if asks.answers and world.operation(name):
            try:
                await asks.node.request(office.name, "buy", name)
            except MeshError:
                pass  # cut off: perhaps sold, perhaps not; the demand below holds either way

    rng = world.seed.stream("customers")
    for number in range(8):
        world.start(customer(f"customer-{number}", rng.random() * 8.0))
    nemesis = Nemesis(world, draw_plan(world, 8.0, ("partition", "latency", "loss", "clog")))
    nemesis.run(8.0)
    nemesis.end()
    world.run_for(5.0)
    world.run_until(converged, within=20.0)
    sold = len(office.node.set("sold"))
    left = office.node.register("left").value
    assert sold == 0 or left == SEATS - sold, f"{sold} seats were sold and {left} of {SEATS} are left"
