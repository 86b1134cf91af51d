"""Conduits over WebSocket and TLS 1.3 (aiohttp): how nodes reach each other on a real network.

Not promised: who is at the other end. That is for the handshake inside (``transport.handshake``), which signs the hash
of the server's certificate. Everything a stranger can cause here ends in a closed socket, in bounded time and memory:
see ``transport.door`` for what happens before the upgrade.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, NoReturn

import aiohttp
from aiohttp import web
from yarl import URL

from transport.address import ALL_INTERFACES, join_address, split_address
from transport.base import MESSAGE_BYTES_MAX, SECOND, Conduit, DialFailed, DialFault
from transport.certificate import binding_of, client_context, server_context
from transport.conduit import CLOSE_S, WebSocketConduit, printable, report_bug
from transport.door import UPGRADE_S, WINDOW_BYTES, Door, clamp_window, open_listeners, tune_socket
from transport.interfaces import Interfaces, reachable_hosts, system_interfaces

PATH = "/gossamer/1"

CONDUITS_MAX = 96  # accepted ones: links (16), strangers in the handshake (64), and those that are just ending
OPENING_BYTES = 64 << 10  # taken from a stranger before the handshake is over; what it sends beyond waits in its kernel


class WebSocketListener:
    """An open door at one port, on one address or all of them. Closing it leaves open conduits alone."""

    def __init__(
        self, listeners: list[socket.socket], context: ssl.SSLContext, binding: bytes, owner: WebSocketTransport,
        on_conduit: Callable[[Conduit], None],
    ) -> None:  # fmt: skip
        self._bound = [each.getsockname()[:2] for each in listeners]
        self._binding = binding
        self._owner = owner
        self._on_conduit = on_conduit
        self._open = 0
        self._server = server = _Server(
            self._serve,
            access_log=None,
            logger=_silent,
            keepalive_timeout=UPGRADE_S,
            lingering_time=0.0,
            max_line_size=1024,
            max_field_size=2048,
        )
        self._door = server.door = Door(listeners, context, server)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where others may dial, most useful first; "all interfaces" is spelled out as they are now."""
        found: list[str] = []
        interfaces = None
        for host, port in self._bound:
            if host in ("0.0.0.0", "::"):
                interfaces = self._owner.interfaces() if interfaces is None else interfaces
                version = 6 if ":" in host else 4
                found += (join_address(each, port) for each in reachable_hosts(interfaces, version))
            else:
                found.append(join_address(host, port))
        return tuple(sorted(dict.fromkeys(found), key=lambda address: address.startswith(("127.", "[::1]"))))

    @property
    def port(self) -> int:
        """The one port of all its sockets."""
        return int(self._bound[0][1])

    def explain(self) -> Mapping[str, int]:
        """What came to this door: sockets accepted, and those cut before they were WebSockets, by reason."""
        return {**self._door.counts, "pending": self._door.pending, "open": self._open}

    async def close(self) -> None:
        """Accept no more. Conduits that are open live on."""
        await self._door.close()

    async def finish(self) -> None:
        """Cut what is left of it, and let aiohttp's handlers end."""
        await self.close()
        await self._server.shutdown(CLOSE_S)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        assert isinstance(request.protocol, _Handler)
        # A browser always names its origin, a node never does: no web page may talk to the node of its reader.
        upgrade = web.WebSocketResponse(
            timeout=CLOSE_S, autoping=False, compress=False, max_msg_size=MESSAGE_BYTES_MAX + 1
        )
        if request.path != PATH or "Origin" in request.headers or not upgrade.can_prepare(request).ok:
            self._door.counts["http"] += 1
            return _refusal(404)
        if self._open >= CONDUITS_MAX and not self._owner._cut_one_that_ends():
            self._door.counts["full"] += 1
            return _refusal(503)
        transport = request.transport
        if transport is None:  # it left while the request was read
            return _refusal(400)
        await upgrade.prepare(request)
        self._door.admitted(request.protocol)
        peer = transport.get_extra_info("peername")
        conduit = WebSocketConduit(
            upgrade, transport, remote=_address_text(peer), binding=self._binding,
            on_opened=request.protocol.open_up,
        )  # fmt: skip
        self._open += 1
        try:
            await self._owner._serve(conduit, self._on_conduit)
        finally:
            self._open -= 1
        return upgrade


class WebSocketTransport:
    """``transport.base.Transport`` over ``wss``. Make and close it on one running loop."""

    def __init__(self, *, interfaces: Interfaces = system_interfaces) -> None:
        self.interfaces = interfaces
        self._loop = asyncio.get_running_loop()
        self._listeners: list[WebSocketListener] = []  # closed ones too, while conduits they accepted may live
        self._conduits: dict[WebSocketConduit, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None
        self._context: tuple[ssl.SSLContext, bytes] | None = None
        self._closed = False

    async def listen(self, address: str, on_conduit: Callable[[Conduit], None]) -> WebSocketListener:
        """Accept at ``HOST:PORT``; host ``*``, or none, is every interface, IPv4 and (where there is) IPv6 on one port.

        Port 0: any. ``0.0.0.0`` is IPv4 only, ``[::]`` IPv6 only, a name all it resolves to. Raises ``OSError`` when
        the port is taken or the address not this host's, ``ValueError`` when it is no address.
        """
        host, port = split_address(f"*{address}" if address.startswith(":") else address)
        listeners = await open_listeners(["0.0.0.0", "::"] if host == ALL_INTERFACES else [host], port)
        if self._context is None:
            self._context = server_context()
        listener = WebSocketListener(listeners, *self._context, self, on_conduit)
        self._listeners.append(listener)
        return listener

    def dial(self, address: str, on_done: Callable[[Conduit | DialFailed], None], timeout_ns: int) -> _Dial:
        """Try one address; ``on_done`` gets the outcome exactly once and later, unless cancelled before."""
        dial = _Dial()
        dial.task = self._spawn(self._dial(dial, address, on_done, timeout_ns / SECOND), f"dial {address}")
        return dial

    def explain(self) -> Mapping[str, Any]:
        """Open conduits and what came to each door: plain values."""
        return {
            "conduits": len(self._conduits),
            "doors": [{"addresses": list(each.addresses), **each.explain()} for each in self._listeners],
        }

    async def close(self) -> None:
        """End everything it opened: doors, dials, conduits (orderly for ``CLOSE_S``), the session. No task is left."""
        self._closed = True
        for listener in self._listeners:
            await listener.close()
        for conduit in list(self._conduits):
            conduit.close("shutting down")
        if self._conduits:
            runs = {task for task in self._tasks if task.get_name().startswith("conduit")}
            await asyncio.wait(runs, timeout=2 * CLOSE_S)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for listener in self._listeners:
            await listener.finish()
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _serve(self, conduit: WebSocketConduit, on_conduit: Callable[[Conduit], None]) -> None:
        """Hand an accepted conduit to its owner and see it through."""
        if self._closed:
            conduit.close("shutting down")
        else:
            on_conduit(conduit)
        await asyncio.wait({self._run(conduit)})

    def _cut_one_that_ends(self) -> bool:
        """Make room: a conduit that is only saying goodbye goes now. False: there is none."""
        ending = next((each for each in self._conduits if each.is_closing), None)
        if ending is not None:
            ending.abort("closed")
        return ending is not None

    def _run(self, conduit: WebSocketConduit) -> asyncio.Task[None]:
        self._conduits[conduit] = None
        task = self._spawn(conduit.run(), f"conduit {conduit.remote}")
        task.add_done_callback(lambda _: self._conduits.pop(conduit, None))
        return task

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = self._loop.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        report_bug(task)

    async def _dial(
        self, dial: _Dial, address: str, on_done: Callable[[Conduit | DialFailed], None], timeout_s: float
    ) -> None:
        try:
            host, port = split_address(address)
            if host == ALL_INTERFACES or port == 0:
                raise ValueError(f"{address!r} cannot be dialled")
            async with asyncio.timeout(timeout_s):
                conduit = await self._open(address, host, port)
        except (OSError, aiohttp.ClientError, ValueError) as failed:  # TimeoutError is an OSError
            fault, detail = _fault_of(failed)
            dial.done = True
            on_done(DialFailed(address, fault, detail))
            return
        dial.done = True
        try:
            on_done(conduit)
        finally:  # also when the owner failed: then nobody else would end it
            self._run(conduit)

    async def _open(self, address: str, host: str, port: int) -> WebSocketConduit:
        socket_ = await self._client().ws_connect(
            URL.build(scheme="wss", host=host, port=port, path=PATH),
            timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_S),
            autoping=False,
            compress=0,
            max_msg_size=MESSAGE_BYTES_MAX + 1,
        )
        transport = _transport_of(socket_)
        certificate = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        tune_socket(transport.get_extra_info("socket"))
        return WebSocketConduit(socket_, transport, remote=address, binding=binding_of(certificate))

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            no_redirects = aiohttp.TraceConfig()
            no_redirects.on_request_redirect.append(_refuse_redirect)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=client_context(), limit=0, use_dns_cache=False, force_close=True),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
                skip_auto_headers=("User-Agent",),
                trace_configs=[no_redirects],
            )
        return self._session


class _Dial:
    """Something under way that can be called off."""

    __slots__ = ("done", "task")

    task: asyncio.Task[None]

    def __init__(self) -> None:
        self.done = False

    def cancel(self) -> None:
        if not self.done:
            self.done = True
            self.task.cancel()


class _Handler(web.RequestHandler):
    """aiohttp's end of one connection, reading no more than ``OPENING_BYTES`` until it is told to ``open_up``.

    Beyond that it stops reading instead of hanging up: an honest dialer may send frames right behind its handshake.
    """

    __slots__ = ("_allowance",)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._allowance: int | None = OPENING_BYTES

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        clamp_window(transport.get_extra_info("socket"), OPENING_BYTES)  # else one read may bring 256 KiB
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._allowance is not None:
            self._allowance -= len(data)
            if self._allowance < 0 and self.transport is not None:
                self.transport.pause_reading()
        super().data_received(data)

    def open_up(self) -> None:
        """Whoever is there proved itself."""
        spent, self._allowance = self._allowance is not None and self._allowance < 0, None
        if self.transport is not None:
            clamp_window(self.transport.get_extra_info("socket"), WINDOW_BYTES)
            if spent and not self._reading_paused:
                self.transport.resume_reading()


class _Server(web.Server):
    """aiohttp's, telling the door when a connection is over."""

    door: Door

    def __call__(self) -> _Handler:
        return _Handler(self, loop=self._loop, **self._kwargs)

    def connection_lost(self, handler: Any, exc: BaseException | None = None) -> None:
        self.door.lost(handler)
        super().connection_lost(handler, exc)


# Strangers choose what aiohttp would log here; the door counts it instead.
_silent = logging.getLogger("transport.websocket.http")
_silent.setLevel(logging.CRITICAL + 1)


def _refusal(status: int) -> web.Response:
    response = web.Response(status=status, text="gossamer\n")
    response.force_close()
    return response


async def _refuse_redirect(*_: object) -> NoReturn:
    """A node never redirects; following one would let a stranger send our requests anywhere."""
    raise aiohttp.ClientError("answered with a redirect")


def _transport_of(socket_: aiohttp.ClientWebSocketResponse) -> asyncio.Transport:
    """The TLS transport under a client's WebSocket; private in aiohttp too."""
    writer: Any = socket_._writer
    transport: asyncio.Transport = writer.transport
    return transport


def _address_text(peer: tuple[Any, ...] | None) -> str:
    if peer is None:
        return "gone"
    host, port, *more = peer
    if len(more) == 2 and more[1] and "%" not in host:
        try:
            host = f"{host}%{socket.if_indextoname(more[1])}"
        except OSError:
            pass  # the interface is gone already; the text is for people
    return join_address(host, port)


def _fault_of(failed: Exception) -> tuple[DialFault, str]:
    """What a failed dial tells about the other end."""
    detail = printable(str(failed)) or type(failed).__name__
    match failed:
        case TimeoutError():
            return DialFault.TIMEOUT, "no answer in time"
        case aiohttp.WSServerHandshakeError(status=503):
            return DialFault.UNREACHABLE, "the node there is full"
        case aiohttp.WSServerHandshakeError(status=status):
            return DialFault.REFUSED, f"who listens there is no node (HTTP {status})"
        case aiohttp.ClientSSLError() | ssl.SSLError():
            return DialFault.TLS, detail
        case aiohttp.ClientConnectorDNSError():
            return DialFault.UNREACHABLE, f"the name is not known: {detail}"
        case aiohttp.InvalidURL():
            return DialFault.INVALID, detail
        case aiohttp.ClientConnectorError():
            match failed.os_error.errno:
                case errno.ECONNREFUSED:
                    return DialFault.REFUSED, "nobody listens there"
                case errno.ECONNRESET | errno.EPIPE:
                    return DialFault.TLS, "hung up during the TLS handshake"
                case _:
                    return DialFault.UNREACHABLE, detail
        case aiohttp.ClientError() | OSError():
            return DialFault.UNREACHABLE, detail
        case _:
            return DialFault.INVALID, detail
