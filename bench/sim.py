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

from sim import World
from sim.scenario import find

STORY, SEEDS = "chaos", range(1, 9)
SIZES = {5: 30.0, 12: 30.0, 30: 10.0}  # nodes: seconds of the world's time, in which each writes once a second


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


def told() -> None:
    """The story, seed after seed."""
    story = find(STORY)
    story.tell(0)  # imports, and the key of the mesh's secret
    seconds = events = 0.0
    took = 0.0
    for seed in SEEDS:
        began = time.process_time()
        outcome = story.tell(seed)
        took += time.process_time() - began
        seconds += outcome.seconds
        events += outcome.stats["steps"]
    print(
        f"{STORY}: {len(SEEDS) / took:.1f} seeds a CPU second, {seconds / took:.0f} s of the world's time; "
        f"{events / seconds:.0f} events a second of it, {took / events * 1e6:.0f} us each"
    )
    beside(int(events), took)


def written(nodes: int, seconds: float) -> None:
    """``nodes`` that write once a second each, without faults."""
    with World(seed=7) as world:
        world.spawn(nodes)
        world.run_for(3.0)
        before, frames = world.loop.steps, world.network.frames["sent"]

        def run() -> None:
            for _ in range(round(seconds)):
                for each in world.nodes:
                    each.node.counter("n").increment()
                world.run_for(1.0)

        took = cpu(run)
        events, frames = world.loop.steps - before, world.network.frames["sent"] - frames
    print(
        f"{nodes} nodes, a write a second each: {seconds / took:.0f} s of the world's time a CPU second; "
        f"a second of it is {events / seconds:.0f} events and {frames / seconds:.0f} frames, "
        f"{took / events * 1e6:.0f} us an event"
    )
    beside(events, took)


def beside(events: int, took: float) -> None:
    """The references, for as many events."""
    heap, stock = cpu(lambda: bare_heap(events)), cpu(lambda: stock_asyncio(events))
    print(f"    beside: a bare heap 1/{took / heap:.0f} of that, timers of stock asyncio 1/{took / stock:.0f}")


def main() -> None:
    """All of it."""
    logging.getLogger("gossamer").setLevel(logging.CRITICAL)
    told()
    for nodes, seconds in SIZES.items():
        written(nodes, seconds)


if __name__ == "__main__":
    main()
