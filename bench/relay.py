"""What a member on the way costs, and what a crowd does: three processes in a row, then 30 nodes in one.

A, B and C, where A and C have no link: what A publishes is read at B and, one hop later, at C; what A asks C goes over
B, sealed. B's processor time beside C's is what relaying costs. ``python -m bench relay [--json]``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from bench.nodes import SECRET
from bench.rivals import BODY_BYTES, END, Tally, plain, stamped
from bench.table import Line, show
from mesh import Node
from mesh.messaging.topic import Topics
from transport.identity import NodeId

ROOT = Path(__file__).parent.parent
ROUNDS, RATE, OFFER_S, QUESTIONS = 3, 1_000, 2.0, 500
BULK = 200_000
CROWD, CROWD_RATE, CROWD_S = 30, 300, 5.0
TOPIC = "bench.relay"


async def serve(name: str, address: str, cut: str) -> None:
    """B, or C that refuses A."""
    async with Node(name, secret=SECRET, listen="127.0.0.1:0", bootstrap=[address], discovery=False) as node:
        if cut:
            node.chaos_cut([NodeId.parse(cut)])

        @node.on("echo")
        async def echo(request: Any) -> Any:
            return request.body

        tally = Tally()
        async with node.subscribe("**") as messages:
            await node.wait_for_members(3 if cut else 2, timeout=20)
            print(json.dumps({"id": str(node.id), "address": node.addresses[0]}), flush=True)
            async for message in messages:
                tally.take(message.body)


@asynccontextmanager
async def other(*words: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, dict[str, Any]]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.relay", "--serve", *words, stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    try:
        yield process, await told(process)
    finally:
        process.kill()
        await process.wait()


async def told(process: asyncio.subprocess.Process) -> dict[str, Any]:
    assert process.stdout is not None
    async with asyncio.timeout(60):
        answer: dict[str, Any] = json.loads(await process.stdout.readline())
    return answer


async def ask(node: Node, to: NodeId) -> float:
    """Median milliseconds of a question and its answer."""
    times = []
    for _ in range(QUESTIONS):
        began = time.perf_counter()
        await node.request(to, "echo", plain())
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e3


async def row() -> dict[str, float]:
    """Three in a row, once."""
    async with contextlib.AsyncExitStack() as stack:
        node = await stack.enter_async_context(Node("a", secret=SECRET, listen="127.0.0.1:0", discovery=False))
        b, near = await stack.enter_async_context(other("b", node.addresses[0], ""))
        c, far = await stack.enter_async_context(other("c", near["address"], str(node.id)))
        node.chaos_cut([NodeId.parse(far["id"])])
        await node.wait_for_members(3, timeout=20)
        for _ in range(100):  # until C has found that B is where A's messages come from
            await node.publish(TOPIC, stamped())
            await asyncio.sleep(0.01)
        await node.publish(TOPIC, bytes((END,)))
        await told(b), await told(c)

        began, sent = time.monotonic(), 0
        while (passed := time.monotonic() - began) < OFFER_S:
            while sent < passed * RATE:
                await node.publish(TOPIC, stamped(), priority="high")
                sent += 1
            await asyncio.sleep(0.001)
        await node.publish(TOPIC, bytes((END,)))
        at_b, at_c = await told(b), await told(c)
        assert at_b["got"] == at_c["got"] == sent

        for _ in range(BULK):
            await node.publish(TOPIC, plain())
        await node.publish(TOPIC, bytes((END,)))
        bulk_b, bulk_c = await told(b), await told(c)
        assert bulk_b["got"] == bulk_c["got"] == BULK
        direct, relayed = await ask(node, NodeId.parse(near["id"])), await ask(node, NodeId.parse(far["id"]))
        return {
            "one way": at_c["p50"] - at_b["p50"],
            "question": (relayed - direct) / 2,  # there and back
            "CPU, one at a time": at_b["cpu_s"] / at_c["cpu_s"] * 100 - 100,
            "CPU, as fast as it goes": bulk_b["cpu_s"] / bulk_c["cpu_s"] * 100 - 100,
        }


async def crowd() -> tuple[int, float, float]:
    """Messages that some node did not read; frames each node received for one it needed, at most and on average."""
    received: Counter[NodeId] = Counter()
    receive = Topics.receive

    def counted(self: Topics, *frame: Any) -> None:
        received[self._identity.id] += 1
        receive(self, *frame)

    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(patch.object(Topics, "receive", counted))
        nodes: list[Node] = []
        for number in range(CROWD):
            node = Node(
                f"n{number}", secret=SECRET, listen="127.0.0.1:0", discovery=False,
                bootstrap=[each.addresses[0] for each in nodes[-3:]],
            )  # fmt: skip
            nodes.append(await stack.enter_async_context(node))
        for node in nodes:
            await node.wait_for_members(CROWD, timeout=60)
        readers = [await stack.enter_async_context(node.subscribe("**")) for node in nodes]

        async def publish(rate: int, seconds: float) -> int:
            """Each message in a frame of its own."""
            began, sent = time.monotonic(), 0
            while (passed := time.monotonic() - began) < seconds:
                while sent < passed * rate:
                    await nodes[0].publish(TOPIC, sent, priority="high")
                    sent += 1
                await asyncio.sleep(0.001)
            return sent

        async def read(messages: Any, count: int) -> int:
            got = 0
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(20):
                    while got < count:
                        await anext(messages)
                        got += 1
            return count - got

        warm = await publish(CROWD_RATE, 2.0)  # the tree finds itself
        missing = sum(await asyncio.gather(*(read(each, warm) for each in readers)))
        received.clear()
        sent = await publish(CROWD_RATE, CROWD_S)
        missing += sum(await asyncio.gather(*(read(each, sent) for each in readers)))
        copies = [received[node.id] / sent for node in nodes[1:]]
        return missing, max(copies), statistics.mean(copies)


async def main() -> None:
    rounds = [await row() for _ in range(ROUNDS)]
    missing, most, mean = await crowd()
    hop = {what: [each[what] for each in rounds] for what in rounds[0]}
    lines = [
        Line("a hop adds, one way, p50", hop["one way"], "ms", at_most=0.3),
        Line("a hop adds, a question, p50", hop["question"], "ms", at_most=0.3),
        Line("relaying costs, one at a time", hop["CPU, one at a time"], "% CPU"),
        Line("relaying costs, at full speed", hop["CPU, as fast as it goes"], "% CPU", at_most=25),
        Line(f"{CROWD} nodes, {CROWD_RATE}/s: missing", [missing], "messages", at_most=0),
        Line(f"{CROWD} nodes: copies received, worst", [most], "x", at_most=2),
        Line(f"{CROWD} nodes: copies received, mean", [mean], "x"),
    ]
    show(
        "relay", lines, [f"medians of {ROUNDS} rounds; bodies of {BODY_BYTES + 2} bytes; {CROWD} nodes in one process"]
    )


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[2:]) if sys.argv[1:2] == ["--serve"] else main())
