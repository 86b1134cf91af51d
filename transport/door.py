"""The way in: accepted sockets until they are open WebSockets, bounded in number, time and memory.

Strangers can open sockets as fast as they like. What is no upgraded WebSocket ``UPGRADE_S`` after it was accepted is
cut. Who does not say a whole ClientHello costs a descriptor only, for TLS begins with that (Python's takes 0.3-0.7 MB a
connection). Each of the two stages holds a bounded number; the next one pushes out the oldest that had ``GRACE_S``, or
waits until there is such a one. An honest upgrade takes 5 ms, so a flood of half-open connections costs honest ones
little.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Sequence

UPGRADE_S = 5.0  # guess: TLS and HTTP upgrade take 2 round trips; 5 s is the slowest usable link
SILENT_MAX = 256  # sockets that have not said hello: a descriptor and a task each
SHAKING_MAX = 48  # in TLS or HTTP: 30 MB at worst; 48 each 5 ms is more than a core can do
GRACE_S = 0.1  # guess: 20 times what an honest upgrade takes on a LAN
BACKLOG = 256  # accepted by the kernel and not yet by us
UNSENT_BYTES = 256 << 10  # kernel send queue: deep enough for a LAN, shallow enough that control overtakes soon
WINDOW_BYTES = 4 << 20  # the receive window of who is proven: 1 Gbit/s over 30 ms
_HELLO_BYTES_MAX = 8192  # OpenSSL's has 300 bytes, 1.6 KB with post-quantum keys
_PAUSE_S = 0.1  # after the system refused a socket (no descriptors left)
_ROOM_S = 0.01  # how often who waits for room looks again
_SILENCE_MS = 10_000  # a cut cable ends a socket that has data to send; membership notices far earlier


class Door:
    """Accepts on ``listeners`` and hands each socket, after TLS, to a protocol made by ``make``.

    The owner calls ``admitted`` when a protocol became a WebSocket and ``lost`` when its connection ended.
    """

    def __init__(
        self, listeners: Sequence[socket.socket], context: ssl.SSLContext, make: Callable[[], asyncio.Protocol]
    ) -> None:
        self.counts: Counter[str] = Counter()  # accepted; cut as: tls, slow, crowded, no_socket
        self._listeners = listeners
        self._context = context
        self._make = make
        self._loop = asyncio.get_running_loop()
        self._silent: dict[_Pending, None] = {}  # oldest first, both
        self._shaking: dict[_Pending, None] = {}
        self._by_protocol: dict[asyncio.Protocol, _Pending] = {}
        self._tasks = [self._loop.create_task(self._accept(each), name="door") for each in listeners]

    @property
    def pending(self) -> int:
        """Sockets that are not yet WebSockets."""
        return len(self._silent) + len(self._shaking)

    def admitted(self, protocol: asyncio.Protocol) -> None:
        """It is a WebSocket now: no longer the door's."""
        if entry := self._by_protocol.get(protocol):
            self._forget(entry)

    lost = admitted

    async def close(self) -> None:
        """Stop accepting and cut what is not through. Open WebSockets stay."""
        for task in self._tasks:
            task.cancel()
        entries = [*self._silent, *self._shaking]
        for entry in entries:
            self._evict(entry, "closed")
        await asyncio.gather(*self._tasks, *(entry.task for entry in entries), return_exceptions=True)
        for listener in self._listeners:
            listener.close()

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            await self._make_room(self._silent, SILENT_MAX)
            try:
                accepted, _ = await self._loop.sock_accept(listener)
            except OSError as failed:
                if failed.errno not in (errno.ECONNABORTED, errno.EPROTO):  # those: it gave up before we came
                    self.counts["no_socket"] += 1
                    await asyncio.sleep(_PAUSE_S)
                continue
            self.counts["accepted"] += 1
            tune_socket(accepted)
            entry = _Pending(accepted, self._loop.time())
            self._silent[entry] = None
            entry.timer = self._loop.call_later(UPGRADE_S, self._evict, entry, "slow")
            entry.task = self._loop.create_task(self._admit(entry), name="door admits")

    async def _admit(self, entry: _Pending) -> None:
        try:
            await self._hello(entry.socket)
            await self._make_room(self._shaking, SHAKING_MAX)
            self._silent.pop(entry, None)
            self._shaking[entry] = None
            entry.since = self._loop.time()
            protocol = entry.protocol = self._make()
            self._by_protocol[protocol] = entry
            entry.transport, _ = await self._loop.connect_accepted_socket(
                lambda: protocol,
                entry.socket,
                ssl=self._context,
                ssl_handshake_timeout=UPGRADE_S,
                ssl_shutdown_timeout=1.0,
            )
        except OSError:  # ssl.SSLError and TimeoutError are OSErrors too
            self.counts["tls"] += 1
            entry.socket.close()
            self._forget(entry)
        except asyncio.CancelledError:
            # Evicted. Not raised on: the task would keep the exception, that its frames, those the TLS buffers (0.3 MB)
            # until a garbage collection, and a flood fills memory faster than that.
            entry.socket.close()

    async def _hello(self, accepted: socket.socket) -> None:
        """Until the kernel holds a whole TLS ClientHello. Raises ``OSError`` when what came is none, or the end."""
        ready: asyncio.Future[None] = self._loop.create_future()
        try:
            self._loop.add_reader(accepted, _resolve, ready)
        except NotImplementedError:
            return  # Windows' loop cannot tell: there TLS begins at once
        try:
            await ready
        finally:
            self._loop.remove_reader(accepted)
        while True:
            head = accepted.recv(_HELLO_BYTES_MAX, socket.MSG_PEEK)
            size = 5 + int.from_bytes(head[3:5], "big")
            if not b"\x16\x03".startswith(head[:2]) or not head or size > _HELLO_BYTES_MAX:
                raise ConnectionAbortedError("no TLS")
            if len(head) >= size > 5:
                return
            await asyncio.sleep(_ROOM_S)  # in pieces: rare, and the socket would report itself readable all the time

    async def _make_room(self, stage: dict[_Pending, None], size_max: int) -> None:
        while len(stage) >= size_max:
            oldest = next(iter(stage))
            if oldest.since + GRACE_S <= self._loop.time():
                self._evict(oldest, "crowded")
            else:
                await asyncio.sleep(_ROOM_S)

    def _evict(self, entry: _Pending, why: str) -> None:
        self.counts[why] += 1
        self._forget(entry)
        if entry.transport is not None:
            entry.transport.abort()
        entry.task.cancel()

    def _forget(self, entry: _Pending) -> None:
        entry.timer.cancel()
        self._silent.pop(entry, None)
        self._shaking.pop(entry, None)
        if entry.protocol is not None:
            self._by_protocol.pop(entry.protocol, None)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class _Pending:
    __slots__ = ("protocol", "since", "socket", "task", "timer", "transport")

    task: asyncio.Task[None]
    timer: asyncio.TimerHandle

    def __init__(self, accepted: socket.socket, since: float) -> None:
        self.socket, self.since = accepted, since
        self.protocol: asyncio.Protocol | None = None
        self.transport: asyncio.Transport | None = None


async def open_listeners(hosts: Sequence[str], port: int) -> list[socket.socket]:
    """Listening sockets at each of ``hosts``, all on one port. Raises ``OSError`` when that port is taken.

    Several hosts are IPv4 and IPv6 of the same thing: a family this host does not have is left out, one must work.
    """
    loop = asyncio.get_running_loop()
    targets: dict[tuple[int, tuple[object, ...]], None] = {}
    for host in hosts:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        targets.update({(family, address): None for family, _, _, _, address in found})
    for attempt in range(8):  # port 0: the first family's port may be taken in the second
        try:
            return _listen_all(list(targets), port)
        except OSError as failed:
            if port or failed.errno != errno.EADDRINUSE or attempt == 7:
                raise
    raise AssertionError("unreachable")


def _listen_all(targets: Sequence[tuple[int, tuple[object, ...]]], port: int) -> list[socket.socket]:
    opened: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, address in targets:
            try:
                listener = _listen(family, (address[0], port, *address[2:]))
            except OSError as failed:
                if failed.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                    raise
                missing = failed
                continue
            opened.append(listener)
            port = listener.getsockname()[1]
    except OSError:
        for listener in opened:
            listener.close()
        raise
    if not opened:
        raise missing or OSError(errno.EADDRNOTAVAIL, "no such address on this host")
    return opened


def _listen(family: int, address: tuple[object, ...]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        if os.name == "posix":  # on Windows it would let others steal the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def tune_socket(sock: socket.socket) -> None:
    """No Nagle, a shallow send queue, and an end when the other side is silent. What a platform lacks is left out."""
    options = [
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    ]
    for name, value in (
        ("TCP_KEEPIDLE", 5),
        ("TCP_KEEPINTVL", 2),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", _SILENCE_MS),
        ("TCP_NOTSENT_LOWAT", UNSENT_BYTES),
    ):
        if (option := getattr(socket, name, None)) is not None:
            options.append((socket.IPPROTO_TCP, option, value))
    for level, option, value in options:
        with contextlib.suppress(OSError):
            sock.setsockopt(level, option, value)


def clamp_window(sock: socket.socket, size: int) -> None:
    """Let the other end have at most ``size`` bytes under way to us, where the system can (Linux)."""
    if (option := getattr(socket, "TCP_WINDOW_CLAMP", None)) is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, option, size)
