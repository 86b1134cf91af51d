"""One end of a durable conversation, as a process that may be killed: ``courier send|take DATA LISTEN PEER LOG``.

The sender promises a letter by a line in LOG once ``send`` returned; the receiver counts it in its space, and prints
the count and what it saw when asked by a line on its standard input.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from mesh import Node

SECRET = "courier-" + "0" * 24


async def send(node: Node, to: str, log: Path) -> None:
    """Send letters without end, each with a name of its own."""
    with log.open("a") as promises:
        for number in range(1_000_000):
            name = f"{os.getpid()}-{number}"
            await node.send(to, name, durable=True)
            print(name, file=promises, flush=True)
            await asyncio.sleep(0.001)


async def main(role: str, data: str, listen: str, peer: str, log: str) -> None:
    async with Node(role, secret=SECRET, listen=listen, bootstrap=[peer], discovery=False, data=data) as node:
        letters = node.space("letters")

        @node.on_message
        async def take(message: Any) -> None:
            with letters.transaction():
                letters.counter("count").increment()
                letters.set("seen").add(message.body)

        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        print(json.dumps({"id": str(node.id)}), flush=True)
        if role == "send":
            to = (await reader.readline()).decode().strip()
            sending = asyncio.create_task(send(node, to, Path(log)))
            await reader.readline()  # "enough": what is in the outbox still goes
            sending.cancel()
        while await reader.readline():
            value = letters.value
            print(json.dumps({"count": value.get("count", 0), "seen": value.get("seen", [])}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
