"""Conduits on real loopback sockets: what is promised holds, and what strangers do is bounded and harmless."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest

from transport import door, websocket
from transport.base import MESSAGE_BYTES_MAX, SECOND, Conduit, DialFailed, DialFault
from transport.certificate import client_context
from transport.websocket import WebSocketConduit, WebSocketListener, WebSocketTransport

WAIT_S = 8.0


class End:
    """One end of a conduit, as an owner keeps it."""

    def __init__(self, conduit: Conduit) -> None:
        self.conduit = conduit
        self.messages: list[bytes] = []
        self.closed: list[str] = []
        self.drained = 0
        self._changed = asyncio.Event()
        conduit.on_message = self._on_message
        conduit.on_drained = self._on_drained
        conduit.on_close = self._on_close

    def _on_message(self, message: bytes) -> None:
        assert not self.closed
        self.messages.append(message)
        self._changed.set()

    def _on_drained(self) -> None:
        assert not self.closed
        self.drained += 1
        self._changed.set()

    def _on_close(self, reason: str) -> None:
        self.closed.append(reason)
        self._changed.set()

    async def until(self, question: Callable[[], object]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not question():
                self._changed.clear()
                await self._changed.wait()


class Net:
    """Two transports; ``open`` gives both ends of a fresh conduit."""

    def __init__(self) -> None:
        self.here, self.there = WebSocketTransport(), WebSocketTransport()
        self.accepted: asyncio.Queue[End] = asyncio.Queue()
        self.failures: list[dict[str, object]] = []

    async def listen(self, address: str = "127.0.0.1:0") -> WebSocketListener:
        return await self.there.listen(address, lambda conduit: self.accepted.put_nowait(End(conduit)))

    async def dial(self, address: str, timeout_s: float = WAIT_S) -> End | DialFailed:
        done: asyncio.Future[End | DialFailed] = asyncio.get_running_loop().create_future()
        self.here.dial(
            address,
            lambda outcome: done.set_result(outcome if isinstance(outcome, DialFailed) else End(outcome)),
            int(timeout_s * SECOND),
        )
        return await asyncio.wait_for(done, WAIT_S + timeout_s)

    async def open(self, listener: WebSocketListener) -> tuple[End, End]:
        dialled = await self.dial(listener.addresses[0])
        assert isinstance(dialled, End), dialled
        accepted = await asyncio.wait_for(self.accepted.get(), WAIT_S)
        for each in b"12":  # the handshake's two: before them only ``OPENING_BYTES`` are read
            dialled.conduit.send(bytes([each]))
        await accepted.until(lambda: len(accepted.messages) == 2)
        assert dialled.conduit.backlog == 0
        accepted.messages.clear()
        dialled.drained = 0
        return dialled, accepted


@pytest.fixture
async def net() -> AsyncIterator[Net]:
    made = Net()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: made.failures.append(context))
    yield made
    await made.here.close()
    await made.there.close()
    assert made.failures == []
    assert asyncio.all_tasks() == {asyncio.current_task()}, "a task leaked"


async def test_messages_arrive_in_order_both_ways_and_the_binding_is_the_certificate(net: Net) -> None:
    listener = await net.listen()
    one, other = await net.open(listener)
    sent = [bytes([n % 256]) * (n * 997) for n in range(40)]
    for message in sent:
        one.conduit.send(message)
        other.conduit.send(message)
    await one.until(lambda: len(one.messages) == len(sent))
    await other.until(lambda: len(other.messages) == len(sent))
    assert one.messages == other.messages == sent
    context = client_context()
    _, port = listener.addresses[0].split(":")
    der = await asyncio.to_thread(_certificate_at, int(port), context)
    assert one.conduit.binding == other.conduit.binding == hashlib.sha256(der).digest()
    assert one.conduit.remote == listener.addresses[0]


def _certificate_at(port: int, context: ssl.SSLContext) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as raw, context.wrap_socket(raw) as tls:
        assert tls.version() == "TLSv1.3"
        der = tls.getpeercert(binary_form=True)
        assert der
        return der


async def test_close_flushes_and_tells_each_end_once(net: Net) -> None:
    one, other = await net.open(await net.listen())
    sent = [os.urandom(50_000) for _ in range(40)]
    for message in sent:
        one.conduit.send(message)
    one.conduit.close("enough")
    one.conduit.close("again")
    one.conduit.send(b"too late")
    await one.until(lambda: one.closed)
    await other.until(lambda: other.closed)
    assert other.messages == sent
    assert one.closed == ["enough"]
    assert other.closed == ["closed by the other end: enough"]
    assert one.conduit.backlog == other.conduit.backlog == 0


async def test_the_accepting_end_may_close_too(net: Net) -> None:
    one, other = await net.open(await net.listen())
    other.conduit.send(b"last words")
    other.conduit.close("bye")
    await one.until(lambda: one.closed)
    await other.until(lambda: other.closed)
    assert one.messages == [b"last words"]
    assert one.closed == ["closed by the other end: bye"]
    assert other.closed == ["bye"]


async def test_both_ends_closing_at_once_is_no_deadlock(net: Net) -> None:
    one, other = await net.open(await net.listen())
    one.conduit.close("a")
    other.conduit.close("b")
    await one.until(lambda: one.closed)
    await other.until(lambda: other.closed)
    assert (one.closed, other.closed) == (["a"], ["b"])


async def test_a_reader_that_stands_still_shows_as_backlog_and_drained_means_empty(net: Net) -> None:
    one, other = await net.open(await net.listen())
    await one.until(lambda: True)
    reader: WebSocketConduit = other.conduit  # type: ignore[assignment]
    reader._transport.pause_reading()
    for _ in range(64):
        one.conduit.send(bytes(1 << 20))
    await asyncio.wait_for(_stalled(one), WAIT_S)
    assert one.conduit.backlog > 40 << 20  # kernels and asyncio took some; the rest is counted
    assert one.drained == 0
    reader._transport.resume_reading()
    await one.until(lambda: one.drained)
    assert one.conduit.backlog == 0
    await other.until(lambda: len(other.messages) == 64)


async def _stalled(end: End) -> None:
    """Until the backlog stops falling."""
    last = -1
    while end.conduit.backlog != last:
        last = end.conduit.backlog
        await asyncio.sleep(0.05)


async def test_a_message_of_the_greatest_size_passes_and_one_byte_more_ends_the_conduit(net: Net) -> None:
    one, other = await net.open(await net.listen())
    one.conduit.send(bytes(MESSAGE_BYTES_MAX))
    await other.until(lambda: other.messages)
    with pytest.raises(ValueError, match="at most"):
        one.conduit.send(bytes(MESSAGE_BYTES_MAX + 1))
    raw: WebSocketConduit = one.conduit  # type: ignore[assignment]
    await raw._socket.send_bytes(bytes(MESSAGE_BYTES_MAX + 1))
    await other.until(lambda: other.closed)
    assert "exceeds" in other.closed[0]
    assert len(other.messages) == 1


@pytest.mark.parametrize("kind", ["text", "ping", "pong"])
async def test_what_nodes_do_not_speak_ends_the_conduit(net: Net, kind: str) -> None:
    one, other = await net.open(await net.listen())
    raw: WebSocketConduit = one.conduit  # type: ignore[assignment]
    if kind == "text":
        await raw._socket.send_str("hello")
    else:
        await getattr(raw._socket, kind)(b"hello")
    await other.until(lambda: other.closed)
    assert other.closed == [f"broke the rule: {kind} is not spoken here"]
    await one.until(lambda: one.closed)


async def test_a_compressed_frame_ends_the_conduit(net: Net) -> None:
    one, other = await net.open(await net.listen())
    raw: WebSocketConduit = one.conduit  # type: ignore[assignment]
    await raw._socket.send_bytes(bytes(1000), compress=15)
    await other.until(lambda: other.closed)
    assert other.closed[0].startswith("broken: ")
    assert other.messages == []


async def test_a_cut_socket_is_noticed_by_both(net: Net) -> None:
    one, other = await net.open(await net.listen())
    raw: WebSocketConduit = one.conduit  # type: ignore[assignment]
    raw.abort("pulled")
    await one.until(lambda: one.closed)
    await other.until(lambda: other.closed)
    assert one.closed == ["pulled"]
    assert other.closed == ["connection lost"]


async def test_an_abort_before_it_ran_still_tells(net: Net) -> None:
    listener = await net.listen()
    done: asyncio.Future[End] = asyncio.get_running_loop().create_future()

    def owner(outcome: Conduit | DialFailed) -> None:
        assert isinstance(outcome, WebSocketConduit)
        done.set_result(End(outcome))
        outcome.abort("no thanks")

    net.here.dial(listener.addresses[0], owner, SECOND)
    end = await asyncio.wait_for(done, WAIT_S)
    await end.until(lambda: end.closed)
    assert end.closed == ["no thanks"]


async def test_a_close_towards_one_who_does_not_read_ends_in_bounded_time(net: Net) -> None:
    one, other = await net.open(await net.listen())
    reader: WebSocketConduit = other.conduit  # type: ignore[assignment]
    reader._transport.pause_reading()
    for _ in range(32):
        one.conduit.send(bytes(1 << 20))
    one.conduit.close("enough")
    await one.until(lambda: one.closed)
    assert one.closed == ["enough"]
    reader.abort("over")


async def test_an_owner_that_raises_ends_its_conduit_and_is_reported(net: Net) -> None:
    one, other = await net.open(await net.listen())

    def broken(_: bytes) -> None:
        raise ZeroDivisionError("a bug of the owner")

    other.conduit.on_message = broken
    one.conduit.send(b"x")
    await other.until(lambda: other.closed)
    await one.until(lambda: one.closed)
    assert [type(each["exception"]) for each in net.failures] == [ZeroDivisionError]
    net.failures.clear()


async def test_dials_that_fail_say_why(net: Net) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    faults = {
        f"127.0.0.1:{port}": DialFault.REFUSED,
        f"localhost:{port}": DialFault.REFUSED,
        "no port": DialFault.INVALID,
        "*:7946": DialFault.INVALID,
        "127.0.0.1:0": DialFault.INVALID,
        "::1:80": DialFault.INVALID,
        "[fe80::1%nosuch]:7": DialFault.UNREACHABLE,
    }
    for address, fault in faults.items():
        outcome = await net.dial(address)
        assert isinstance(outcome, DialFailed)
        assert (outcome.address, outcome.fault, bool(outcome.detail)) == (address, fault, True)


async def test_a_dial_to_something_else_says_what_it_found(net: Net) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def ssh(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.9\r\n")
        await writer.drain()
        writer.close()

    for behaviour, fault in ((silent, DialFault.TIMEOUT), (ssh, DialFault.TLS)):
        server = await asyncio.start_server(behaviour, "127.0.0.1", 0)
        outcome = await net.dial(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", timeout_s=0.3)
        assert isinstance(outcome, DialFailed)
        assert outcome.fault is fault
        server.close()
        await server.wait_closed()


async def test_a_cancelled_dial_is_silent(net: Net) -> None:
    listener = await net.listen()
    outcomes: list[object] = []
    dial = net.here.dial(listener.addresses[0], outcomes.append, SECOND)
    dial.cancel()
    dial.cancel()
    assert isinstance(await net.dial(listener.addresses[0]), End)
    assert outcomes == []


async def test_the_outcome_never_comes_inside_the_call(net: Net) -> None:
    outcomes: list[object] = []
    net.here.dial("nonsense", outcomes.append, SECOND)
    assert outcomes == []
    await net.dial("nonsense")
    assert len(outcomes) == 1


@pytest.mark.parametrize("everywhere", ["*:0", ":0"])
async def test_all_interfaces_is_ipv4_and_ipv6_on_one_port_and_spelled_out(net: Net, everywhere: str) -> None:
    listener = await net.listen(everywhere)
    hosts = [address.rpartition(":")[0] for address in listener.addresses]
    assert {address.rpartition(":")[2] for address in listener.addresses} == {str(listener.port)}
    assert "127.0.0.1" in hosts
    assert hosts.index("127.0.0.1") >= len(hosts) - 2
    assert isinstance(await net.dial(f"127.0.0.1:{listener.port}"), End)
    if "[::1]" in hosts:
        assert isinstance(await net.dial(f"[::1]:{listener.port}"), End)


async def test_a_taken_port_raises(net: Net) -> None:
    listener = await net.listen()
    with pytest.raises(OSError, match="in use"):
        await net.listen(f"127.0.0.1:{listener.port}")
    with pytest.raises(OSError, match="in use"):
        await net.listen(f"*:{listener.port}")
    with pytest.raises(OSError, match="assign"):
        await net.listen("192.0.2.77:0")
    with pytest.raises(ValueError, match="HOST:PORT"):
        await net.listen("7946")


async def test_a_closed_door_leaves_conduits_open(net: Net) -> None:
    listener = await net.listen()
    address = listener.addresses[0]
    one, other = await net.open(listener)
    await listener.close()
    failed = await net.dial(address)
    assert isinstance(failed, DialFailed)
    assert failed.fault is DialFault.REFUSED
    one.conduit.send(b"still here")
    await other.until(lambda: other.messages)


async def test_web_pages_and_wrong_paths_are_turned_away(net: Net) -> None:
    listener = await net.listen()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=client_context())) as session:
        url = f"https://127.0.0.1:{listener.port}"
        for path, headers in (("/", {}), (websocket.PATH, {}), ("/../etc/passwd", {})):
            async with session.get(url + path, headers=headers) as answer:
                assert answer.status == 404
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await session.ws_connect(url + websocket.PATH, headers={"Origin": "https://evil.example"})
        for bad in ({"Sec-WebSocket-Version": "7"}, {"X": "y" * 5000}):
            async with session.get(url + websocket.PATH, headers={"Upgrade": "websocket", **bad}) as answer:
                assert answer.status in (400, 404)
    assert net.accepted.empty()
    assert listener.explain()["open"] == 0


async def test_garbage_instead_of_tls_or_http_is_cut(net: Net) -> None:
    listener = await net.listen()
    for context in (None, client_context()):
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port, ssl=context)
        writer.write(b"\x00\xff" * 4096 + b"\r\n\r\n")
        try:
            await asyncio.wait_for(reader.read(), WAIT_S)
        except OSError:
            pass  # reset is as good an end
        writer.close()
    assert isinstance(await net.dial(listener.addresses[0]), End)


async def test_half_open_connections_are_cut_in_time(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "UPGRADE_S", 0.2)
    listener = await net.listen()
    # The writers are kept: one that is dropped closes its connection.
    quiet, kept = await asyncio.open_connection("127.0.0.1", listener.port)  # never starts TLS
    idle, also = await asyncio.open_connection("127.0.0.1", listener.port, ssl=client_context())  # never asks
    slow, drip = await asyncio.open_connection("127.0.0.1", listener.port, ssl=client_context())
    drip.write(b"GET /gossamer/1 HTTP/1.1\r\nHost: x\r\nX-")  # never ends its request
    for reader in (quiet, idle, slow):
        try:
            assert await asyncio.wait_for(reader.read(), WAIT_S) == b""
        except ConnectionResetError:
            pass  # cut is cut
    assert listener.explain()["pending"] == 0
    assert listener.explain()["slow"] == 3, listener.explain()
    for writer in (kept, also, drip):
        writer.close()


async def test_a_hello_in_pieces_is_understood(net: Net) -> None:
    listener = await net.listen()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client_context().wrap_bio(incoming, outgoing)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    hello = outgoing.read()
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    tail = len(hello) // 2
    for piece in (hello[:1], hello[1:4], hello[4:tail], hello[tail:]):
        writer.write(piece)
        await asyncio.sleep(0.02)
    answer = await asyncio.wait_for(reader.readexactly(3), WAIT_S)
    assert answer == b"\x16\x03\x03"  # the server's hello
    writer.close()


@pytest.mark.parametrize("opening", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff", b"\x16\x02", b""])
async def test_what_is_no_hello_is_cut_at_once_and_costs_no_tls(net: Net, opening: bytes) -> None:
    listener = await net.listen()
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(opening)
    writer.write_eof()
    try:
        assert await asyncio.wait_for(reader.read(), WAIT_S) == b""
    except ConnectionResetError:
        pass  # cut is cut
    assert listener.explain()["tls"] == 1
    assert listener.explain()["pending"] == 0
    writer.close()


async def test_a_crowd_of_half_open_connections_does_not_keep_nodes_out(net: Net) -> None:
    listener = await net.listen()
    crowd: list[socket.socket] = []
    try:
        for _ in range(door.SILENT_MAX + 20):
            each = socket.socket()
            each.setblocking(False)
            crowd.append(each)
            await asyncio.get_running_loop().sock_connect(each, ("127.0.0.1", listener.port))
        one, other = await net.open(listener)
        one.conduit.send(b"through")
        await other.until(lambda: other.messages)
        assert listener.explain()["pending"] <= door.SILENT_MAX
        assert listener.explain()["crowded"] > 0
    finally:
        for each in crowd:
            each.close()


async def test_a_stranger_cannot_fill_memory_before_its_handshake(net: Net) -> None:
    listener = await net.listen()
    dialled = await net.dial(listener.addresses[0])
    assert isinstance(dialled, End)
    accepted = await asyncio.wait_for(net.accepted.get(), WAIT_S)
    for _ in range(8):
        dialled.conduit.send(bytes(MESSAGE_BYTES_MAX))
    await asyncio.wait_for(_stalled(dialled), WAIT_S)
    assert dialled.conduit.backlog > 2 * MESSAGE_BYTES_MAX  # it waits on their side, not on ours
    assert accepted.messages == []
    accepted.conduit.close("too slow")
    await accepted.until(lambda: accepted.closed)


async def test_frames_right_behind_the_handshake_are_read_once_it_is_over(net: Net) -> None:
    listener = await net.listen()
    dialled = await net.dial(listener.addresses[0])
    assert isinstance(dialled, End)
    sent = [b"hello", b"proof", *(os.urandom(300_000) for _ in range(12))]
    for message in sent:
        dialled.conduit.send(message)
    accepted = await asyncio.wait_for(net.accepted.get(), WAIT_S)
    await accepted.until(lambda: len(accepted.messages) == len(sent))
    assert accepted.messages == sent


async def test_a_full_house_makes_room_by_cutting_goodbyes_short_and_else_says_so(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "CONDUITS_MAX", 2)
    listener = await net.listen()
    (one, other), _ = await net.open(listener), await net.open(listener)
    refused = await net.dial(listener.addresses[0])
    assert isinstance(refused, DialFailed)
    assert (refused.fault, refused.detail) == (DialFault.UNREACHABLE, "the node there is full")
    raw: WebSocketConduit = one.conduit  # type: ignore[assignment]
    raw._transport.pause_reading()  # it will not answer the goodbye
    other.conduit.close("leave")
    await net.open(listener)
    await other.until(lambda: other.closed)


async def test_one_party_cannot_redirect_a_dial(net: Net) -> None:
    from transport.certificate import server_context

    async def elsewhere(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(elsewhere, "127.0.0.1", 0, ssl=server_context()[0])
    outcome = await net.dial(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
    assert isinstance(outcome, DialFailed)
    assert "redirect" in outcome.detail
    server.close()


async def test_closing_the_transport_ends_everything_at_both_ends(net: Net) -> None:
    listener = await net.listen()
    pairs = [await net.open(listener) for _ in range(3)]
    await net.there.close()
    for one, other in pairs:
        await one.until(lambda one=one: one.closed)
        assert one.closed == ["closed by the other end: shutting down"]
        assert other.closed == ["shutting down"]


def test_the_package_alone_imports_no_aiohttp() -> None:
    heavy = "{'aiohttp', 'zeroconf', 'cryptography', 'ifaddr'}"
    code = f"import sys, transport.base, transport.discovery, transport.system; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=20)


async def test_whoever_is_dear_to_handle_gets_half_of_the_loop(net: Net) -> None:
    """A member that flooded its link with small dear messages had the users of the node wait for seconds."""
    listener = await net.listen()
    one, other = await net.open(listener)
    loop = asyncio.get_running_loop()
    busy_s, turns = 0.0, 0

    def dear(message: bytes) -> None:
        nonlocal busy_s
        began = loop.time()
        while loop.time() < began + 0.004:
            pass
        busy_s += loop.time() - began
        other._on_message(message)

    other.conduit.on_message = dear
    began = loop.time()
    for _ in range(30):
        one.conduit.send(b"x")
    while len(other.messages) < 30:
        await asyncio.sleep(0)
        turns += 1
    assert loop.time() - began > 1.8 * busy_s
    assert turns > 100, "nobody else had a turn"
