"""Durable messages as fast as they are acknowledged, and a flood to a reader a hundred times too slow.

Two processes over loopback, both with a disk. ``python -m bench letters [--json]``; compare within one run only.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.memory import peak_mb
from bench.nodes import SECRET
from bench.table import Line, show
from mesh import Node
from transport.identity import NodeId

ROOT = Path(__file__).parent.parent
LETTERS, WAITING, FLOOD = 10_000, 512, 300_000
SLOW_S = 0.0005  # what the slow reader does with each message


async def serve(address: str, data: str) -> None:
    """The other end: counts letters in a space, and reads slowly what is published."""
    async with Node(
        "other", secret=SECRET, listen="127.0.0.1:0", bootstrap=[address], discovery=False, data=data
    ) as node:  # fmt: skip
        await node.wait_for_members(2, timeout=10)

        @node.on_message
        async def take(message: Any) -> None:
            node.counter("letters").increment()

        async with node.subscribe("**") as messages:
            print("ready", flush=True)
            read = 0
            async for message in messages:
                if message.body == "end":
                    print(json.dumps({"read": read, "dropped": messages.dropped, "peak_mb": peak_mb()}), flush=True)
                    continue
                read += 1
                await asyncio.sleep(SLOW_S)


async def write(node: Node, to: NodeId) -> tuple[float, float]:
    """Letters a second: on the disk here, and handled there, which is seen here in the counter they raise."""
    numbers = iter(range(LETTERS))

    async def worker() -> None:
        for number in numbers:
            await node.send(to, number, durable=True)

    before, began = node.counter("letters").value, time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(WAITING)))
    stored = time.perf_counter() - began
    async with asyncio.timeout(60):
        while node.counter("letters").value < before + LETTERS:  # noqa: ASYNC110 - watching would cost
            await asyncio.sleep(0.002)
    return LETTERS / stored, LETTERS / (time.perf_counter() - began)


async def flood(node: Node, other: asyncio.subprocess.Process) -> dict[str, Any]:
    """As fast as it goes, to a reader far too slow; each message is accounted for."""
    assert other.stdout is not None
    for _ in range(FLOOD):
        await node.publish("bench", bytes(98))
    await node.publish("bench", "end")
    told: dict[str, Any] = json.loads(await other.stdout.readline())
    if told["read"] + told["dropped"] != FLOOD:
        raise AssertionError(f"sent {FLOOD} is not read {told['read']} + dropped {told['dropped']}")
    return told


async def main() -> None:
    stored, handled = [], []
    with tempfile.TemporaryDirectory() as here, tempfile.TemporaryDirectory() as there:
        async with Node("node", secret=SECRET, listen="127.0.0.1:0", discovery=False, data=here) as node:
            other = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "bench.letters", "--serve", node.addresses[0], there, cwd=ROOT,
                stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            try:
                assert other.stdout is not None
                await other.stdout.readline()
                members = await node.wait_for_members(2, timeout=10)
                to = next(each.id for each in members if each.id != node.id)
                for _ in range(3):
                    on_disk, counted = await write(node, to)
                    stored.append(on_disk)
                    handled.append(counted)
                told = await flood(node, other)
            finally:
                other.kill()
                await other.wait()
    lines = [
        Line("durable, on the disk here", stored, "/s"),
        Line("durable, handled there", handled, "/s", at_least=5_000),
        Line("flood, slow reader: memory there", [told["peak_mb"]], "MB", at_most=150),
        Line("flood, slow reader: memory here", [peak_mb()], "MB", at_most=150),
    ]
    account = f"the flood: {FLOOD:,} sent = {told['read']:,} read + {told['dropped']:,} dropped and counted, exactly"
    show("letters", lines, [f"{WAITING} at a time; medians of {len(stored)} rounds of {LETTERS:,}", account])


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[2:]) if sys.argv[1:2] == ["--serve"] else main())
