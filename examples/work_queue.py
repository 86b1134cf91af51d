"""A work queue without a broker: jobs are durable messages, results are counted in shared state.

Kill the worker with -9 while it works, and start it again: no job is lost, and each is counted once.

python examples/work_queue.py worker   # here, or on another machine with the same secret
python examples/work_queue.py boss 20  # sends 20 jobs, and may end at once: they go on when it runs again
"""

import asyncio
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mesh import Message, Node

SECRET = os.environ.get("WORK_SECRET", "change-me: gossamer secret makes a good one")
DATA = Path(os.environ.get("WORK_DATA", tempfile.gettempdir())) / "gossamer-work"


@dataclass
class Job:
    number: int


async def worker() -> None:
    async with Node("worker", secret=SECRET, data=DATA / "worker") as node:

        @node.on_message
        async def work(message: Message[Job]) -> None:
            await asyncio.sleep(0.01)  # the work itself; it may run twice if the worker is killed just now
            with node.space("jobs").transaction():  # this cannot count twice
                node.space("jobs").counter("done").increment()
                node.space("jobs").set("numbers").add(message.body.number)

        print("ready", flush=True)
        await asyncio.Event().wait()


async def boss(count: int) -> None:
    async with Node("boss", secret=SECRET, data=DATA / "boss") as node:
        await node.wait_for_members(2, timeout=30)
        for number in range(count):
            await node.send("worker", {"number": number}, durable=True)
        print(f"{count} jobs are safe on disk", flush=True)
        async for event in node.space("jobs").watch("done"):
            if event.value >= count:
                break
        print(f"{node.space('jobs').counter('done').value} jobs done", flush=True)


match sys.argv[1:]:
    case ["worker"]:
        asyncio.run(worker())
    case ["boss", count]:
        asyncio.run(boss(int(count)))
    case _:
        sys.exit("usage: python examples/work_queue.py worker | boss COUNT")
