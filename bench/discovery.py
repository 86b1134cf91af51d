"""How long until a node that just started is seen by one that runs, with no address given; beside Zenoh's scouting.

Both in one process, so that imports do not count: from a newcomer's first call to the older one's event. Ours includes
mutual authentication and TLS; Zenoh's default has neither.
"""

from __future__ import annotations

import asyncio
import statistics
import time

from bench.nodes import SECRET
from mesh import Node

ROUNDS = 15


async def ours(number: int) -> float:
    """Milliseconds until the running node lists the newcomer as alive."""
    mesh = f"bench-discovery-{number}"
    async with Node("old", mesh=mesh, secret=SECRET) as old:
        began = time.perf_counter()
        async with Node("new", mesh=mesh, secret=SECRET):
            await old.wait_for_members(2, timeout=10)
            return (time.perf_counter() - began) * 1000


async def zenoh_s(number: int) -> float | None:
    """Milliseconds until a Zenoh session sees the newcomer's liveliness token; None where Zenoh is not installed."""
    try:
        import zenoh
    except ImportError:
        return None
    loop, seen = asyncio.get_running_loop(), asyncio.Event()

    def run() -> tuple[float, object]:
        began = time.perf_counter()
        session = zenoh.open(zenoh.Config())
        session.liveliness().declare_token(f"bench/{number}/new")
        return began, session

    old = await asyncio.to_thread(zenoh.open, zenoh.Config())
    try:
        subscriber = old.liveliness().declare_subscriber(
            f"bench/{number}/**", lambda sample: loop.call_soon_threadsafe(seen.set)
        )
        began, new = await asyncio.to_thread(run)
        await asyncio.wait_for(seen.wait(), 10)
        took = (time.perf_counter() - began) * 1000
        subscriber.undeclare()
        await asyncio.to_thread(new.close)  # type: ignore[attr-defined]
        return took
    finally:
        await asyncio.to_thread(old.close)


async def main() -> None:
    """Alternate, and print medians and the ratio."""
    mine: list[float] = []
    theirs: list[float] = []
    for number in range(ROUNDS):
        mine.append(await ours(number))
        if (other := await zenoh_s(number)) is not None:
            theirs.append(other)
    print(f"gossamer  p50 {statistics.median(mine):7.1f} ms   max {max(mine):7.1f} ms   (authenticated, TLS)")
    if theirs:
        print(f"zenoh     p50 {statistics.median(theirs):7.1f} ms   max {max(theirs):7.1f} ms")
        print(f"ratio     {statistics.median(mine) / statistics.median(theirs):.1f}x zenoh's")
    else:
        print("zenoh is not installed: pip install gossamer[bench]")


if __name__ == "__main__":
    asyncio.run(main())
