"""``python -m bench``: every figure, one after the other. ``python -m bench.NAME`` runs one."""

from __future__ import annotations

import asyncio

from bench import broadcast, crdt, discovery, join, replication

BENCHES = (discovery, broadcast, replication, join, crdt)


async def main() -> None:
    for each in BENCHES:
        print(f"\n== {(each.__doc__ or '').splitlines()[0]}")
        await each.main()


if __name__ == "__main__":
    asyncio.run(main())
