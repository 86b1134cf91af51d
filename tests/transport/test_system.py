"""The system's Env: time that is never early, threads that never hurt the loop, tasks that never fail in silence."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from transport.base import MILLISECOND, Env, StorageFault
from transport.errors import Misuse
from transport.system import OFFLOADS_MAX, SystemEnv


def storage(data: str | None) -> Any:
    return ("storage", data)


@pytest.fixture
async def env() -> AsyncIterator[SystemEnv]:
    made = SystemEnv(storage)
    yield made
    await made.close()


async def test_it_is_an_env(env: SystemEnv) -> None:
    seam: Env = env
    assert seam.open_storage("d") == ("storage", "d")
    assert abs(seam.now() - time.time_ns()) < 5_000_000_000
    assert len(seam.entropy(16)) == 16
    assert seam.entropy(16) != seam.entropy(16)
    assert [source.name for source in seam.discoveries()] == ["scout", "mdns"]


async def test_the_seed_is_kept_in_the_data_directory_and_refused_when_others_can_read_it(
    env: SystemEnv, tmp_path: Path
) -> None:
    data = tmp_path / "node"
    seed = env.load_seed(str(data))
    assert len(seed) == 32
    assert env.load_seed(str(data)) == seed
    assert env.load_seed(None) != env.load_seed(None)
    [key] = data.glob("*.key")
    key.chmod(0o644)
    with pytest.raises(StorageFault, match=str(key)):
        env.load_seed(str(data))


async def test_a_timer_rings_once_in_order_and_never_early(env: SystemEnv) -> None:
    rang: list[tuple[int, int]] = []
    done = asyncio.Event()
    start = env.mono()

    def ring(due: int) -> None:
        rang.append((due, env.mono()))
        if len(rang) == 4:
            done.set()

    for after in (7, 3, 5, 0):
        due = start + after * MILLISECOND + 333
        env.call_at(due, lambda due=due: ring(due))
    off = env.call_at(start + MILLISECOND, lambda: ring(-1))
    off.cancel()
    off.cancel()
    assert rang == []  # never inside the call
    await asyncio.wait_for(done.wait(), 5)
    assert [due for due, _ in rang] == sorted(due for due, _ in rang)
    assert all(at >= due > 0 for due, at in rang)


async def test_streams_are_their_own_and_a_seed_repeats_them() -> None:
    one, two, other = SystemEnv(storage, seed=b"s"), SystemEnv(storage, seed=b"s"), SystemEnv(storage)
    one.rng("noise").random()
    draws = [each.rng("a").getrandbits(64) for each in (one, two, other)]
    assert draws[0] == draws[1] != draws[2]
    assert one.rng("a") is one.rng("a")
    for each in (one, two, other):
        await each.close()


async def test_offload_runs_on_a_thread_and_answers_on_the_loop(env: SystemEnv) -> None:
    outcome: asyncio.Future[tuple[int, int]] = asyncio.get_running_loop().create_future()
    env.offload(threading.get_ident, lambda got: outcome.set_result((got, threading.get_ident())))  # type: ignore[arg-type]
    worked_on, answered_on = await asyncio.wait_for(outcome, 5)
    assert worked_on != answered_on == threading.get_ident()


async def test_what_offloaded_work_raises_is_its_outcome(env: SystemEnv) -> None:
    outcome: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    env.offload(lambda: 1 // 0, outcome.set_result)
    assert isinstance(await asyncio.wait_for(outcome, 5), ZeroDivisionError)


async def test_more_offloads_than_the_bound_are_refused(env: SystemEnv) -> None:
    gate, all_done, heard = threading.Event(), asyncio.Event(), 0

    def done(_: object) -> None:
        nonlocal heard
        heard += 1
        if heard == OFFLOADS_MAX:
            all_done.set()

    for _ in range(OFFLOADS_MAX):
        env.offload(gate.wait, done)
    with pytest.raises(Misuse, match="more than"):
        env.offload(gate.wait, done)
    gate.set()
    await asyncio.wait_for(all_done.wait(), 10)
    env.offload(gate.wait, done)  # room again


def test_a_loop_that_closes_under_work_hurts_nobody(capfd: pytest.CaptureFixture[str]) -> None:
    gate = threading.Event()
    ended = threading.Event()

    def work() -> None:
        gate.wait(5)
        ended.set()

    async def main() -> SystemEnv:
        env = SystemEnv(storage)
        env.offload(work, lambda _: pytest.fail("the loop is gone"))
        return env

    env = asyncio.run(main())
    gate.set()
    assert ended.wait(5)
    env._pool.shutdown()
    assert capfd.readouterr().err == ""


async def test_close_waits_for_work_under_way_and_refuses_more() -> None:
    env = SystemEnv(storage)
    worked: list[str] = []
    started, gate = threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        gate.wait(5)
        worked.append("committed")

    env.offload(work, lambda _: None)
    await asyncio.to_thread(started.wait, 5)
    closing = asyncio.ensure_future(env.close())
    gate.set()
    await closing
    await env.close()
    assert worked == ["committed"]
    with pytest.raises(Misuse, match="after close"):
        env.offload(work, lambda _: None)


async def test_a_spawned_task_that_raises_is_reported_by_name(env: SystemEnv) -> None:
    reported: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.set_result(context))

    async def bug() -> None:
        raise KeyError("mine")

    env.spawn(bug(), "the gardener")
    context = await asyncio.wait_for(reported, 5)
    assert "the gardener" in context["message"]
    assert isinstance(context["exception"], KeyError)


async def test_spawned_tasks_end_by_cancel_and_by_close() -> None:
    env = SystemEnv(storage)
    ended: list[str] = []
    running = asyncio.Event()

    async def forever(name: str) -> None:
        try:
            if name == "b":
                running.set()
            await env.sleep(3600)
        finally:
            ended.append(name)

    one = env.spawn(forever("a"), "a")
    env.spawn(forever("b"), "b")
    await asyncio.wait_for(running.wait(), 5)
    one.cancel()
    one.cancel()
    await env.close()
    assert sorted(ended) == ["a", "b"]
    assert asyncio.all_tasks() == {asyncio.current_task()}
