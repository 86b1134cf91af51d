"""Two nodes, 50,000 counter, set and map operations: how fast are they on the other side, signed, over TLS, with disk?

References: as many messages of 100 bytes over bare aiohttp, one a frame, neither signed nor stored nor over TLS; and
how many operations in frames of 256 one core could verify, were there nothing else to do.
"""

from __future__ import annotations

import asyncio
import tempfile
import time

from bench.memory import peak_mb
from bench.messages import bare
from bench.nodes import SECRET, peer
from mesh import Node
from transport.identity import ED25519

OPERATIONS = 50_000


def write(node: Node, count: int) -> None:
    """``count`` operations of an even mixture, one transaction each, in a loop as a program would."""
    space = node.space("main")
    hits, tags, lights = space.counter("hits"), space.set("tags"), space.map("lights")
    for each in range(count // 3):
        hits.increment()
        tags.add(f"tag-{each}")
        lights[f"light-{each % 1000}"] = each
    for _ in range(count - count // 3 * 3):
        hits.increment()


async def replicate(disk: bool) -> float:
    """Operations a second, from the first write to equal clocks on the other process."""
    with tempfile.TemporaryDirectory() as here, tempfile.TemporaryDirectory() as there:
        async with (
            Node("writer", secret=SECRET, listen="127.0.0.1:0", discovery=False, data=here if disk else None) as node,
            peer(there if disk else None, tuple(node.addresses)) as other,
        ):
            await other.ask(do="members", count=2)
            await node.wait_for_members(2, timeout=10)
            began = time.perf_counter()
            arrived = asyncio.ensure_future(other.ask(do="until", count=OPERATIONS))
            await asyncio.sleep(0)
            for _ in range(50):  # a program that writes in bursts and lets the loop run between them
                write(node, OPERATIONS // 50)
                await asyncio.sleep(0)
            await arrived
            took = time.perf_counter() - began
            assert await other.ask(do="digest") == node.space("main").digest()
            return OPERATIONS / took


def verified() -> float:
    """Operations a second that one core could verify in frames of 256, were there nothing else to do."""
    public, secret = ED25519.keypair(b"1" * 32)
    message = b"x" * 160
    signature = ED25519.sign(secret, message)
    began = time.perf_counter()
    for _ in range(2000):
        ED25519.verify(public, message, signature)
    return 2000 * 256 / (time.perf_counter() - began)


async def main() -> None:
    """Alternate the cases and print the best of three, as ratios."""
    memory, disk, plain = [], [], []
    for _ in range(3):
        memory.append(await replicate(False))
        disk.append(await replicate(True))
        plain.append(await bare(OPERATIONS))
    bound, reference = verified(), max(plain)
    for name, rate in (("in memory", max(memory)), ("with disk", max(disk))):
        ratios = f"{rate / reference:5.2f}x bare aiohttp   {rate / bound:5.1%} of Ed25519"
        print(f"replicated, {name}  {rate:>9,.0f} ops/s   {ratios}")
    print(f"bare aiohttp           {reference:>9,.0f} messages/s")
    print(f"Ed25519, 256 a frame   {bound:>9,.0f} ops/s verified by one core")
    print(f"writer's peak memory   {peak_mb():,.0f} MB")


if __name__ == "__main__":
    asyncio.run(main())
