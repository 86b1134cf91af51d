"""A small stand-in for the facade of a node: state in dictionaries, nothing on any network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from crdt import Document
from mesh.cli.server import ControlServer
from transport.identity import NodeId

ME, OTHER = NodeId(bytes(range(32))), NodeId(bytes(range(1, 33)))


class Clash(Exception):
    """As ``crdt.TypeClash``: opened as another type."""


class FakeSpace:
    """Values by key, each with the type it was opened as."""

    def __init__(self) -> None:
        self.value: dict[str, Any] = {}
        self.types: dict[str, str] = {}
        self.flushed, self.confirmed = 0, []  # type: tuple[int, list[str]]
        self.clock = {"a": 1}
        self.watchers: list[asyncio.Queue[Any]] = []
        self.doc = Document("fake")  # texts are too much to pretend

    def _open(self, key: str, kind: str) -> None:
        if self.types.setdefault(key, kind) != kind:
            raise Clash(f"{key} is a {self.types[key]}, not a {kind}")

    def _set(self, key: str, kind: str, value: Any) -> None:
        self.value[key] = value
        event = SimpleNamespace(key=key, path=(), type=kind, value=value, origin="a" * 64, local=True)
        for each in self.watchers:
            each.put_nowait(event)

    def register(self, key: str) -> Any:
        self._open(key, "register")
        return SimpleNamespace(set=lambda value: self._set(key, "register", value))

    def text(self, key: str) -> Any:
        self._open(key, "text")
        return self.doc.text(key)

    def counter(self, key: str) -> Any:
        self._open(key, "counter")
        space = self

        class Counter:
            @property
            def value(self) -> int:
                return int(space.value.get(key, 0))

            def increment(self, amount: int = 1) -> None:
                if amount < 0:
                    raise ValueError("use decrement")
                space._set(key, "counter", self.value + amount)

            def decrement(self, amount: int = 1) -> None:
                space._set(key, "counter", self.value - amount)

        return Counter()

    def set(self, key: str) -> Any:
        self._open(key, "set")
        now = self.value.setdefault(key, [])
        return SimpleNamespace(
            add=lambda value: value in now or now.append(value),
            discard=lambda value: value in now and now.remove(value),
        )

    def get(self, key: str, default: Any = None) -> Any:
        return self.value.get(key, default)

    def live_keys(self) -> list[str]:
        return list(self.value)

    def delete(self, key: str) -> None:
        self.value.pop(key, None)

    def digest(self) -> str:
        return "d1"

    async def flush(self) -> None:
        self.flushed += 1

    async def confirm(self, level: str, timeout: float) -> None:
        self.confirmed.append(level)
        if level == "all":
            raise TimeoutError("held by 1 of 3")

    async def watch(self, key: str | None = None) -> AsyncIterator[Any]:
        queue: asyncio.Queue[Any] = asyncio.Queue()
        self.watchers.append(queue)
        try:
            while True:
                event = await queue.get()
                if key in (None, event.key):
                    yield event
        finally:
            self.watchers.remove(queue)


@dataclass
class FakeNode:
    """The facade as the control socket uses it."""

    id: NodeId = ME
    name: str = "ann"
    mesh_name: str = "default"
    addresses: tuple[str, ...] = ("127.0.0.1:4747",)
    spaces: dict[str, FakeSpace] = field(default_factory=dict)
    sent: list[Any] = field(default_factory=list)
    cut: list[NodeId] | None = None
    is_loopback_only: bool = True
    bug: Exception | None = None

    def space(self, name: str) -> FakeSpace:
        return self.spaces.setdefault(name, FakeSpace())

    def members(self) -> list[Any]:
        if self.bug is not None:
            raise self.bug
        return [
            SimpleNamespace(
                id=self.id, name=self.name, state="alive", addresses=self.addresses, incarnation=1, rtt_ms=None
            ),
            SimpleNamespace(
                id=OTHER, name="bob \x1b[31m", state="down", addresses=("10.0.0.2:1",), incarnation=4, rtt_ms=1.5
            ),
        ]

    def explain(self) -> list[dict[str, Any]]:
        return [{"what": "scout", "asked": 4}]

    async def send(
        self, to: Any, body: Any, *, durable: bool = False, ttl: float | None = None, priority: str = "normal",
        key: str = "",
    ) -> str:  # fmt: skip
        self.how = priority, key
        self.sent.append((to, body))
        return f"letter-{ttl:g}" if durable else ""

    async def publish(self, topic: str, body: Any) -> None:
        self.sent.append((topic, body))

    def subscribe(self, pattern: str) -> Any:
        node = self

        class Messages:
            dropped = 0

            async def __aenter__(self) -> Any:
                return self

            async def __aexit__(self, *_: object) -> None: ...

            async def __aiter__(self) -> AsyncIterator[Any]:
                for index, (topic, body) in enumerate(node.sent):
                    self.dropped = index * 2
                    yield SimpleNamespace(topic=topic, body=body, sender=OTHER, id=f"x/{index}")

        return Messages()

    def dead_letters(self) -> list[Any]:
        dead = SimpleNamespace(id="l-1", to=OTHER, body="\x1b[31m", reason="expired", tries=0, made_ms=7)
        return [dead]

    async def redeliver(self, letter: str) -> str:
        return f"{letter}-again"

    async def request(self, to: Any, name: str, body: Any, timeout: float, key: str = "") -> Any:
        self.how = "normal", key
        return [str(to), name, body]

    def chaos_cut(self, ids: list[NodeId]) -> None:
        self.cut = ids

    def chaos_heal(self) -> None:
        self.cut = None


async def eventually(holds: Callable[[], bool], within_s: float = 5.0) -> None:
    """Return once ``holds()``; fails after ``within_s``."""
    for _ in range(int(within_s / 0.005)):
        if holds():
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"not within {within_s} s")


@asynccontextmanager
async def served(data: Path, node: FakeNode | None = None, *, chaos: bool = False) -> AsyncIterator[FakeNode]:
    """A fake node with a real control socket in ``data``. ``leave`` stops the socket, as the process would."""
    node = node or FakeNode()
    await asyncio.to_thread(data.mkdir, parents=True, exist_ok=True)
    stopping: list[asyncio.Task[None]] = []
    server = ControlServer(
        node, data, leave=lambda: stopping.append(asyncio.ensure_future(server.stop())), errors=(Clash,), version="0",
        chaos=chaos,
    )  # fmt: skip
    await server.start()
    try:
        yield node
    finally:
        await asyncio.gather(*stopping)
        await server.stop()
