"""The loop runs stock asyncio in virtual time, alike in every process, and lets nothing out."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from random import Random
from typing import Any

import pytest

from sim.errors import Deadlock, Livelock, NotSimulated
from sim.loop import SimLoop
from sim.seed import Seed

ROOT = Path(__file__).parents[2]


def run(coroutine: Coroutine[Any, Any, Any], seed: int | None = 0) -> Any:
    loop = SimLoop(None if seed is None else Random(seed))
    try:
        with loop.entered():
            task = loop.create_task(coroutine)
            loop.drive(None, task.done)
        assert not loop.failures, loop.failures
        return task.result()
    finally:
        loop.close()


async def _medley(seen: list[str]) -> None:
    """Everything whose order leaks in stock asyncio: waits, aborting groups, queues, sets of tasks."""
    queue: asyncio.Queue[int] = asyncio.Queue(2)

    async def put(name: str) -> None:
        for each in range(3):
            await queue.put(each)
            seen.append(f"put {name}{each} {asyncio.get_running_loop().time():.3f}")
            await asyncio.sleep(0.01)

    async def get() -> None:
        while True:
            seen.append(f"got {await queue.get()}")

    async def dies(name: str) -> None:
        try:
            await asyncio.sleep(5)
        finally:
            seen.append(f"ended {name}")

    async def fails() -> None:
        await asyncio.sleep(0.1)
        raise ValueError

    getter = asyncio.create_task(get())
    async with asyncio.TaskGroup() as group:
        for name in "abc":
            group.create_task(put(name))
    try:
        async with asyncio.TaskGroup() as group:
            for name in "stuvwxyz":
                group.create_task(dies(name))
            group.create_task(fails())
    except* ValueError:
        pass
    done, _ = await asyncio.wait([asyncio.create_task(asyncio.sleep(0.2, each)) for each in range(9)])
    seen.append(str([each.result() for each in done]))
    try:
        async with asyncio.timeout(0.5):
            await asyncio.wait_for(asyncio.Event().wait(), 3)
    except TimeoutError:
        seen.append("timeout")
    getter.cancel()


def test_idle_time_costs_nothing() -> None:
    async def sleeper() -> float:
        await asyncio.sleep(10**6)
        return asyncio.get_running_loop().time()

    began = time.perf_counter()
    assert run(sleeper()) == 10**6
    assert time.perf_counter() - began < 0.1


def test_a_timer_never_rings_before_its_time() -> None:
    async def waits() -> None:
        loop = asyncio.get_running_loop()
        for each in range(1, 200):
            when = loop.time() + each * 0.1 / 3
            woken: asyncio.Future[None] = loop.create_future()
            loop.call_at(when, woken.set_result, None)
            await woken
            assert when <= loop.time() < when + 1e-6

    run(waits())


def test_the_seed_decides_the_order_and_nothing_else_does() -> None:
    def trace(seed: int | None) -> list[str]:
        seen: list[str] = []
        run(_medley(seen), seed)
        return seen

    assert trace(1) == trace(1)
    assert len({tuple(trace(seed)) for seed in range(6)}) > 1
    assert trace(None) == trace(None)


def test_plain_callbacks_keep_the_order_asyncio_documents() -> None:
    async def calls() -> list[int]:
        seen: list[int] = []
        loop = asyncio.get_running_loop()
        for each in range(50):
            loop.call_soon(seen.append, each)
        await asyncio.sleep(0.001)
        return seen

    assert run(calls()) == list(range(50))


@pytest.mark.parametrize("allocator", ["pymalloc", "malloc"])
def test_hash_seed_and_allocator_change_nothing(allocator: str) -> None:
    program = (
        "from tests.sim.test_loop import run, _medley\n"
        "seen = []\nrun(_medley(seen), 5)\nprint(seen)"
    )  # fmt: skip
    prints = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONMALLOC": allocator, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for hash_seed in ("0", "1")
    }
    seen: list[str] = []
    run(_medley(seen), 5)
    assert prints == {f"{seen}\n"}


@pytest.mark.parametrize(
    "leave",
    [
        lambda loop: loop.run_in_executor(None, print),
        lambda loop: loop.create_connection(None, "localhost", 80),
        lambda loop: loop.create_server(None, "localhost", 80),
        lambda loop: loop.create_datagram_endpoint(None),
        lambda loop: loop.getaddrinfo("localhost", 80),
        lambda loop: loop.subprocess_exec(None, "true"),
        lambda loop: loop.add_reader(0, print),
        lambda loop: loop.add_signal_handler(2, print),
    ],
)
def test_leaving_the_world_raises_at_the_call(leave: Any) -> None:
    async def leaves() -> None:
        with pytest.raises(NotSimulated, match="a world has none"):
            leave(asyncio.get_running_loop())

    run(leaves())


def test_to_thread_and_open_connection_raise_too() -> None:
    async def leaves() -> None:
        with pytest.raises(NotSimulated):
            await asyncio.to_thread(print)
        with pytest.raises(NotSimulated):
            await asyncio.open_connection("localhost", 1)

    run(leaves())


def test_waiting_for_what_cannot_come_is_a_deadlock() -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock):
        run(forever())


def test_time_that_stands_still_is_a_livelock() -> None:
    async def spins() -> None:
        def again() -> None:
            loop.call_soon(again)

        loop = asyncio.get_running_loop()
        again()
        await asyncio.sleep(1)

    with pytest.raises(Livelock):
        run(spins())


def test_what_nobody_retrieves_is_collected() -> None:
    async def fails() -> None:
        raise ValueError("lost")

    async def main() -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        keep.append(asyncio.create_task(fails()))
        await asyncio.sleep(1)

    keep: list[object] = []
    loop = SimLoop(Random(0))
    with loop.entered():
        task = loop.create_task(main())
        loop.drive(None, task.done)
    assert [type(wrong) for _, _, wrong in loop.failures] == [ZeroDivisionError]
    assert [str(wrong) for _, wrong in loop.unretrieved()] == ["lost"]
    loop.close()


def test_occurrences_of_one_instant_are_ordered_by_their_cause_not_by_their_making() -> None:
    def order(names: str) -> str:
        loop, seed, seen = SimLoop(Random(0)), Seed(3), []
        for name in names:
            loop.at(10, lambda name=name: seen.append(name), seed.source(name))
        with loop.entered():
            loop.drive(10)
        loop.close()
        return "".join(seen)

    assert order("abcdef") == order("fedcba") == order("cabfde")
    assert sorted(order("abcdef")) == list("abcdef")


def test_streams_are_independent() -> None:
    one, other = Seed(1), Seed(1)
    one.stream("a").random()
    assert one.stream("b").random() == other.stream("b").random()
    assert Seed(2).stream("b").random() != Seed(1).stream("b").random()
