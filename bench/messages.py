"""A million messages of 100 bytes on a topic, from one process to another: how fast, and is each accounted for?

Signed, verified, over TLS, handed to an ``async for``. Reference, in turns with it in the same run: bare aiohttp, one
message a WebSocket frame, no TLS, nothing signed. ``python -m bench.messages [COUNT]``.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bench.nodes import SECRET
from mesh import Node

ROOT = Path(__file__).parent.parent
COUNT = 1_000_000
BODY = b"x" * 98  # 100 bytes as MessagePack
ROUNDS = 3


@asynccontextmanager
async def reader(kind: str, count: int, address: str = "") -> AsyncIterator[asyncio.subprocess.Process]:
    """The other process; its first line says that it is ready, its second what it got."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.messages", "--reader", kind, str(count), address, stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def told(process: asyncio.subprocess.Process) -> dict[str, Any]:
    assert process.stdout is not None
    answer: dict[str, Any] = json.loads(await process.stdout.readline())
    return answer


async def topic(count: int) -> dict[str, Any]:
    """Publish ``count`` messages to another process."""
    async with (
        Node("publisher", secret=SECRET, listen="127.0.0.1:0", discovery=False) as node,
        reader("topic", count, node.addresses[0]) as other,
    ):
        await told(other)
        await node.wait_for_members(2, timeout=10)
        began, cpu = time.perf_counter(), time.process_time()
        for _ in range(count):
            await node.publish("bench.messages", BODY)
        cpu = time.process_time() - cpu
        answer = await told(other)
        answer["publish_us"] = cpu / count * 1e6
        answer["rate"] = answer["got"] / (time.perf_counter() - began)
        answer["sent"] = count
        answer["reported"] = answer["dropped"] + sum(node.dropped.values())
        return answer


async def read_topic(count: int, address: str) -> None:
    async with Node("reader", secret=SECRET, listen="127.0.0.1:0", bootstrap=[address], discovery=False) as node:
        await node.wait_for_members(2, timeout=10)
        async with node.subscribe("bench.*") as messages:
            print("{}", flush=True)
            got, cpu = 0, time.process_time()
            async for message in messages:
                got += 1
                if got + messages.dropped >= count:
                    assert message.body == BODY
                    break
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            cpu = (time.process_time() - cpu) / count * 1e6
            told = {"got": got, "dropped": messages.dropped, "peak_mb": peak, "read_us": cpu}
            print(json.dumps(told), flush=True)
            await asyncio.sleep(0.1)


async def bare(count: int) -> float:
    """Messages a second over bare aiohttp, one a frame."""
    import aiohttp

    async with reader("bare", count) as other:
        address = (await told(other))["address"]
        async with aiohttp.ClientSession() as session, session.ws_connect(address, compress=0) as socket:
            began = time.perf_counter()
            for _ in range(count):
                await socket.send_bytes(BODY)
            await told(other)
            return count / (time.perf_counter() - began)


async def read_bare(count: int) -> None:
    from aiohttp import web

    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def serve(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        got = 0
        async for _ in socket:
            got += 1
            if got == count:
                break
        print(json.dumps({"got": got}), flush=True)
        ended.set_result(None)
        return socket

    app = web.Application()
    app.router.add_get("/", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(json.dumps({"address": f"http://127.0.0.1:{runner.addresses[0][1]}/"}), flush=True)
    await ended
    await runner.cleanup()


async def main(count: int) -> None:
    """Alternate the two and print the best of each, and their ratio."""
    ours, theirs = [], []
    for _ in range(ROUNDS):
        theirs.append(await bare(count // 4))
        ours.append(await topic(count))
        last = ours[-1]
        print(
            f"topic {last['rate']:>9,.0f}/s  bare {theirs[-1]:>9,.0f}/s   sent {last['sent']:,} = "
            f"delivered {last['got']:,} + reported {last['reported']:,}   reader's peak {last['peak_mb']:.0f} MB   "
            f"CPU a message {last['publish_us']:.2f} + {last['read_us']:.2f} us"
        )
    best = max(each["rate"] for each in ours)
    print(f"published to read   {best:>9,.0f} messages/s   {best / max(theirs):.2f}x bare aiohttp, one a frame")
    print(f"publisher's peak    {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--reader"]:
        kind, count, address = sys.argv[2], int(sys.argv[3]), sys.argv[4]
        asyncio.run(read_topic(count, address) if kind == "topic" else read_bare(count))
    else:
        asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else COUNT))
