"""A chat on the LAN: whoever has the secret file is in the room. Type a line, everybody reads it.

python examples/chat.py mesh.secret anna
"""

import asyncio
import sys
from pathlib import Path

from mesh import Node


async def read(node: Node) -> None:
    async with node.subscribe("chat.**") as messages:
        print(f"{node.name} is here", flush=True)
        async for message in messages:
            if message.sender != node.id:
                print(f"{message.body['from']}: {message.body['text']}", flush=True)


async def main(secret: str, name: str) -> None:
    async with Node(name, secret=secret) as node:
        reading = asyncio.create_task(read(node))
        lines = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        while line := await lines.readline():
            await node.publish("chat.lobby", {"from": name, "text": line.decode().strip()})
        reading.cancel()


if len(sys.argv) != 3:
    sys.exit("usage: python examples/chat.py SECRET_FILE NAME")
asyncio.run(main(Path(sys.argv[1]).read_text(), sys.argv[2]))
