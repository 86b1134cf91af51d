"""A late joiner with 20,000 operations to fetch: how long until it is equal, how many bytes an operation on the wire.

Reference: the bytes of the operations themselves, which no transfer can undercut without compressing.
"""

from __future__ import annotations

import asyncio
import tempfile
import time

from bench.nodes import SECRET, peer
from bench.replication import write
from crdt import Change, Document
from mesh import Node

OPERATIONS = 20_000


def loopback_bytes() -> int:
    """Bytes this machine's loopback has carried so far: TLS, TCP and IP headers included."""
    with open("/proc/net/dev") as table:  # noqa: PTH123
        return next(int(line.split()[1]) for line in table if line.strip().startswith("lo:"))


def floor_bytes() -> float:
    """Bytes an operation has by itself: its item, without frame, signature and transport."""
    made: list[Change] = []
    doc = Document("a" * 64, on_change=made.append, keep_history=False)
    for each in range(OPERATIONS // 3):
        doc.counter("hits").increment()
        doc.set("tags").add(f"tag-{each}")
        doc.map("lights")[f"light-{each % 1000}"] = each
    return sum(len(change.item()) for change in made) / len(made)


async def join() -> tuple[float, float]:
    """Seconds from the joiner's start of contact to equal digests, and bytes an operation."""
    with tempfile.TemporaryDirectory() as here:
        async with Node("writer", secret=SECRET, listen="127.0.0.1:0", discovery=False, data=here) as node:
            write(node, OPERATIONS)
            await node.space("main").flush()
            before, began = loopback_bytes(), time.perf_counter()
            async with peer(None, tuple(node.addresses)) as other:
                await other.ask(do="members", count=2)
                met = time.perf_counter()
                await other.ask(do="until", count=OPERATIONS)
                took = time.perf_counter() - met
                assert await other.ask(do="digest") == node.space("main").digest()
                print(f"process start and handshake {met - began:.2f} s")
            return took, (loopback_bytes() - before) / OPERATIONS


async def main() -> None:
    for _ in range(3):
        took, size = await join()
        floor = floor_bytes()
        print(
            f"equal after {took:6.3f} s   {size:6.1f} bytes an operation, TLS and TCP included   "
            f"{size / floor:.2f}x the {floor:.1f} bytes that the operations are"
        )


if __name__ == "__main__":
    asyncio.run(main())
