"""A node inside your program, in ten lines. Run it twice, in two terminals: the two count together."""

import asyncio

from mesh import Node


async def main() -> None:
    async with Node() as node:
        visits = node.counter("visits")
        visits.increment()
        async for event in node.space("main").watch("visits"):
            print(event.value, "visits,", len(node.members()), "members")


asyncio.run(main())
