"""A node inside your program, in ten lines. Run it twice, in two terminals: the two count together."""

import asyncio

from mesh import Node


async def main() -> None:
    async with Node() as node:
        changes = node.space("main").watch("visits")
        node.counter("visits").increment()
        async for change in changes:
            print(f"{change.value} visits, {len(node.members())} members", flush=True)


asyncio.run(main())
