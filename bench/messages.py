"""Messages from one process to another, beside Zenoh, ZeroMQ, NATS and bare aiohttp, all in turns in one run.

Ours are signed, verified, over TLS and handed to an ``async for``; none of the others signs, and none encrypts here.
A million messages of 100 bytes as fast as they go, each accounted for; one way at three rates; questions and answers.
``python -m bench messages [--json] [COUNT]``; rounds are few, so compare within one run only.

One way times are from publishing to reading, by the clock both processes share, whatever a burst before it did.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
from functools import partial
from typing import Any

from bench.memory import peak_mb
from bench.nodes import SECRET
from bench.rivals import BODY_BYTES, RIVALS, Awaiting, Side, Tally, plain
from bench.table import Line, show
from mesh import Node

COUNT, ROUNDS = 1_000_000, 3
RIVALS_COUNT = 200_000  # what the others are timed with: seconds each all the same
RATES, OFFER_S = (1_000, 10_000, 50_000), 2.0
QUESTIONS, IN_FLIGHT = 1_000, 64
TOPIC = "bench.messages"


class Gossamer(Awaiting):
    """Two nodes, linked over loopback."""

    name, module, command = "gossamer", "mesh", "bench.messages"

    async def prepare(self) -> None:
        self.node = Node("publisher", secret=SECRET, listen="127.0.0.1:0", discovery=False)
        await self.node.start()
        self.given = self.node.addresses[0]
        self.put = partial(self.node.publish, TOPIC)

    async def connect(self, told: dict[str, Any]) -> None:
        members = await self.node.wait_for_members(2, timeout=10)
        self.to = next(each.id for each in members if each.id != self.node.id)

    async def close(self) -> None:
        await self.node.stop()

    async def ask_once(self) -> None:
        await self.node.request(self.to, "echo", plain())

    async def stream(self, count: int) -> dict[str, Any]:
        told = await super().stream(count)
        reported = told["dropped"] + sum(self.node.dropped.values())
        if count != told["got"] + reported:
            raise AssertionError(f"sent {count} is not delivered {told['got']} + reported {reported}")
        return told

    async def urgent(self, rate: int) -> dict[str, Any]:
        """The same as ``offer``, where nothing waits for company."""
        usual, self.put = self.put, partial(self.node.publish, TOPIC, priority="high")
        try:
            return await self.offer(rate, OFFER_S)
        finally:
            self.put = usual


async def serve(address: str) -> None:
    async with Node("reader", secret=SECRET, listen="127.0.0.1:0", bootstrap=[address], discovery=False) as node:
        await node.wait_for_members(2, timeout=10)

        @node.on("echo")
        async def echo(request: Any) -> Any:
            return request.body

        tally = Tally()
        async with node.subscribe("bench.*") as messages:
            print("{}", flush=True)

            def more() -> dict[str, Any]:
                return {"dropped": messages.dropped, "peak_mb": peak_mb()}

            async for message in messages:
                tally.take(message.body, more)


class Bare(Side):
    """aiohttp's WebSocket alone, one message a frame: what we are made of."""

    name, module, command = "bare aiohttp", "aiohttp", "bench.messages"

    async def connect(self, told: dict[str, Any]) -> None:
        import aiohttp

        self._session = aiohttp.ClientSession()
        self._socket = await self._session.ws_connect(told["address"], compress=0)

    async def close(self) -> None:
        await self._session.close()

    async def publish(self, count: int) -> None:
        body, send = plain(), self._socket.send_bytes
        for _ in range(count):
            await send(body)

    async def put_end(self) -> None:
        await self._socket.send_bytes(b"\x03")


async def serve_bare() -> None:
    from aiohttp import web

    async def read(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        tally = Tally()
        async for message in socket:
            tally.take(message.data)
        return socket

    app = web.Application()
    app.router.add_get("/", read)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(json.dumps({"address": f"http://127.0.0.1:{runner.addresses[0][1]}/"}), flush=True)
    await asyncio.Event().wait()


async def bare(count: int) -> float:
    """Messages a second over bare aiohttp, one a frame."""
    async with Bare() as side:
        return count / float((await side.stream(count))["took_s"])


class Seen:
    """Figures by what they are and whose, a round after the other."""

    def __init__(self) -> None:
        self._rounds: dict[str, dict[str, list[float]]] = {}

    def add(self, what: str, name: str, value: float) -> None:
        self._rounds.setdefault(what, {}).setdefault(name, []).append(value)

    def line(self, what: str, unit: str, **target: float) -> Line:
        by_name = self._rounds[what]
        others = {name: statistics.median(each) for name, each in by_name.items() if name != Gossamer.name}
        return Line(what, by_name[Gossamer.name], unit, beside=others, **target)  # type: ignore[arg-type]

    def ratio(self, what: str, name: str) -> list[float]:
        """Ours to another's, round by round."""
        by_name = self._rounds[what]
        return [ours / theirs for ours, theirs in zip(by_name[Gossamer.name], by_name[name], strict=True)]


async def measure(side: Side, seen: Seen, count: int) -> None:
    """One round of one library."""
    async with side:
        told = await side.stream(count)
        seen.add("topic", side.name, told["got"] / told["took_s"])
        seen.add("CPU to publish one", side.name, told["put_cpu_s"] / count * 1e6)
        seen.add("CPU to read one", side.name, told["cpu_s"] / count * 1e6)
        if isinstance(side, Gossamer):
            seen.add("reader's peak memory", side.name, told["peak_mb"])
        if isinstance(side, Bare):
            return
        for rate in RATES:
            told = await side.offer(rate, OFFER_S)
            seen.add(f"one way, {rate:,}/s, p50", side.name, told["p50"])
            seen.add(f"one way, {rate:,}/s, p99", side.name, told["p99"])
        if isinstance(side, Gossamer):
            seen.add("one way, urgent, p50", side.name, (await side.urgent(RATES[0]))["p50"])
        seen.add("question and answer, p50", side.name, await side.ask(QUESTIONS) * 1e3)
        seen.add(f"answers, {IN_FLIGHT} in flight", side.name, await side.ask_many(10 * QUESTIONS, IN_FLIGHT))


async def main(count: int) -> None:
    seen = Seen()
    here = [each for each in RIVALS if not each.missing()]
    for _ in range(ROUNDS):
        await measure(Gossamer(), seen, count)
        for rival in (Bare, *here):
            await measure(rival(), seen, min(count, RIVALS_COUNT))
    lines = [
        seen.line("topic", "/s", at_least=250_000),
        Line("topic, beside bare aiohttp", seen.ratio("topic", Bare.name), "x", at_least=1.5),
        seen.line("CPU to publish one", "us"),
        seen.line("CPU to read one", "us"),
        seen.line("reader's peak memory", "MB", at_most=150),
    ]
    for rate in RATES:
        lines.append(seen.line(f"one way, {rate:,}/s, p50", "ms", at_most=1.5))
        lines.append(seen.line(f"one way, {rate:,}/s, p99", "ms", at_most=6))
    lines += [
        seen.line("one way, urgent, p50", "ms", at_most=0.4),
        seen.line("question and answer, p50", "ms", at_most=0.8),
        seen.line(f"answers, {IN_FLIGHT} in flight", "/s", at_least=8_000),
    ]
    notes = [
        f"medians of {ROUNDS} rounds in turns; {count:,} messages of {BODY_BYTES + 2} bytes each round, and each time "
        "sent == delivered + reported, exactly",
        "gossamer signs, verifies and encrypts; none of the others signs, none encrypts here",
        *(each.missing() for each in RIVALS if each.missing()),
    ]
    show("messages", lines, notes)


if __name__ == "__main__":
    match sys.argv[1:]:
        case [Gossamer.name, address]:
            asyncio.run(serve(address))
        case [Bare.name, _]:
            asyncio.run(serve_bare())
        case options:
            asyncio.run(main(next((int(each) for each in options if each.isdigit()), COUNT)))
