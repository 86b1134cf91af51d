"""One open WebSocket as a ``transport.base.Conduit``, at either end. How it came to be is ``transport.websocket``'s."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import aiohttp
from aiohttp import web

from transport.base import MESSAGE_BYTES_MAX

CLOSE_S = 1.0  # guess: how long an orderly end may take before the socket is cut
STRANGER_CLOSE_S = 0.1  # guess: the same for one that never finished its handshake: it costs 0.8 MB meanwhile
OPENING_MESSAGES = 2  # what a dialer says in the handshake; after the second it is proven, or the owner closed
# A node is one loop: whoever floods it with what is dear to handle takes at most half of it, in pieces of this size.
# Bulk transfer stays far below (32 KiB of frames cost 0.3 ms); a member's flood of records had users wait for 7 s.
SLICE_S = 0.002
_WORDS_S = 0.1  # after a failed write, for the reader to come upon the reason
_REASON_BYTES_MAX = 120  # RFC 6455 5.5: a control frame carries 125 bytes, two of them the code

_Socket: TypeAlias = aiohttp.ClientWebSocketResponse | web.WebSocketResponse


class WebSocketConduit:
    """One open WebSocket. See ``transport.base.Conduit`` for what it promises.

    An accepted one reads at most ``websocket.OPENING_BYTES`` before its owner took the dialer's first two messages, the
    handshake's. ``send`` hands a message to the socket at once, or, while the wire is busy, to a queue that one writer
    task drains; one reader task calls ``on_message``, and for what that takes beyond ``SLICE_S`` the other end waits as
    long again. Bytes count as backlog until the TLS layer has handed them to the socket; ``on_drained`` means that a
    backlog there was is gone. Beyond it an asyncio socket buffer (64 KiB) and what the kernel takes
    (``door.UNSENT_BYTES``) keep the wire busy meanwhile.
    """

    on_message: Callable[[bytes], None]
    on_drained: Callable[[], None]
    on_close: Callable[[str], None]

    def __init__(
        self, socket: _Socket, transport: asyncio.Transport, *, remote: str, binding: bytes,
        on_opened: Callable[[], None] | None = None,
    ) -> None:  # fmt: skip
        self.remote, self.binding = remote, binding
        self.on_message, self.on_drained, self.on_close = _ignore, _ignore, _ignore
        self._socket = socket
        self._on_opened = on_opened  # called once ``OPENING_MESSAGES`` were read, then None
        self._transport = transport
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._wake = asyncio.Event()
        self._is_idle = False  # the writer waits for something to write
        self._reason: str | None = None  # why we end it; None while it lives
        self._ended = False
        self._writer: asyncio.Task[None] | None = None
        self._cut: asyncio.TimerHandle | None = None  # after ``close``: when patience ends
        transport.set_write_buffer_limits(high=1, low=0)  # "paused" from the first byte TLS could not hand on

    @property
    def is_closing(self) -> bool:
        """Whether its owner ended it."""
        return self._reason is not None

    @property
    def backlog(self) -> int:
        """Bytes taken by ``send`` and not yet by the wire."""
        if self._ended:
            return 0
        try:
            return self._queued_bytes + self._transport.get_write_buffer_size()
        except AttributeError:  # asyncio's TLS, once the socket under it is gone; the end is about to be told
            return self._queued_bytes

    def send(self, message: bytes) -> None:
        """Queue one message. Raises ``ValueError`` past ``MESSAGE_BYTES_MAX``: the other end would hang up on it."""
        if len(message) > MESSAGE_BYTES_MAX:
            raise ValueError(f"a message has at most {MESSAGE_BYTES_MAX} bytes, got {len(message)}")
        if self._reason is not None or self._ended:
            return
        if self._is_idle and not self.backlog:
            self._write_now(message)
        else:
            self._queue.append(message)
            self._queued_bytes += len(message)
            self._rouse()

    def _write_now(self, message: bytes) -> None:
        """Nothing is before it: hand it to the socket in this very call, not two turns of the loop later."""
        sending = self._socket.send_bytes(message)
        try:
            wait: Any = sending.send(None)  # its first step writes; then, at most, it waits until the wire took it
        except StopIteration:
            pass
        except (OSError, aiohttp.ClientError):
            self._transport.abort()  # the connection is gone: the reader knows why
            return
        else:  # the writer waits instead, for the same future: it must not look as if somebody did already
            wait._asyncio_future_blocking = False
            sending.close()
        if self.backlog:
            self._rouse()  # the writer waits for the wire, and tells

    def _rouse(self) -> None:
        self._is_idle = False
        self._wake.set()

    def close(self, reason: str = "closed") -> None:
        """End it once what was sent is flushed, or after ``CLOSE_S``. A second call does nothing."""
        if self._reason is None and not self._ended:
            self._reason = reason
            self._wake.set()
            patience_s = CLOSE_S if self._on_opened is None else STRANGER_CLOSE_S
            self._cut = asyncio.get_running_loop().call_later(patience_s, self.abort, reason)

    def abort(self, reason: str) -> None:
        """End it now; what is queued is lost. ``on_close`` follows all the same."""
        if not self._ended:
            self._reason = reason
            self._transport.abort()
            if self._writer is not None:
                self._writer.cancel()

    async def run(self) -> None:
        """Read and write until it ends, then tell ``on_close``. The caller's task; cancelling it cuts the socket."""
        loop = asyncio.get_running_loop()
        reader = loop.create_task(self._read(), name=f"conduit reader {self.remote}")
        self._writer = writer = loop.create_task(self._write(), name=f"conduit writer {self.remote}")
        try:
            await asyncio.wait({reader, writer}, return_when=asyncio.FIRST_COMPLETED)
            if self._reason is None:
                await asyncio.wait({reader}, timeout=_WORDS_S)  # the writer failed: the reader may know why
            else:
                await asyncio.wait({writer})  # our own end: still being flushed, for CLOSE_S at most
        finally:
            self._ended = True
            self._queue.clear()
            self._queued_bytes = 0
            if self._cut is not None:
                self._cut.cancel()
            for task in (reader, writer):
                task.add_done_callback(report_bug)
                task.cancel()
            self._transport.abort()  # after an orderly end nothing is left to lose
            self.on_close(self._reason or _words_of(reader))
            self.on_message, self.on_drained, self.on_close = _ignore, _ignore, _ignore

    async def _read(self) -> str:
        read, busy_s = 0, 0.0  # the second: time spent on it, less the time it left to others
        now = asyncio.get_running_loop().time
        ended = now()
        while True:
            if busy_s > SLICE_S:
                await asyncio.sleep(busy_s)  # meanwhile aiohttp, then the kernel, lets the other end wait
            message = await self._socket.receive()
            began = now()
            busy_s = max(0.0, busy_s - (began - ended))
            match message.type:
                case aiohttp.WSMsgType.BINARY:
                    if self._reason is None:
                        self.on_message(message.data)
                    read += 1
                    if read == OPENING_MESSAGES and self._on_opened is not None and self._reason is None:
                        self._on_opened()
                        self._on_opened = None
                    ended = now()
                    busy_s += ended - began
                case aiohttp.WSMsgType.CLOSE:
                    return f"closed by the other end: {printable(message.extra or '')}"
                case aiohttp.WSMsgType.ERROR:
                    return f"broken: {printable(str(message.data))}"
                case aiohttp.WSMsgType.CLOSED | aiohttp.WSMsgType.CLOSING:
                    return "connection lost"
                case other:
                    # Text, ping and pong: no node sends them; answering would make receiving wait on sending.
                    return f"broke the rule: {other.name.lower()} is not spoken here"

    async def _write(self) -> None:
        """Drain the queue. Ends with the conduit; any failure here cuts the socket, and the reader then tells why."""
        send, drain = self._socket.send_bytes, _drain_of(self._socket)
        try:
            while self._reason is None:
                self._is_idle = not self._wake.is_set()
                await self._wake.wait()
                self._is_idle = False
                self._wake.clear()
                while self._queue:
                    message = self._queue.popleft()
                    self._queued_bytes -= len(message)
                    await send(message)
                    await drain()
                await drain()
                if self._reason is None:
                    self.on_drained()
                if self._queue:
                    self._wake.set()
            while self._queue:
                await send(self._queue.popleft())
            await self._socket.close(message=self._reason.encode()[:_REASON_BYTES_MAX])
        except (OSError, aiohttp.ClientError):
            pass  # the connection is gone: the reader knows why
        finally:
            self._transport.abort()


def _words_of(reader: asyncio.Task[str]) -> str:
    """Why it ended, as far as the reader knows."""
    if not reader.done() or reader.cancelled():
        return "aborted"
    return "its owner failed" if reader.exception() is not None else reader.result()


def report_bug(task: asyncio.Task[Any]) -> None:
    """What a callback of the owner raised is the owner's bug: shown, never swallowed."""
    if not task.cancelled() and (bug := task.exception()) is not None:
        task.get_loop().call_exception_handler({"message": f"{task.get_name()} failed", "exception": bug, "task": task})


def _ignore(*_: object) -> None:
    """Where callbacks go after the end, and before an owner is there."""


def _drain_of(socket_: _Socket) -> Callable[[], Awaitable[None]]:
    """Waits while the transport is paused. Private in aiohttp, whose own ``send`` waits only past 64 KiB."""
    writer: Any = socket_._writer
    drain: Callable[[], Awaitable[None]] = writer.protocol._drain_helper
    return drain


def printable(text: str) -> str:
    """``text`` from a stranger, short and without control characters."""
    return "".join(c if c.isprintable() else "?" for c in text[:120])
