"""How much of the world's time a CPU second simulates: a story under all faults, and quiet meshes of several sizes.

CPU time, not wall time. Beside each: a bare heap that pops and pushes as many timers, and stock asyncio that rings as
many; what is above those is the mesh itself, every byte of which runs.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import time
from collections.abc import Callable
from random import Random

from bench.table import Line, show
from sim import World
from sim.scenario import find

STORY, SEEDS = "chaos", range(1, 9)
SIZES = {5: (30, None), 12: (20, 15.0), 30: (8, None)}  # nodes: seconds of the world's time, and the target


def cpu(work: Callable[[], object]) -> float:
    """CPU seconds that ``work`` takes."""
    began = time.process_time()
    work()
    return time.process_time() - began


def bare_heap(events: int) -> None:
    """Pop the next of a thousand timers and push another, ``events`` times."""
    rng = Random(0)
    heap = [(rng.random(), number) for number in range(1000)]
    heapq.heapify(heap)
    for number in range(events):
        when, _ = heapq.heappop(heap)
        heapq.heappush(heap, (when + rng.random(), number))


def stock_asyncio(events: int) -> None:
    """Ring ``events`` timers of asyncio's own loop, each armed by the one before, all due at once."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        done = loop.create_future()

        def ring(left: int) -> None:
            if left:
                loop.call_later(0, ring, left - 1)
            else:
                done.set_result(None)

        ring(events)
        await done

    asyncio.run(main())


def beside(events: int, seconds: float) -> dict[str, float]:
    """What the references would simulate in a CPU second, had they as many events and nothing in them."""
    return {
        "bare heap": seconds / cpu(lambda: bare_heap(events)),
        "asyncio's timers": seconds / cpu(lambda: stock_asyncio(events)),
    }


def told() -> list[Line]:
    """The story, seed after seed."""
    story = find(STORY)
    story.tell(0)  # imports, and the key of the mesh's secret
    rounds, speeds = [], []
    seconds = events = 0.0
    for seed in SEEDS:
        began = time.process_time()
        outcome = story.tell(seed)
        took = time.process_time() - began
        rounds.append(1 / took)
        speeds.append(outcome.seconds / took)
        seconds += outcome.seconds
        events += outcome.stats["steps"]
    return [
        Line(f"{STORY}: seeds", rounds, "/s", at_least=4.0),
        Line(f"{STORY}: simulated seconds", speeds, "/s", beside=beside(int(events), seconds)),
        Line(f"{STORY}: events a simulated second", [events / seconds], ""),
    ]


def written(nodes: int, seconds: int, at_least: float | None = None) -> list[Line]:
    """``nodes`` that write once a second each, without faults."""
    with World(seed=7) as world:
        world.spawn(nodes)
        world.run_for(3.0)
        before, frames, speeds = world.loop.steps, world.network.frames["sent"], []
        for _ in range(seconds):
            began = time.process_time()
            for each in world.nodes:
                each.node.counter("n").increment()
            world.run_for(1.0)
            speeds.append(1 / (time.process_time() - began))
        events, frames = world.loop.steps - before, world.network.frames["sent"] - frames
    return [
        Line(f"{nodes} nodes: simulated seconds", speeds, "/s", at_least=at_least, beside=beside(events, seconds)),
        Line(f"{nodes} nodes: events a simulated second", [events / seconds], ""),
        Line(f"{nodes} nodes: frames a simulated second", [frames / seconds], ""),
    ]


def main() -> None:
    """All of it."""
    logging.getLogger("gossamer").setLevel(logging.CRITICAL)
    lines = told()
    for nodes, (seconds, at_least) in SIZES.items():
        lines += written(nodes, seconds, at_least)
    show("sim", lines, ["all by CPU time of one core; in the meshes without faults each node writes once a second"])


if __name__ == "__main__":
    main()
