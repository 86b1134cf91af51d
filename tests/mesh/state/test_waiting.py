"""What waits on the loop: flush, confirm, watch, and transactions that must not wait."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from mesh.errors import Closed, NotConfirmed, SpaceReadOnly, TransactionSpansAwait
from tests.mesh.state.bench import Peer, Table, slot_of


def run(table: Table, task: Coroutine[Any, Any, Any], within: float = 10.0) -> Any:
    """Run a coroutine on a real loop, and the virtual world whenever the loop is idle."""

    async def both() -> Any:
        running = asyncio.ensure_future(task)
        for _ in range(int(within * 100)):
            for _ in range(5):
                await asyncio.sleep(0)
            if running.done():
                return running.result()
            table.env.run_for(0.01)
        running.cancel()
        raise AssertionError("it did not end")

    return asyncio.run(both())


def trio(**config: Any) -> tuple[Table, Peer, Peer, Peer]:
    table = Table()
    a, b, c = (Peer(table, name, **config) for name in "abc")
    table.link_all()
    return table, a, b, c


def test_flush_returns_when_it_is_on_disk() -> None:
    table, a, _, _ = trio()
    table.env.run_for(0.01)  # who counts is on disk too
    before = a.disk.commits
    a.space().counter("n").increment()
    assert a.disk.commits == before
    run(table, a.space().flush())
    assert a.disk.commits == before + 1
    run(table, a.space().flush())  # nothing to do


def test_flush_raises_when_the_writes_were_lost_and_while_the_disk_refuses() -> None:
    table, a, _, _ = trio()
    a.disk.full = True
    a.space().counter("n").increment()
    for _ in range(2):
        with pytest.raises(SpaceReadOnly, match="operations 1 to 1 were taken back"):
            run(table, a.space().flush())


def test_confirm_counts_disks() -> None:
    table, a, b, c = trio()
    a.space().counter("n").increment()
    for level in ("one", "quorum", "all"):
        run(table, a.space().confirm(level, timeout=1.0))
    assert b.disk.commits >= 1
    assert c.disk.commits >= 1
    with pytest.raises(ValueError, match="not 'most'"):
        run(table, a.space().confirm("most"))


def test_confirm_names_who_has_it() -> None:
    table, a, b, c = trio()
    table.isolate(c)
    a.space().counter("n").increment()
    run(table, a.space().confirm("quorum", timeout=1.0))
    with pytest.raises(NotConfirmed, match="2 of 3") as missing:
        run(table, a.space().confirm("all", timeout=1.0))
    assert missing.value.having == (a.id, b.id)
    assert missing.value.missing == (c.id,)
    table.isolate(b)
    a.space().counter("n").increment()
    with pytest.raises(NotConfirmed, match="1 of 2"):
        run(table, a.space().confirm("one", timeout=1.0))


def test_who_has_no_link_is_asked_through_others_and_again_when_a_question_is_lost() -> None:
    table, a, _, c = trio()
    table.cut |= {(a.id, c.id), (c.id, a.id)}
    a.spaces.linked(c.id, False)
    a.space().counter("n").increment()
    table.env.run_for(0.1)  # the bench does not relay frames
    (raw,) = a.spaces.frames_after(slot_of(a), 0, 1 << 20) or []
    c.receive(a.id, raw)
    run(table, a.space().confirm("one", timeout=1.0))
    assert table.relayed == 0, "who has links enough asks no others"
    run(table, a.space().confirm("all", timeout=1.0))
    assert table.relayed == 2
    a.space().counter("n").increment()
    table.env.run_for(0.1)
    _, raw = a.spaces.frames_after(slot_of(a), 0, 1 << 20) or []
    c.receive(a.id, raw)
    table.relay_loss = 2
    run(table, a.space().confirm("all", timeout=5.0))
    assert not a.spaces._confirmations._confirms and not c.spaces._confirmations._asks


def test_a_disk_that_refuses_confirms_nothing() -> None:
    table, a, b, c = trio()
    b.disk.full = c.disk.full = True
    a.space().counter("n").increment()
    with pytest.raises(NotConfirmed):
        run(table, a.space().confirm("one", timeout=1.0))
    assert b.space().value == {"n": 1}  # read there, not yet durable there
    b.disk.full = False
    run(table, a.space().confirm("one", timeout=60.0), within=60.0)


def test_down_members_count_and_those_that_left_do_not() -> None:
    table, a, b, c = trio()
    table.isolate(c)
    a.spaces.members([(b.id, "alive", True, 0), (c.id, "down", True, 0)])
    a.space().counter("n").increment()
    with pytest.raises(NotConfirmed):
        run(table, a.space().confirm("all", timeout=1.0))
    a.spaces.members([(b.id, "alive", True, 0), (c.id, "left", True, 0)])
    run(table, a.space().confirm("all", timeout=1.0))


def test_alone_a_quorum_is_this_node() -> None:
    table = Table()
    a = Peer(table, "a")
    a.space().counter("n").increment()
    run(table, a.space().confirm("quorum", timeout=1.0))
    with pytest.raises(NotConfirmed):
        run(table, a.space().confirm("one", timeout=1.0))


# -- watch -----------------------------------------------------------------------------------------------------------


def test_a_watch_sees_local_and_remote_changes_in_order() -> None:
    table, a, b, _ = trio()

    async def story() -> list[tuple[str, object, bool]]:
        watch = a.space().watch()
        a.space().counter("n").increment()
        b.space().register("r").set("x")
        found = [await anext(watch) for _ in range(2)]
        await watch.aclose()
        assert [event async for event in watch] == []
        return [(event.key, event.value, event.local) for event in found]

    assert run(table, story()) == [("n", 1, True), ("r", "x", False)]
    assert not a.spaces._replicas["main"].on_events


def test_a_watch_of_one_key_sees_no_other() -> None:
    table, a, _, _ = trio()

    async def story() -> list[object]:
        watch = a.space().watch("n")
        a.space().counter("m").increment()
        a.space().counter("n").increment()
        return [(await anext(watch)).value]

    assert run(table, story()) == [1]


def test_a_slow_watcher_loses_intermediate_values_never_the_last_and_is_told_how_many() -> None:
    table, a, _, _ = trio(watch_events_max=8)

    async def story() -> None:
        watch = a.space().watch()
        for number in range(100):
            a.space().register("r").set(number)
            a.space().counter(str(number % 5)).increment()
        watch.end()
        last = {event.key: event.value async for event in watch}
        assert last == a.space().value
        assert watch.coalesced == 200 - 6

    run(table, story())


def test_watchers_learn_what_was_taken_back() -> None:
    table, a, _, _ = trio()

    async def story() -> list[tuple[object, bool]]:
        watch = a.space().watch()
        a.space().counter("n").increment()
        first = await anext(watch)
        a.disk.full = True
        a.space().counter("n").increment()
        return [(event.value, event.present) for event in (first, await anext(watch), await anext(watch))]

    async def seen() -> list[tuple[object, bool]]:
        return await story()

    values = run(table, seen())
    assert values[0] == (1, True)
    assert values[-1] in [(1, True), (None, False)]
    assert a.space().counter("n").value in (0, 1)


# -- transactions ----------------------------------------------------------------------------------------------------


def test_a_transaction_that_spans_an_await_keeps_nothing_and_says_so() -> None:
    table, a, b, _ = trio()

    async def story() -> None:
        with a.space().transaction():
            a.space().counter("n").increment()
            for _ in range(20):
                await asyncio.sleep(0)

    async def both() -> None:
        running = asyncio.ensure_future(story())
        for _ in range(5):
            await asyncio.sleep(0)
        b.space().counter("m").increment()
        table.env.run_for(0.1)  # a frame arrives, and waits for the end of the transaction
        assert a.space().counter("m").value == 0
        await running

    with pytest.raises(TransactionSpansAwait, match="nothing of it was kept"):
        asyncio.run(both())
    table.env.run_for(0.1)
    assert a.space().value == b.space().value == {"m": 1}


def test_a_disk_that_fails_meanwhile_waits_for_the_end_of_the_transaction() -> None:
    table, a, _, _ = trio()
    a.disk.full = True
    a.space().counter("before").increment()
    with pytest.raises(TransactionSpansAwait), a.space().transaction():
        a.space().counter("n").increment()
        table.env.run_for(0.1)
        assert a.space().value == {"before": 1, "n": 1}
    assert a.space().value == {}


def test_closing_makes_all_durable_and_ends_watchers() -> None:
    table, a, _, _ = trio()

    async def story() -> list[str]:
        watch = a.space().watch()
        a.space().counter("n").increment()
        await a.spaces.close()
        return [event.key async for event in watch]

    assert run(table, story()) == ["n"]
    with pytest.raises(Closed, match="has ended"):
        a.space().counter("n").increment()
    with pytest.raises(Closed, match="has ended"):
        run(table, a.space().flush())
    a.crash()
    assert Peer(table, "a", disk=a.disk).space().value == {"n": 1}
