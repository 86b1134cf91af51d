"""A box office, eight customers, faults drawn from the seed; and what has to be true at the end.

Find the race, make it small, look at it:

    gossamer sim swarm examples/lost_update/story.py --seeds 50
    gossamer sim shrink examples/lost_update/story.py --seed 0
    gossamer sim replay box-office-0.replay.json --report box-office.html
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mesh.errors import MeshError
from sim import World, converged, scenario
from sim.draws import draw_plan
from sim.nemesis import Nemesis
from sim.scenarios.split import everybody_sees_everybody

sys.path.insert(0, str(Path(__file__).parent))
from shop import SEATS, open_office

SECONDS = 8.0


@scenario(nodes=3, seeds=range(5))
def box_office(world: World) -> None:
    """Every seat that was sold is counted."""
    sell(world, open_office, lambda node: node.register("left").value)


def sell(world: World, opened: Callable[[Any], None], left: Callable[[Any], int | None]) -> None:
    """Open an office on the first node, let customers come to the others, and count."""
    world.run_until(everybody_sees_everybody)
    office, *others = world.nodes
    opened(office.node)
    rng = world.seed.stream("customers")
    for number in range(8):
        world.start(customer(world, office.name, others[number % len(others)], number, rng.random() * SECONDS))
    nemesis = Nemesis(world, draw_plan(world, SECONDS, ("partition", "latency", "loss", "clog")))
    nemesis.run(SECONDS)
    nemesis.end()
    world.run_for(5.0)
    world.run_until(converged, within=20.0)
    sold, rest = len(office.node.set("sold")), left(office.node)
    assert sold == 0 or rest == SEATS - sold, f"{sold} seats were sold and {rest} of {SEATS} are left"


async def customer(world: World, office: str, here: Any, number: int, wait: float) -> None:
    """Ask the office for a seat, over the node that is near."""
    await asyncio.sleep(wait)
    name = f"customer-{number}"
    if world.operation(name):  # a name, so that a smaller run can leave this one out
        try:
            await here.node.request(office, "buy", name)
        except MeshError:
            pass  # cut off: perhaps sold, perhaps not; what is counted has to be right either way
