"""What unmodified code reaches for without being given it: clocks, chance, threads. While a world runs, these obey it.

``time.time`` shows the wall clock of the node whose code asks, skew and drift included; ``random``, ``Random()``
without a seed, ``uuid4``, ``secrets``, ``os.urandom`` and PyNaCl's key generation draw from a stream of that node;
``time.sleep`` and threads raise at the call; ``asyncio.as_completed`` yields in an order that no address decides.

Only attributes of modules are replaced, and only between a run's begin and end. Not reached: names bound before
(``from time import time``, ``from random import random``), ``datetime.now``, the order of sets of strings. ``gossamer
sim check-determinism`` finds those.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterable
from random import Random
from typing import Any

from sim.clock import EPOCH
from sim.errors import NotSimulated
from sim.loop import SimLoop
from sim.machine import Process
from sim.occurrence import OWNER
from sim.seed import Seed


class Ambient:
    """One world's answers."""

    def __init__(self, loop: SimLoop, seed: Seed) -> None:
        self._loop = loop
        self._seed = seed

    def wall(self) -> int:
        """Wall time in ns, as the asking node's machine shows it."""
        owner = OWNER.get()
        return owner.machine.clock.read(self._loop.now) if isinstance(owner, Process) else EPOCH + self._loop.now

    def mono(self) -> int:
        """Monotonic time in ns."""
        return self._loop.now

    def chance(self) -> Random:
        """The stream of the asking node; of the test itself, outside any."""
        owner = OWNER.get()
        return owner.ambient if isinstance(owner, Process) else self._seed.stream("ambient")

    def entropy(self, count: int) -> bytes:
        return self.chance().randbytes(count)


class _Replacements:
    """The replaced attributes: installed while any world is open, each asking which world runs now."""

    def __init__(self) -> None:
        self._users = 0
        self._originals: list[tuple[Any, str, Any]] = []
        self.running: Ambient | None = None

    def acquire(self) -> None:
        self._users += 1
        if self._users == 1:
            self._install()

    def release(self) -> None:
        self._users -= 1
        if self._users == 0:
            for module, name, original in reversed(self._originals):
                setattr(module, name, original)
            self._originals.clear()

    def _replace(self, module: Any, name: str, make: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        original = getattr(module, name)
        self._originals.append((module, name, original))
        setattr(module, name, make(original))

    def _install(self) -> None:
        for name, answer in {
            "time": lambda world: world.wall() / 1e9,
            "time_ns": Ambient.wall,
            "monotonic": lambda world: world.mono() / 1e9,
            "monotonic_ns": Ambient.mono,
            "perf_counter": lambda world: world.mono() / 1e9,
            "perf_counter_ns": Ambient.mono,
        }.items():
            self._replace(time, name, self._asking(answer))
        self._replace(time, "sleep", self._refusing("time.sleep stops the whole world: await asyncio.sleep"))
        self._replace(
            threading.Thread, "start", self._refusing("a world has one thread: use Env.offload, or keep threads out")
        )
        self._replace(os, "urandom", self._asking(Ambient.entropy))
        self._replace(random, "_urandom", self._asking(Ambient.entropy))
        for name in random.__all__:
            if isinstance(getattr(getattr(random, name), "__self__", None), Random):
                self._replace(random, name, self._drawing(name))
        self._replace(random.Random, "seed", self._seeding)
        for module in ("nacl.utils", "nacl.signing", "nacl.public"):
            if module in sys.modules and hasattr(sys.modules[module], "random"):
                self._replace(sys.modules[module], "random", self._asking(_salted))
        self._replace(asyncio, "as_completed", self._in_order)

    def _asking(self, answer: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def make(original: Callable[..., Any]) -> Callable[..., Any]:
            def ask(*args: Any, **options: Any) -> Any:
                world = self.running
                return original(*args, **options) if world is None else answer(world, *args, **options)

            return ask

        return make

    def _drawing(self, name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        return self._asking(lambda world, *args, **options: getattr(world.chance(), name)(*args, **options))

    def _seeding(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def seed(generator: Random, a: Any = None, version: int = 2) -> None:
            if a is None and self.running is not None:
                a = int.from_bytes(self.running.entropy(32), "big")
            original(generator, a, version)

        return seed

    def _refusing(self, why: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def make(original: Callable[..., Any]) -> Callable[..., Any]:
            def refuse(*args: Any, **options: Any) -> Any:
                if self.running is None:
                    return original(*args, **options)
                raise NotSimulated(why)

            return refuse

        return make

    def _in_order(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def as_completed(fs: Iterable[Any], **options: Any) -> Any:
            if self.running is not None:
                fs = [asyncio.ensure_future(each) for each in fs]  # tasks hash by number, bare coroutines by address
            return original(fs, **options)

        return as_completed


def _salted(world: Ambient, size: int = 32) -> bytes:
    return world.entropy(size)


REPLACEMENTS = _Replacements()
