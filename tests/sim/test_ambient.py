"""Code that was never told of a world obeys it all the same: clocks, chance, and nothing that leaves it."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import nacl.signing
import pytest

from sim import NotSimulated, World
from sim.clock import EPOCH


class App:
    """A user's program: knows of no ``Env``."""

    def __init__(self, name: str, **_: Any) -> None:
        self.seen: list[Any] = []

    async def start(self) -> None:
        self.task = asyncio.create_task(self.live())

    async def stop(self) -> None:
        self.task.cancel()

    async def live(self) -> None:
        while True:
            self.seen.append((time.time(), time.monotonic(), random.random(), uuid.uuid4(), os.urandom(4)))
            self.seen.append((random.choice("abc"), secrets.token_hex(4), bytes(nacl.signing.SigningKey.generate())))
            self.seen.append((random.Random().random(), random.SystemRandom().random(), secrets.randbelow(1 << 40)))
            await asyncio.sleep(random.uniform(0.5, 1.0))


def seen(seed: int) -> list[list[Any]]:
    with World(seed) as world:
        a, b = world.spawn(2, program=App)
        world.run_for(0.1)
        a.skew(100.0)
        world.run_for(10.0)
        assert a.node.seen[0][0] == EPOCH / 1e9 and a.node.seen[3][0] > EPOCH / 1e9 + 100
        assert b.node.seen[3][0] < EPOCH / 1e9 + 2 and b.node.seen[3][1] < 2
        return [a.node.seen, b.node.seen]


def test_unmodified_code_obeys_the_seed_per_node() -> None:
    one = seen(1)
    assert one == seen(1)
    assert one != seen(2)
    assert one[0][0][2:] != one[1][0][2:]  # each node draws for itself


def test_outside_a_run_everything_is_as_it_was() -> None:
    before = (time.time, os.urandom, random.random, random.Random.seed, threading.Thread.start, asyncio.as_completed)
    with World(1) as world:
        world.spawn(1, program=App)
        assert abs(time.time() - before[0]()) < 1.0  # between runs too
        assert os.urandom(16) != os.urandom(16)
    after = (time.time, os.urandom, random.random, random.Random.seed, threading.Thread.start, asyncio.as_completed)
    assert before == after


@pytest.mark.parametrize("leave", [lambda: threading.Thread(target=print).start(), lambda: time.sleep(1)])
def test_threads_and_blocking_sleep_raise_at_the_call(leave: Callable[[], None]) -> None:
    async def leaves() -> None:
        with pytest.raises(NotSimulated):
            leave()

    with World(1) as world:
        world.run(leaves())


def test_as_completed_yields_in_an_order_the_seed_decides() -> None:
    async def order() -> list[int]:
        return [await each for each in asyncio.as_completed([asyncio.sleep(0.1, n) for n in range(8)])]

    def once(seed: int) -> list[int]:
        with World(seed) as world:
            return world.run(order())

    assert once(5) == once(5)
    assert len({tuple(once(seed)) for seed in range(5)}) > 1
