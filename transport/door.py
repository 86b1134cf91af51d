"""The way in: accepted sockets until they are open WebSockets, bounded in number and time.

Strangers can open sockets as fast as they like. What is no upgraded WebSocket ``UPGRADE_S`` after it was accepted is
cut. At most ``PENDING_MAX`` are on their way at once; the next one pushes out the oldest that had ``GRACE_S``, or waits
in the kernel's queue until there is such a one. An honest upgrade takes 5 ms, so a flood of half-open connections costs
honest ones little, and memory is bounded.
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
PENDING_MAX = 128  # guess: about 60 KB each while TLS shakes hands
GRACE_S = 0.25  # guess: 50 times what an honest upgrade takes on a LAN
BACKLOG = 256  # accepted by the kernel and not yet by us
UNSENT_BYTES = 128 << 10  # kernel send queue: deep enough for a LAN, shallow enough that control overtakes soon
_PAUSE_S = 0.1  # after the system refused a socket (no descriptors left)
_SILENCE_MS = 10_000  # a cut cable ends a socket that has data to send; membership notices far earlier


class Door:
    """Accepts on ``listeners`` and hands each socket, after TLS, to a protocol made by ``make``.

    The owner calls ``admitted`` when a protocol became a WebSocket and ``lost`` when its connection ended.
    """

    def __init__(
        self, listeners: Sequence[socket.socket], context: ssl.SSLContext, make: Callable[[], asyncio.Protocol]
    ) -> None:
        self.counts: Counter[str] = Counter()  # accepted, tls, slow, crowded, no_socket
        self._listeners = listeners
        self._context = context
        self._make = make
        self._loop = asyncio.get_running_loop()
        self._pending: dict[asyncio.Protocol, _Pending] = {}  # oldest first
        self._tasks = [self._loop.create_task(self._accept(each), name="door") for each in listeners]

    @property
    def pending(self) -> int:
        """Sockets that are not yet WebSockets."""
        return len(self._pending)

    def admitted(self, protocol: asyncio.Protocol) -> None:
        """It is a WebSocket now: no longer the door's."""
        if entry := self._pending.pop(protocol, None):
            entry.timer.cancel()

    lost = admitted

    async def close(self) -> None:
        """Stop accepting and cut what is not through. Open WebSockets stay."""
        for task in self._tasks:
            task.cancel()
        admissions = [self._evict(entry, "closed") for entry in list(self._pending.values())]
        await asyncio.gather(*self._tasks, *admissions, return_exceptions=True)
        for listener in self._listeners:
            listener.close()

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                accepted, _ = await self._loop.sock_accept(listener)
            except OSError as failed:
                if failed.errno not in (errno.ECONNABORTED, errno.EPROTO):  # those: it gave up before we came
                    self.counts["no_socket"] += 1
                    await asyncio.sleep(_PAUSE_S)
                continue
            self.counts["accepted"] += 1
            try:
                await self._make_room()
            except asyncio.CancelledError:
                accepted.close()
                raise
            tune_socket(accepted)
            protocol = self._make()
            entry = _Pending(protocol, self._loop.time())
            entry.task = self._loop.create_task(self._admit(entry, accepted), name="door admits")
            entry.timer = self._loop.call_later(UPGRADE_S, self._evict, entry, "slow")
            self._pending[protocol] = entry

    async def _make_room(self) -> None:
        while len(self._pending) >= PENDING_MAX:
            oldest = next(iter(self._pending.values()))
            wait_s = oldest.since + GRACE_S - self._loop.time()
            if wait_s <= 0:
                self._evict(oldest, "crowded")
            else:
                await asyncio.sleep(min(wait_s, 0.01))

    async def _admit(self, entry: _Pending, accepted: socket.socket) -> None:
        try:
            entry.transport, _ = await self._loop.connect_accepted_socket(
                lambda: entry.protocol,
                accepted,
                ssl=self._context,
                ssl_handshake_timeout=UPGRADE_S,
                ssl_shutdown_timeout=1.0,
            )
        except OSError:  # ssl.SSLError and TimeoutError are OSErrors too
            self.counts["tls"] += 1
            accepted.close()
            self.lost(entry.protocol)
        except asyncio.CancelledError:
            accepted.close()
            raise

    def _evict(self, entry: _Pending, why: str) -> asyncio.Task[None]:
        self.counts[why] += 1
        self.lost(entry.protocol)
        if entry.transport is not None:
            entry.transport.abort()
        entry.task.cancel()
        return entry.task


class _Pending:
    __slots__ = ("protocol", "since", "task", "timer", "transport")

    task: asyncio.Task[None]
    timer: asyncio.TimerHandle

    def __init__(self, protocol: asyncio.Protocol, since: float) -> None:
        self.protocol, self.since = protocol, since
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
