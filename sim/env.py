"""The simulated ``Env``: the same door to the world, and behind it one process of one simulated machine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from random import Random
from typing import Any, TypeVar

from sim.dial import SimTransport
from sim.machine import Process
from sim.mdns import SimMdns
from sim.network import Network
from sim.occurrence import Occurrence
from sim.scout import SimScout
from sim.seed import exponential
from sim.storage import Fate, SimStorage
from transport.base import MILLISECOND, SECOND, Discovery
from transport.identity import Suite

T = TypeVar("T")

OFFLOAD_LEAST_NS = 100_000  # a thread's hand-over and a small commit on an SSD
OFFLOAD_MEAN_NS = MILLISECOND
CLOSE_LOOK_S = 0.001


class TaskTimer:
    """``spawn``'s handle: cancelling it cancels the task."""

    __slots__ = ("_task",)

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task

    def cancel(self) -> None:
        self._task.cancel()


class SimEnv:
    """``transport.base.Env`` for one process. After its end every method still answers and nothing happens."""

    def __init__(self, process: Process, network: Network, suite: Suite) -> None:
        self.process = process
        self.suite = suite
        self.transport = SimTransport(network, process)
        self._network = network
        self._loop = process.loop
        self._clock = process.machine.clock
        self._streams: dict[str, Random] = {}
        self._entropy = process.stream("entropy")
        self._delays = process.stream("offload")

    def now(self) -> int:
        return self._clock.read(self._loop.now)

    def mono(self) -> int:
        return self._loop.now

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> Occurrence:
        process, loop = self.process, self._loop
        if when_ns <= loop.now:
            return loop.soon(callback, process, process.context)
        return loop.at(when_ns, callback, process.source, process, process.context)

    def rng(self, stream: str) -> Random:
        found = self._streams.get(stream)
        if found is None:
            found = self._streams[stream] = self.process.stream("rng/" + stream)
        return found

    def entropy(self, count: int) -> bytes:
        return self._entropy.randbytes(count)

    def discoveries(self) -> Sequence[Discovery]:
        return [SimScout(self._network, self.process), SimMdns(self._network, self.process)]

    def load_seed(self, data: str | None) -> bytes:
        """The key file of directory ``data`` on this machine's disk; ``None``: a fresh seed."""
        if data is None:
            return self.entropy(32)
        keys = self.process.machine.disk.keys
        if data not in keys:
            keys[data] = self.entropy(32)
        return keys[data]

    def open_storage(self, data: str | None) -> SimStorage:
        return self.process.machine.disk.open(data)

    def offload(self, work: Callable[[], T], done: Callable[[T | BaseException], None]) -> None:
        """``work`` is done at the end of its delay: a power cut before that decides whether the disk had it."""
        process = self.process
        if not process.alive:
            return
        delay = OFFLOAD_LEAST_NS + exponential(self._delays, OFFLOAD_MEAN_NS) + process.machine.slowness(self._delays)

        def finish() -> None:
            process.offloaded.pop(pending, None)
            result: T | BaseException
            try:
                result = work()
            except Exception as wrong:  # noqa: BLE001 - the contract: what was raised is handed to ``done``
                result = wrong
            done(result)

        pending = process.at(process.loop.now + delay, finish)
        process.offloaded[pending] = work

    def spawn(self, task: Coroutine[Any, Any, None], name: str) -> TaskTimer:
        process = self.process
        made = self._loop.create_task(task, name=f"{process.name}/{name}", context=process.context.copy())
        made.add_done_callback(partial(self._ended, name), context=process.context)
        return TaskTimer(made)

    def _ended(self, name: str, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (wrong := task.exception()) is not None and self.process.alive:
            self._loop.failures.append((self.process, f"in the task {name}", wrong))

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def close(self) -> None:
        """Let what was sent leave and its conduits close, as a process does that ends well; a second at most."""
        deadline = self._loop.now + SECOND
        while self.process.conduits and self._loop.now < deadline:  # noqa: ASYNC110 - nothing tells when the last one goes
            await asyncio.sleep(CLOSE_LOOK_S)


def settle_disk(process: Process, rng: Random, fates: Sequence[Fate]) -> dict[Fate, int]:
    """Its process died: decide over each piece of offloaded work in flight, oldest first; how many had which fate.

    One of ``fates`` is drawn for each. Kept work is run now, and nobody is told.
    """
    counts = dict.fromkeys(Fate, 0)
    disk = process.machine.disk
    for work in list(process.offloaded.values()):
        disk.fate = fates[rng.randrange(len(fates))]
        before = disk.commits
        if disk.fate is Fate.LOST:
            counts[Fate.LOST] += 1
        else:
            try:
                work()
            except Exception:  # noqa: BLE001 - it would have failed unheard: its process is dead
                pass
            counts[disk.fate] += disk.commits > before
        disk.fate = None
    return counts
