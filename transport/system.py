"""The system's Env: the running asyncio loop, the system's clocks and entropy, two threads, real sockets.

Beside ``cli`` this is the one module that may use ``time``, ``os.urandom`` and threads; everything else asks it.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import os
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from transport.base import SECOND, Discovery, Storage, StorageFault, Timer, Transport
from transport.errors import KeyFileUnsafe, Misuse
from transport.identity import ED25519, KEY_BYTES, Suite
from transport.interfaces import Interfaces, system_interfaces
from transport.keyfile import KEY_FILE, load_or_create_seed

T = TypeVar("T")

OFFLOAD_THREADS = 2  # one for the disk, one for signatures: libsodium and SQLite both let go of the GIL
OFFLOADS_MAX = 4096  # waiting or running; who offloads keeps few under way, so more is a bug of ours


def host_name() -> str:
    """This machine's name without its domain; "node" if it has none. For names people read, never for identity."""
    return socket.gethostname().partition(".")[0] or "node"


def fetch_ahead() -> None:
    """Import aiohttp on a thread, for a program that will soon need it and has other things to import meanwhile.

    A third of that is two reads of the system's certificate authorities (nobody here asks them anything), for which
    OpenSSL lets go of the interpreter: 70 ms less until a node is ready.
    """
    threading.Thread(target=importlib.import_module, args=("aiohttp.web",), daemon=True).start()


class SystemEnv:
    """``transport.base.Env`` of a real process. Make it on the running loop, ``close`` it on the same one.

    ``open_storage`` is given, since storage lives above this package. ``seed`` makes ``rng`` repeatable (never
    ``entropy``). ``interfaces`` stands in for the system's list of addresses.
    """

    def __init__(
        self,
        open_storage: Callable[[str | None], Storage],
        *,
        seed: bytes | None = None,
        interfaces: Interfaces | None = None,
    ) -> None:
        from transport.websocket import WebSocketTransport  # 150 ms of aiohttp, which ``--help`` must not pay

        self.suite: Suite = ED25519
        self.interfaces = interfaces or system_interfaces
        self._loop = asyncio.get_running_loop()
        self._websockets = WebSocketTransport(interfaces=self.interfaces)
        self.transport: Transport = self._websockets
        self._open_storage = open_storage
        self._seed = os.urandom(32) if seed is None else seed
        self._streams: dict[str, Random] = {}  # their names are constants of the code, so it stays small
        self._pool = ThreadPoolExecutor(OFFLOAD_THREADS, thread_name_prefix="gossamer")
        self._offloads = 0
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._closed = False

    def now(self) -> int:
        """Wall time in ns; may jump."""
        return time.time_ns()

    def mono(self) -> int:
        """Monotonic time in ns. It stands still while the machine sleeps (Linux), so nobody is late after a resume."""
        return time.monotonic_ns()

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> _Timer:
        """Call once at ``mono() >= when_ns``, never earlier: loops round, cores compare exactly."""
        return _Timer(self._loop, when_ns, callback)

    def rng(self, stream: str) -> Random:
        """The generator of ``stream``; the same object each time."""
        made = self._streams.get(stream)
        if made is None:
            digest = hashlib.blake2b(stream.encode(), key=self._seed[:64], digest_size=32).digest()
            made = self._streams[stream] = Random(digest)
        return made

    @staticmethod
    def entropy(count: int) -> bytes:
        """Bytes nobody can guess. Needs no loop, hence no instance."""
        return os.urandom(count)

    def discoveries(self) -> Sequence[Discovery]:
        """A fresh multicast scout and mDNS source. The caller starts and stops them."""
        from transport.discovery.mdns import MulticastDns
        from transport.discovery.scout import Scout

        return [Scout(self, interfaces=self.interfaces), MulticastDns(self, interfaces=self.interfaces)]

    def load_seed(self, data: str | None) -> bytes:
        """See ``transport.base.Env``: the key file of ``data``, or 32 bytes that live as long as this process."""
        if data is None:
            return os.urandom(KEY_BYTES)
        try:
            return load_or_create_seed(Path(data) / KEY_FILE, self.entropy, self.suite)
        except (KeyFileUnsafe, OSError) as failed:
            raise StorageFault(str(failed)) from failed

    def open_storage(self, data: str | None) -> Storage:
        """See ``transport.base.Env``."""
        return self._open_storage(data)

    def offload(self, work: Callable[[], T], done: Callable[[T | BaseException], None]) -> None:
        """Run ``work`` on one of two threads, then ``done`` on the loop; in order of submission as far as one thread
        goes. Raises ``Misuse`` after ``close`` and past ``OFFLOADS_MAX``; then nothing was started."""
        if self._closed or self._offloads >= OFFLOADS_MAX:
            raise Misuse("offload after close" if self._closed else f"more than {OFFLOADS_MAX} offloads under way")
        self._offloads += 1
        self._pool.submit(self._work, work, done)

    def spawn(self, task: Coroutine[Any, Any, None], name: str) -> Timer:
        """Run a coroutine beside the others. What it raises goes to the loop's exception handler, under ``name``."""
        made = self._loop.create_task(task, name=name)
        self._tasks[made] = None
        made.add_done_callback(self._finished)
        return _Spawned(made)

    async def sleep(self, seconds: float) -> None:
        """Let others run for that long."""
        await asyncio.sleep(seconds)

    async def close(self) -> None:
        """End the transport and every spawned task, and wait for work under way on the threads. Idempotent."""
        if self._closed:
            return
        await self._websockets.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._closed = True
        await asyncio.to_thread(self._pool.shutdown)

    def _work(self, work: Callable[[], T], done: Callable[[T | BaseException], None]) -> None:
        """On a thread. Whatever ``work`` raises is ``done``'s to judge; a thread has nobody else to tell."""
        outcome: T | BaseException
        try:
            outcome = work()
        except BaseException as raised:  # noqa: BLE001 - handed on whole
            outcome = raised
        try:
            self._loop.call_soon_threadsafe(self._done, done, outcome)
        except RuntimeError:
            pass  # the loop was closed under us: there is no one left to hear the outcome

    def _done(self, done: Callable[[T | BaseException], None], outcome: T | BaseException) -> None:
        self._offloads -= 1
        done(outcome)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (bug := task.exception()) is not None:
            self._loop.call_exception_handler({"message": f"{task.get_name()} failed", "exception": bug, "task": task})


class _Spawned:
    __slots__ = ("_task",)

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task

    def cancel(self) -> None:
        self._task.cancel()


class _Timer:
    __slots__ = ("_callback", "_handle", "_loop", "_when_ns")

    def __init__(self, loop: asyncio.AbstractEventLoop, when_ns: int, callback: Callable[[], None]) -> None:
        self._loop, self._when_ns, self._callback = loop, when_ns, callback
        self._arm()

    def cancel(self) -> None:
        self._handle.cancel()

    def _arm(self) -> None:
        wait_ns = self._when_ns - time.monotonic_ns()
        if wait_ns > 0:
            self._handle: asyncio.Handle = self._loop.call_later(wait_ns / SECOND, self._ring)
        else:  # due: no heap, no second look at the clock
            self._handle = self._loop.call_soon(self._callback)

    def _ring(self) -> None:
        if time.monotonic_ns() < self._when_ns:
            self._arm()  # uvloop counts whole milliseconds, and floats round
        else:
            self._callback()
