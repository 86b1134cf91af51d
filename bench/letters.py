"""The other figures of messages, two processes on this machine: latency, questions, durable messages, a flood.

One way times are from publishing to reading, by the clock both processes share; offered in bursts a millisecond apart,
so half a millisecond of each is the bench's own. ``python -m bench.letters``; compare within one run only.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.nodes import SECRET
from mesh import Node
from transport.identity import NodeId

ROOT = Path(__file__).parent.parent
QUESTIONS, IN_FLIGHT, LETTERS, FLOOD = 1000, 64, 10_000, 300_000
SLOW_S = 0.0005  # what the slow reader does with each message


async def serve(address: str, data: str) -> None:
    """The other end: answers, handles, and reads what is published, slowly if told so."""
    async with Node(
        "other", secret=SECRET, listen="127.0.0.1:0", bootstrap=[address], discovery=False, data=data
    ) as node:  # fmt: skip
        await node.wait_for_members(2, timeout=10)

        @node.on("echo")
        async def echo(request: Any) -> Any:
            return request.body

        @node.on_message
        async def take(message: Any) -> None:
            node.counter("letters").increment()

        async with node.subscribe("**") as messages:
            print("ready", flush=True)
            times: list[int] = []
            is_slow = False
            async for message in messages:
                if message.body == "end":
                    times.sort()
                    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
                    told = {"read": len(times), "dropped": messages.dropped, "peak_mb": peak}
                    if times:
                        told |= {"p50": times[len(times) // 2] / 1e6, "p99": times[len(times) * 99 // 100] / 1e6}
                    print(json.dumps(told), flush=True)
                    times, is_slow = [], False
                elif message.body == "slowly":
                    is_slow = True
                elif is_slow:
                    await asyncio.sleep(SLOW_S)
                    times.append(0)
                else:
                    times.append(time.monotonic_ns() - message.body)


async def offer(node: Node, other: asyncio.subprocess.Process, rate: int, **how: Any) -> None:
    """Publish ``rate`` messages a second for two seconds, and print how long they took."""
    assert other.stdout is not None
    began, sent = time.monotonic(), 0
    while (passed := time.monotonic() - began) < 2.0:
        while sent < passed * rate:
            await node.publish("bench", time.monotonic_ns(), **how)
            sent += 1
        await asyncio.sleep(0.001)
    await node.publish("bench", "end")
    told = json.loads(await other.stdout.readline())
    lane = "urgent" if how else "normal"
    print(f"one way, {rate:>6,}/s {lane}   p50 {told['p50']:5.2f} ms   p99 {told['p99']:6.2f} ms")


async def ask(node: Node, to: NodeId) -> None:
    """Questions one at a time, and many in flight."""
    times = []
    for each in range(QUESTIONS):
        began = time.perf_counter()
        await node.request(to, "echo", each)
        times.append(time.perf_counter() - began)
    times.sort()

    async def worker() -> None:
        for each in range(QUESTIONS // 8):
            await node.request(to, "echo", each)

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
    rate = IN_FLIGHT * (QUESTIONS // 8) / (time.perf_counter() - began)
    print(f"request and reply       p50 {times[QUESTIONS // 2] * 1e3:5.2f} ms   {IN_FLIGHT} in flight {rate:>7,.0f}/s")


async def write(node: Node, to: NodeId) -> None:
    """Durable messages, until the other's counter (one increment each, on its disk) has them all here."""
    room = asyncio.Semaphore(512)

    async def one(number: int) -> None:
        async with room:
            await node.send(to, number, durable=True)

    began = time.perf_counter()
    await asyncio.gather(*(one(each) for each in range(LETTERS)))
    stored = time.perf_counter() - began
    while node.counter("letters").value < LETTERS:  # noqa: ASYNC110 - watching would cost
        await asyncio.sleep(0.002)
    rate, all_of_it = LETTERS / stored, LETTERS / (time.perf_counter() - began)
    print(f"durable                 on disk here {rate:>7,.0f}/s   counted there, seen here {all_of_it:>7,.0f}/s")


async def flood(node: Node, other: asyncio.subprocess.Process) -> None:
    """As fast as it goes, to a reader far too slow."""
    assert other.stdout is not None
    await node.publish("bench", "slowly")
    for _ in range(FLOOD):
        await node.publish("bench", bytes(98))
    await node.publish("bench", "end")
    told = json.loads(await other.stdout.readline())
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"flood, slow reader      {FLOOD:,} = read {told['read']:,} + dropped {told['dropped']:,}   "
        f"peak {told['peak_mb']:.0f} MB there, {own:.0f} MB here"
    )


async def main() -> None:
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
                for rate in (1_000, 10_000, 50_000):
                    await offer(node, other, rate)
                await offer(node, other, 1_000, priority="high")
                await ask(node, to)
                await write(node, to)
                await flood(node, other)
            finally:
                other.kill()
                await other.wait()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[2:]) if sys.argv[1:2] == ["--serve"] else main())
