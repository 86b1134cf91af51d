"""Those who mean harm: strangers at the door, a man in the middle, and an admitted member that lies.

Everything here speaks through ``transport`` like a node does, up to the point where it stops being honest.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import ssl
import subprocess
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from crdt import Change, Document
from mesh import messages as m
from tests.lan.lan import ROOT, Host
from transport.admission import admission
from transport.base import SECOND, Conduit, DialFailed, Lane
from transport.errors import HandshakeError
from transport.frame import GENESIS, SignedFrame, is_signed_frame, seal
from transport.identity import Identity, Mesh
from transport.link import EstablishedLink, Refusal, establish
from transport.system import SystemEnv

_seeds = itertools.count(1)


def no_storage(data: str | None) -> Any:
    raise AssertionError("those who mean harm keep nothing")


@contextlib.asynccontextmanager
async def world() -> AsyncIterator[SystemEnv]:
    """The real world, for one test."""
    env = SystemEnv(no_storage)
    try:
        yield env
    finally:
        await env.close()


def host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


def careless() -> ssl.SSLContext:
    """TLS that believes everybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


UPGRADE = (
    b"GET /gossamer/1 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


@dataclass
class Raw:
    """A socket to the door, with TLS or without, that says whatever it is told to."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def connect(cls, address: str, *, tls: bool, upgrade: bool = False) -> Raw:
        raw = cls(*await asyncio.open_connection(*host_and_port(address), ssl=careless() if tls else None))
        if upgrade:
            raw.writer.write(UPGRADE)
            assert (await raw.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        return raw

    def say(self, what: bytes) -> None:
        if not self.writer.is_closing():
            self.writer.write(what)

    async def end(self, within_s: float) -> int:
        """Wait until the other side hangs up; how many bytes it said before. Raises ``TimeoutError``."""
        async with asyncio.timeout(within_s):
            size = 0
            with contextlib.suppress(OSError):
                while chunk := await self.reader.read(1 << 16):
                    size += len(chunk)
        self.writer.transport.abort()
        return size

    def abort(self) -> None:
        self.writer.transport.abort()


def websocket_frame(payload: bytes, *, opcode: int = 2, announced: int | None = None) -> bytes:
    """One masked frame (RFC 6455, the mask is zeros); ``announced``: a length that is not the payload's."""
    size = len(payload) if announced is None else announced
    head = bytes((0x80 | opcode, 0x80 | 127)) + size.to_bytes(8, "big")
    return head + bytes(4) + payload


class Stranger:
    """One conduit to a node, seen raw: everything the node says is kept."""

    def __init__(self, conduit: Conduit) -> None:
        self.conduit = conduit
        self.heard: list[bytes] = []
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._came = asyncio.Event()
        conduit.on_message, conduit.on_close = self._on_message, self.ended.set_result
        conduit.on_drained = lambda: None

    @classmethod
    async def dial(cls, env: SystemEnv, address: str) -> Stranger:
        return cls(await conduit_to(env, address))

    def _on_message(self, raw: bytes) -> None:
        self.heard.append(raw)
        self._came.set()

    async def next(self, number: int) -> bytes:
        """The message of this number, once it is there."""
        while len(self.heard) <= number:
            self._came.clear()
            await self._came.wait()
        return self.heard[number]


async def conduit_to(env: SystemEnv, address: str) -> Conduit:
    done: asyncio.Future[Conduit | DialFailed] = asyncio.get_running_loop().create_future()

    def on_done(outcome: Conduit | DialFailed) -> None:
        done.set_result(outcome)
        if not isinstance(outcome, DialFailed):
            outcome.on_message = outcome.on_close = lambda _: None
            outcome.on_drained = lambda: None

    env.transport.dial(address, on_done, 5 * SECOND)
    outcome = await done
    assert not isinstance(outcome, DialFailed), outcome
    return outcome


async def knock(env: SystemEnv, address: str, identity: Identity, mesh: Mesh) -> EstablishedLink | Refusal:
    """A proper handshake with the node at ``address``."""
    done: asyncio.Future[EstablishedLink | Refusal] = asyncio.get_running_loop().create_future()
    conduit = await conduit_to(env, address)
    establish(
        env, conduit, identity, mesh, dialed=True, on_link=done.set_result, on_refused=done.set_result, insist=True,
        boot=os.urandom(16),
    )  # fmt: skip
    return await done


class Liar:
    """An admitted member: it knows the secret, and what it says next is up to the test.

    ``frames`` are the signed frames it was sent, ``messages`` the link messages, ``said`` how it was thrown out.
    """

    def __init__(self, env: SystemEnv, mesh: Mesh, identity: Identity | None = None) -> None:
        self.env, self.mesh = env, mesh
        self.identity = identity or Identity(next(_seeds).to_bytes(32, "big"))
        self.log = os.urandom(8)
        self.doc = Document(actor="liar")
        self.frames: list[bytes] = []
        self.messages: deque[bytes] = deque(maxlen=4096)
        self.bytes = 0
        self.link: EstablishedLink | None = None
        self.ended: asyncio.Future[str] | None = None
        self._came = asyncio.Event()

    async def join(self, address: str) -> Liar:
        """Be a link of the node at ``address``."""
        link = await knock(self.env, address, self.identity, self.mesh)
        assert isinstance(link, EstablishedLink), link
        self.link, self.ended = link, asyncio.get_running_loop().create_future()
        link.on_frame, link.on_close = self._on_frame, self._on_close
        return self

    def _on_frame(self, lane: Lane, raw: bytes) -> None:
        assert self.link is not None
        self.link.consumed(lane, len(raw))
        self.bytes += len(raw)
        if is_signed_frame(raw):
            self.frames.append(raw)
        else:
            self.messages.append(raw)
        self._came.set()

    def _on_close(self, cause: str) -> None:
        assert self.ended is not None
        self.ended.set_result(cause)
        self._came.set()

    async def until(self, holds: Callable[[], Any], within_s: float = 5.0) -> None:
        """Wait until something that comes over the link, or its end, makes ``holds`` true."""
        async with asyncio.timeout(within_s):
            while not holds():
                self._came.clear()
                await self._came.wait()

    @property
    def is_linked(self) -> bool:
        return self.ended is not None and not self.ended.done()

    def say(self, raw: bytes | m.LinkMessage, lane: Lane = Lane.CONTROL) -> bool:
        """Send one frame. False: the lane is full."""
        assert self.link is not None
        return self.link.try_send(lane, raw if isinstance(raw, bytes) else m.encode(raw))

    async def flood(self, messages: Iterator[bytes], lane: Lane = Lane.CONTROL, seconds: float = 0.5) -> int:
        """Say as many as the link takes within ``seconds``; how many that were."""
        assert self.link is not None
        until, count = time.monotonic() + seconds, 0
        conduit: Conduit = self.link._conduit
        while self.is_linked and time.monotonic() < until:
            if conduit.backlog + self.link.queued(lane) > 256 << 10:
                await asyncio.sleep(0.001)
                continue
            if not self.say(next(messages), lane):
                await asyncio.sleep(0.001)
                continue
            count += 1
            if not count % 16:
                await asyncio.sleep(0)
        return count

    def raw(self, message: bytes) -> None:
        """One conduit message, past all lanes and credits."""
        assert self.link is not None
        self.link._conduit.send(message)

    async def thrown_out(self, within_s: float = 5.0) -> str:
        """Wait until the node has hung up."""
        assert self.ended is not None
        async with asyncio.timeout(within_s):
            return await self.ended

    def leave(self) -> None:
        if self.link is not None:
            self.link.close("closed")

    def vanish(self) -> None:
        """End the connection without a word."""
        if self.link is not None:
            conduit: Any = self.link._conduit
            conduit.abort("gone")

    def frame(self, first: int, previous: SignedFrame | None, key: str, value: Any, *, log: bytes | None = None,
              stream: str = "main", hlc: int | None = None) -> SignedFrame:  # fmt: skip
        """A frame of its log with one register write in it, whatever was signed before."""
        items = item_of(self.identity, log or self.log, first, key, value)
        return seal(
            self.identity, self.mesh, stream=stream, log=log or self.log, first=first, count=1,
            hlc=hlc if hlc is not None else (self.env.now() // 1_000_000) << 16,
            previous=GENESIS if previous is None else previous.digest, items=[items],
        )  # fmt: skip


def item_of(identity: Identity, log: bytes, first: int, key: str, value: Any) -> bytes:
    """The item of a write that is operation ``first`` of a log."""
    made: list[Change] = []
    document = Document(actor="x", on_change=made.append)
    document.register(key).set(value)
    return made[-1].item()


class User:
    """Somebody who uses a node all the while: reads and writes through its control socket, and takes the time.

    A process of its own (``tests.lan.user``), so that it is not the attackers' work here that it waits for. Writes go
    to a space of their own: the digest of ``main`` must not move. The figures are there after the end.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self.count, self.worst_s, self.failed = 0, 0.0, "it never ended"

    def __enter__(self) -> User:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.lan.user", str(self._host.data)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "at work\n"
        return self

    def __exit__(self, kind: type[BaseException] | None, wrong: BaseException | None, _: TracebackType | None) -> None:
        told, _errors = self._process.communicate(timeout=30)
        self.count, self.worst_s, self.failed = json.loads(told)


def memory_mb(host: Host, *, peak: bool = False) -> float:
    """What a node's process holds in memory now, or at most since ``forget_peak``."""
    assert host.process is not None
    text = Path(f"/proc/{host.process.pid}/status").read_text()
    found = re.search(rf"{'VmHWM' if peak else 'VmRSS'}:\s+(\d+) kB", text)
    assert found
    return int(found[1]) / 1024


def forget_peak(host: Host) -> None:
    """Begin to measure the peak anew (proc(5), clear_refs 5)."""
    assert host.process is not None
    with contextlib.suppress(OSError):
        Path(f"/proc/{host.process.pid}/clear_refs").write_text("5")


class Tap:
    """A relay of TCP bytes in front of a node that keeps a copy of all of them."""

    def __init__(self, address: str) -> None:
        self._to = host_and_port(address)
        self.conversations: list[tuple[bytearray, bytearray]] = []  # to the node, from it
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Tap:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    @property
    def address(self) -> str:
        assert self._server is not None
        return "{}:{}".format(*self._server.sockets[0].getsockname())

    @property
    def bytes(self) -> bytes:
        return b"".join(bytes(way) for both in self.conversations for way in both)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(*self._to)
        copy = bytearray(), bytearray()
        self.conversations.append(copy)
        for source, sink, kept in ((reader, inner_writer, copy[0]), (inner_reader, writer, copy[1])):
            task = asyncio.create_task(self._pump(source, sink, kept))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, kept: bytearray) -> None:
        with contextlib.suppress(OSError):
            while chunk := await source.read(1 << 16):
                kept += chunk
                sink.write(chunk)
                await sink.drain()
        sink.close()

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class Middle:
    """A man in the middle with a certificate of his own: he reads every conduit message and passes it on."""

    def __init__(self, env: SystemEnv, address: str) -> None:
        self.env, self._to = env, address
        self.heard: list[bytes] = []
        self.tried = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self) -> str:
        listener = await self.env.transport.listen("127.0.0.1:0", self._on_conduit)
        return listener.addresses[0]

    def _on_conduit(self, outer: Conduit) -> None:
        self.tried += 1
        early: list[bytes] = []
        outer.on_message, outer.on_close, outer.on_drained = early.append, lambda _: None, lambda: None
        task = asyncio.get_running_loop().create_task(self._relay(outer, early))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _relay(self, outer: Conduit, early: list[bytes]) -> None:
        inner = await conduit_to(self.env, self._to)

        def passing(to: Conduit) -> Callable[[bytes], None]:
            def on_message(raw: bytes) -> None:
                self.heard.append(raw)
                to.send(raw)

            return on_message

        outer.on_message, inner.on_message = passing(inner), passing(outer)
        outer.on_close, inner.on_close = lambda why: inner.close(why), lambda why: outer.close(why)
        for raw in early:
            inner.send(raw)


def secret_mesh(name: str, secret: str | None) -> Mesh:
    """The mesh as a member knows it. None: open."""
    return admission(name, secret=secret, open=secret is None)


__all__ = [
    "HandshakeError", "Liar", "Middle", "Raw", "Stranger", "Tap", "User", "careless", "forget_peak", "knock",
    "memory_mb", "secret_mesh", "websocket_frame", "world",
]  # fmt: skip
