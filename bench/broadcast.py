"""A write on one of five nodes: how long until the last of the others reads it; beside Zenoh put to subscribers.

All nodes in one process (one core), linked over loopback; signed and over TLS on our side, in memory. A write goes as
a change of shared state: sealed, verified, applied.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time

from bench.nodes import SECRET
from mesh import Node

NODES, ROUNDS = 5, 200


async def ours() -> list[float]:
    """Milliseconds from each write to the last node that shows it."""
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(Node("n0", secret=SECRET, listen="127.0.0.1:0", discovery=False))
        nodes = [first]
        for number in range(1, NODES):
            node = Node(f"n{number}", secret=SECRET, listen="127.0.0.1:0", discovery=False, bootstrap=first.addresses)
            nodes.append(await stack.enter_async_context(node))
        for node in nodes:
            await node.wait_for_members(NODES, timeout=10)
        watches = [node.space("main").watch("x") for node in nodes[1:]]
        took = []
        for number in range(ROUNDS):
            began = time.perf_counter()
            first.register("x").set(number)
            await asyncio.gather(*(anext(watch) for watch in watches))
            took.append((time.perf_counter() - began) * 1000)
        return took


async def zenoh_s() -> list[float]:
    """The same with Zenoh sessions in one process; empty where it is not installed."""
    try:
        import zenoh
    except ImportError:
        return []
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[float] = asyncio.Queue(maxsize=64)
    sessions = [await asyncio.to_thread(zenoh.open, zenoh.Config()) for _ in range(NODES)]

    def tell(_: object) -> None:
        loop.call_soon_threadsafe(arrived.put_nowait, time.perf_counter())

    subscribers = [session.declare_subscriber("bench/x", tell) for session in sessions[1:]]
    publisher = sessions[0].declare_publisher("bench/x")
    await asyncio.sleep(1.0)  # its scouting has no event for "all subscriptions are known"
    took = []
    for number in range(ROUNDS):
        began = time.perf_counter()
        publisher.put(str(number))
        last = max([await asyncio.wait_for(arrived.get(), 5) for _ in subscribers])
        took.append((last - began) * 1000)
    for session in sessions:
        await asyncio.to_thread(session.close)
    return took


def _line(name: str, took: list[float]) -> str:
    p50, p99 = statistics.median(took), statistics.quantiles(took, n=100)[98]
    return f"{name:<9} p50 {p50:6.2f} ms   p99 {p99:6.2f} ms"


async def main() -> None:
    """Alternate three times; print medians and the ratio."""
    mine: list[float] = []
    theirs: list[float] = []
    for _ in range(3):
        mine += await ours()
        theirs += await zenoh_s()
    print(_line("gossamer", mine) + "   (shared state: signed, TLS, verified, applied)")
    if theirs:
        print(_line("zenoh", theirs) + "   (a message: not signed, no TLS)")
        print(f"ratio     {statistics.median(mine) / statistics.median(theirs):.1f}x zenoh's")


if __name__ == "__main__":
    asyncio.run(main())
