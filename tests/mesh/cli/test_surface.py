"""What ``gossamer up`` shows of what no task caught: all but uvloop's last words on a dial that was called off."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from mesh.cli.up import surface
from transport.certificate import client_context, server_context

TRIES = 60


@pytest.fixture
def door() -> Iterator[tuple[str, int]]:
    """A TLS server in a thread of its own: it answers also while the dialer's loop is busy."""
    where: list[tuple[str, int]] = []
    ready, over = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=server_context()[0])
        where.append(server.sockets[0].getsockname()[:2])
        ready.set()
        async with server:
            await over.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert ready.wait(10)
    yield where[0]
    loop.call_soon_threadsafe(over.set)
    thread.join(10)
    loop.close()


def test_a_dial_called_off_at_any_turn_shows_nothing(door: tuple[str, int], caplog: pytest.LogCaptureFixture) -> None:
    uvloop = pytest.importorskip("uvloop")
    uncaught: list[dict[str, Any]] = []

    def handler(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        uncaught.append(context)
        surface(loop, context)

    async def call_off(turns: int) -> None:
        loop = asyncio.get_running_loop()
        with socket.create_connection(door) as connected:
            connected.setblocking(False)
            dial = asyncio.ensure_future(
                loop.create_connection(asyncio.Protocol, sock=connected, ssl=client_context(), server_hostname="x")
            )
            for _ in range(turns):
                await asyncio.sleep(0)
                time.sleep(0.002)  # noqa: ASYNC251 - a busy loop: what the door answers is read in the next turn
            dial.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                transport, _ = await dial
                transport.abort()
            await asyncio.sleep(0.001)

    async def all_turns() -> None:
        asyncio.get_running_loop().set_exception_handler(handler)
        for number in range(TRIES):
            await call_off(1 + number % 3)
            if uncaught and number > TRIES // 2:
                break

    uvloop.run(all_turns())
    if not uncaught:
        pytest.skip("this uvloop does not slip: surface() can go when none does")
    assert not caplog.records


def test_all_else_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        loop = asyncio.get_running_loop()
        for message, exception in (
            ("Fatal error on SSL protocol", RuntimeError("no transport at all")),
            ("conduit reader failed", RuntimeError("a bug")),
            ("Fatal error on SSL protocol", ValueError("another bug")),
        ):
            surface(loop, {"message": message, "exception": exception})

    asyncio.run(fail())
    assert [record.getMessage().splitlines()[0] for record in caplog.records] == [
        "Fatal error on SSL protocol",
        "conduit reader failed",
        "Fatal error on SSL protocol",
    ]
