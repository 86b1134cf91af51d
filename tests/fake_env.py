"""A world for tests: an ``Env`` driven by a heap of timers, in virtual time, with no event loop and no thread.

``FakeEnv(seed)`` is the whole world; ``env.node(name)`` is a second door into it with its own transport, rng streams
and entropy, for tests with several nodes. Everything is a function of the seed. What a callback raises, the test sees.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Coroutine, Generator, Sequence
from random import Random
from typing import Any, TypeVar

from transport.base import SECOND, Discovery, Storage, Transport
from transport.identity import ED25519, Suite

T = TypeVar("T")
EPOCH_NS = 1_700_000_000 * SECOND  # wall time when the world begins


class FastSuite:
    """Signatures at the price of a hash. Anyone could forge them: for tests of everything but forgery."""

    def keypair(self, seed: bytes) -> tuple[bytes, bytes]:
        public = hashlib.blake2b(seed, digest_size=32, person=b"fast-key").digest()
        return public, public

    def sign(self, secret: bytes, message: bytes) -> bytes:
        return hashlib.blake2b(message, digest_size=64, key=secret).digest()

    def verify(self, public: bytes, message: bytes, signature: bytes) -> bool:
        return len(public) == 32 and self.sign(public, message) == signature

    def agree(self, secret: bytes, public: bytes) -> bytes | None:
        return hashlib.blake2b(b"".join(sorted((secret, public))), digest_size=32).digest()


class FakeTimer:
    """One entry of the heap. A cancelled one stays there, and does nothing."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class _World:
    def __init__(self) -> None:
        self.mono = 0
        self.heap: list[tuple[int, int, FakeTimer]] = []
        self.count = 0


class FakeEnv:
    """See the module. ``transport``, ``suite``, ``discovery_sources`` and ``storage_opener`` are there to be set."""

    transport: Transport

    def __init__(self, seed: int = 0, name: str = "", suite: Suite = ED25519, world: _World | None = None) -> None:
        self.seed, self.name, self.suite = seed, name, suite
        self.skew_ns = 0  # of this node's wall clock
        self.discovery_sources: Sequence[Discovery] = ()
        self.storage_opener: Callable[[str | None], Storage] | None = None
        self._world = world or _World()
        self._entropy = self.rng("entropy")

    def node(self, name: str) -> FakeEnv:
        """Another node's door into the same world and time."""
        return FakeEnv(self.seed, f"{self.name}/{name}", self.suite, self._world)

    # -- Env -----------------------------------------------------------------------------------------------------

    def now(self) -> int:
        return EPOCH_NS + self._world.mono + self.skew_ns

    def mono(self) -> int:
        return self._world.mono

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> FakeTimer:
        timer = FakeTimer(callback)
        self._world.count += 1
        heapq.heappush(self._world.heap, (max(when_ns, self._world.mono), self._world.count, timer))
        return timer

    def rng(self, stream: str) -> Random:
        key = f"{self.seed}\0{self.name}\0{stream}".encode()
        return Random(int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big"))

    def entropy(self, count: int) -> bytes:
        return self._entropy.randbytes(count)

    def discoveries(self) -> Sequence[Discovery]:
        return self.discovery_sources

    def load_seed(self, data: str | None) -> bytes:
        if data is None:
            return self.entropy(32)
        return hashlib.blake2b(
            f"{self.seed}\0{self.name}\0{data}".encode(), digest_size=32, person=b"fake-seed"
        ).digest()

    def open_storage(self, data: str | None) -> Storage:
        if self.storage_opener is None:
            raise AssertionError("this test set no storage_opener")
        return self.storage_opener(data)

    def offload(self, work: Callable[[], T], done: Callable[[T | BaseException], None]) -> None:
        def run() -> None:
            outcome: T | BaseException
            try:
                outcome = work()
            except Exception as raised:  # noqa: BLE001 - handed on, as the seam says
                outcome = raised
            done(outcome)

        self.call_at(self.mono(), run)

    def spawn(self, task: Coroutine[Any, Any, None], name: str) -> FakeTimer:
        def step() -> None:
            if timer.callback is None:  # cancelled while it slept
                task.close()
                return
            try:
                when = task.send(None)
            except StopIteration:
                return
            self.call_at(when, step)

        timer = FakeTimer(step)  # a mark only: it is never in the heap
        self.call_at(self.mono(), step)
        return timer

    async def sleep(self, seconds: float) -> None:
        await _Until(self.mono() + round(seconds * SECOND))

    async def close(self) -> None:
        """Nothing is held that outlives the test."""

    # -- the test's side -----------------------------------------------------------------------------------------

    def run(self, task: Coroutine[Any, Any, T], within: float = 60.0) -> T:
        """Run a coroutine, and the world with it, until it returns."""
        outcome: list[T] = []

        async def wrapped() -> None:
            outcome.append(await task)

        self.spawn(wrapped(), "run")
        self.run_until(lambda: bool(outcome), within)
        return outcome[0]

    def run_for(self, seconds: float) -> None:
        """Let this much virtual time pass."""
        end = self._world.mono + round(seconds * SECOND)
        while self._world.heap and self._world.heap[0][0] <= end:
            self._turn()
        self._world.mono = end

    def run_until(self, predicate: Callable[[], bool], within: float) -> float:
        """Let time pass until ``predicate`` holds; how many seconds it took. Fails the test after ``within``."""
        start, end = self._world.mono, self._world.mono + round(within * SECOND)
        while not predicate():
            if not self._world.heap or self._world.heap[0][0] > end:
                raise AssertionError(f"not within {within} s of virtual time: {predicate}")
            self._turn()
        return (self._world.mono - start) / SECOND

    def _turn(self) -> None:
        when, _, timer = heapq.heappop(self._world.heap)
        self._world.mono = max(self._world.mono, when)
        callback, timer.callback = timer.callback, None
        if callback is not None:
            callback()


class _Until:
    def __init__(self, when_ns: int) -> None:
        self.when_ns = when_ns

    def __await__(self) -> Generator[int, None, None]:
        yield self.when_ns
