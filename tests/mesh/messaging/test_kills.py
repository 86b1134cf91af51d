"""Two real processes, killed with SIGKILL while letters are on their way: none lost, none counted twice.

``GOSSAMER_KILLS`` is how many times somebody is killed (3; `make soak` does a hundred).
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
KILLS = int(os.environ.get("GOSSAMER_KILLS", "3"))  # one costs about a second
pytestmark = pytest.mark.timeout(120 + 10 * KILLS)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class End:
    """One courier, in whichever process it is now."""

    process: asyncio.subprocess.Process

    def __init__(self, role: str, home: Path, listen: int, peer: int) -> None:
        self.role, self.home = role, home / role
        self._arguments = [str(self.home), f"127.0.0.1:{listen}", f"127.0.0.1:{peer}", str(home / "promises")]
        self.home.mkdir()

    async def start(self) -> str:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.mesh.messaging.courier", self.role, *self._arguments, cwd=ROOT,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 24,
        )  # fmt: skip
        return str((await self._line())["id"])

    async def _line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        assert line, f"{self.role} ended with {await self.process.wait()}"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def say(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode() + b"\n")

    async def ask(self) -> dict[str, Any]:
        self.say("?")
        return await self._line()

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()


async def test_kill_9_of_either_side_loses_nothing_and_repeats_nothing(tmp_path: Path) -> None:
    rng = random.Random(os.environ.get("GOSSAMER_SEED", 5))
    ports = free_port(), free_port()
    sender, taker = End("send", tmp_path, *ports), End("take", tmp_path, *reversed(ports))
    to = await taker.start()
    await sender.start()
    sender.say(to)
    try:
        for _ in range(KILLS):
            await asyncio.sleep(0.2 + rng.random() * 0.5)  # real time: the kill shall find them at work
            fallen = rng.choice((sender, taker))
            await fallen.kill()
            await fallen.start()
            if fallen is sender:
                sender.say(to)
        await asyncio.sleep(0.5)
        sender.say("enough")
        await sender.ask()
        promised = set((tmp_path / "promises").read_text().split())
        assert promised
        async with asyncio.timeout(30):
            while not promised <= set((seen := await taker.ask())["seen"]):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.1)
        assert seen["count"] == len(seen["seen"])
        print(f"{KILLS} kills: {len(promised):,} letters promised, each handled, none twice")
    finally:
        await sender.kill()
        await taker.kill()
