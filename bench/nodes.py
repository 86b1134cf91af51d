"""Two real processes for the benches: this one writes, the other (``python -m bench.nodes``) receives and reports."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mesh import Node

SECRET = "bench-" + "0" * 26
ROOT = Path(__file__).parent.parent


class Peer:
    """A node in a process of its own, asked one question at a time over its pipes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def ask(self, **question: Any) -> Any:
        """Its answer, decoded."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(question).encode() + b"\n")
        line = await self._process.stdout.readline()
        return json.loads(line)


@asynccontextmanager
async def peer(data: str | None = None, bootstrap: tuple[str, ...] = ()) -> AsyncIterator[Peer]:
    """A second process with a node that joins at ``bootstrap``; ended with the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.nodes", json.dumps({"data": data, "bootstrap": bootstrap}),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip
    try:
        yield Peer(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


async def _serve(options: dict[str, Any]) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with Node(
        "peer", secret=SECRET, listen="127.0.0.1:0", bootstrap=options["bootstrap"], data=options["data"],
        discovery=False,
    ) as node:  # fmt: skip
        while line := await reader.readline():
            question = json.loads(line)
            space = node.space("main")
            match question["do"]:
                case "address":
                    answer: Any = node.addresses[0]
                case "members":
                    await node.wait_for_members(question["count"], timeout=10)
                    answer = True
                case "until":  # the clock's sum has reached ``count``
                    while sum(space.clock.values()) < question["count"]:  # noqa: ASYNC110 - watching would cost
                        await asyncio.sleep(0.002)
                    answer = True
                case "digest":
                    answer = space.digest()
                case other:
                    raise ValueError(other)
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(_serve(json.loads(sys.argv[1])))
