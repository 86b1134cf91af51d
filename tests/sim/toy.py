"""A small program over raw conduits, for tests of the world: finds others, echoes, keeps a log on disk."""

from __future__ import annotations

import asyncio
from typing import Any

from transport.base import SECOND, Announcement, Conduit, DialFailed, Env, Hint

TAG = b"toy-mesh"


class Toy:
    """Greets whom it finds, answers ``ping N`` by ``pong N``, and writes each pong to disk before it counts it."""

    def __init__(self, name: str, *, env: Env, data: str | None, beat_s: float = 1.0) -> None:
        self.name, self.env, self.beat_s = name, env, beat_s
        public, secret = env.suite.keypair(env.entropy(32))
        self.public, self.secret = public, secret
        self.storage = env.open_storage(data)
        self.conduits: dict[str, Conduit] = {}
        self.closed: list[tuple[int, str]] = []
        self.failed: list[DialFailed] = []
        self.got: list[bytes] = []
        self.times: list[int] = []
        self.hints: list[Hint] = []
        self.durable = len(list(self.storage.scan("log", b"")))
        self.ended: list[str] = []

    async def start(self) -> None:
        self.listener = await self.env.transport.listen("0.0.0.0:7000", self.adopt)
        self.scout = self.env.discoveries()[0]
        await self.scout.start(
            Announcement(
                mesh_tag=TAG,
                node=self.public,  # type: ignore[arg-type]
                port=7000,
                sign=lambda raw: self.env.suite.sign(self.secret, raw),
                verify=self.env.suite.verify,
            ),
            self.hints.append,
        )
        self.env.spawn(self.live(), "live")

    async def stop(self) -> None:
        await self.scout.stop()
        for conduit in list(self.conduits.values()):
            conduit.close("bye")
        await self.env.sleep(0.1)

    async def live(self) -> None:
        try:
            while True:
                await asyncio.sleep(self.beat_s)
                for conduit in list(self.conduits.values()):
                    conduit.send(b"beat")
        finally:
            self.ended.append("finally")

    def adopt(self, conduit: Conduit) -> None:
        self.conduits[conduit.remote] = conduit

        def received(raw: bytes) -> None:
            self.got.append(raw)
            self.times.append(self.env.mono())
            if raw.startswith(b"ping"):
                conduit.send(b"pong" + raw[4:])
            if raw.startswith(b"pong"):
                self.write(raw)

        def closed(reason: str) -> None:
            self.conduits.pop(conduit.remote, None)
            self.closed.append((self.env.mono(), reason))

        conduit.on_message = received
        conduit.on_close = closed

    def write(self, raw: bytes) -> None:
        def done(outcome: Any) -> None:
            assert outcome is None, outcome
            self.durable += 1

        self.env.offload(lambda: self.storage.commit([("log", raw, raw)]), done)

    def dial(self, address: str, timeout_s: float = 5.0) -> None:
        def done(outcome: Conduit | DialFailed) -> None:
            if isinstance(outcome, DialFailed):
                self.failed.append(outcome)
            else:
                self.adopt(outcome)

        self.env.transport.dial(address, done, round(timeout_s * SECOND))

    def say(self, raw: bytes) -> None:
        for conduit in list(self.conduits.values()):
            conduit.send(raw)
