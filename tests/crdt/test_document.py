"""Documents: refusals, transactions, causal order, history, recovery."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from crdt import (
    CHANGE_BYTES_MAX,
    ActorReused,
    CausalBufferFull,
    Change,
    ChangeTooLarge,
    CrdtError,
    Document,
    HistoryCut,
    InvalidValue,
    TransactionOpen,
    VectorClock,
)
from crdt import buffer as buffers
from tests.laws import require_same, state

CYCLE: list[Any] = []
CYCLE.append(CYCLE)
DEEP: Any = []
for _ in range(32):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "value",
    [
        float("nan"), [float("nan")], 1 << 64, -(1 << 63) - 1, {"k": 1 << 64}, object(), (1, 2), {1: 2}, {1}, 1j,
        "\ud800", ["\ud800"], {"\ud800": 1}, "x" * (256 << 10), b"x" * (256 << 10), CYCLE, DEEP, bytearray(b"x"),
    ],
)  # fmt: skip
def test_no_value_is_refused_before_anything_changes(value: Any) -> None:
    doc = Document("a")
    for write in (
        doc.register("r").set, doc.multi("m").set, doc.set("s").add, doc.set("s").discard,
        doc.set("t", remove_wins=True).add, lambda value: doc.map("m").__setitem__("k", value),
    ):  # fmt: skip
        with pytest.raises(InvalidValue):
            write(value)
    assert (doc.value, dict(doc.clock)) == ({}, {})


@pytest.mark.parametrize(
    "value", [(1 << 64) - 1, -(1 << 63), -0.0, float("inf"), DEEP[0], "", {"": [None]}, "é" * 60_000]
)
def test_the_largest_values_are_taken_whole(value: Any) -> None:
    doc = Document("a")
    doc.register("r").set(value)
    twin = Document("b")
    twin.apply([Change.decode(each.encode()) for each in doc.changes_since({})])
    assert repr(twin.register("r").value) == repr(value)


@pytest.mark.parametrize("key", ["x" * 513, "é" * 257, 7, None, b"k", "\ud800"])
def test_bad_keys_are_refused(key: Any) -> None:
    doc = Document("a")
    for use in (doc.counter, doc.map("m").register, doc.map, doc.delete):
        with pytest.raises(InvalidValue):
            use(key)
    assert doc.value == {}


def test_amounts_are_refused() -> None:
    doc = Document("a")
    for amount in (-1, 1.5, True, 1 << 63, "1"):
        for write in (doc.counter("c").increment, doc.counter("c").decrement, doc.bounded("b").increment):
            with pytest.raises(InvalidValue):
                write(amount)  # type: ignore[arg-type]
    with pytest.raises(InvalidValue):
        doc.bounded("b").transfer(0, to="a")
    assert dict(doc.clock) == {}


def test_maps_nest_to_their_depth_and_no_further() -> None:
    doc = Document("a")
    place = doc.map("k")
    for _ in range(30):
        place = place.map("k")
    place["k"] = "deepest"
    with pytest.raises(InvalidValue):
        place.map("k2").map("k")
    assert Document.load(doc.snapshot(), actor="b").digest() == doc.digest()
    twin = Document("b")
    twin.apply([Change.decode(each.encode()) for each in doc.changes_since({})])
    require_same([doc, twin])


def test_a_transaction_is_one_change_or_none() -> None:
    out: list[Change] = []
    doc = Document("a", on_change=out.append)
    with doc.transaction():
        doc.bounded("b").increment(10)
        doc.bounded("b").decrement(3)
        doc.set("s").add("x")
        doc.set("s").discard("x")
        doc.map("m")["k"] = 1
        assert doc.value == {"b": 7, "m": {"k": 1}}
    assert [(each.seq, each.count) for each in out] == [(1, 5)]
    with doc.transaction():
        pass
    assert len(out) == 1
    before = state(doc)
    with pytest.raises(ZeroDivisionError), doc.transaction():
        doc.delete("m")
        doc.map("m")["other"] = 2
        doc.bounded("b").decrement(7)
        1 / 0  # noqa: B018
    assert state(doc) == before
    twin = Document("b")
    twin.apply(out)
    require_same([doc, twin])


def test_a_transaction_does_not_nest_and_nothing_passes_its_border() -> None:
    doc, other = Document("a"), Document("b")
    other.counter("n").increment()
    with doc.transaction():
        doc.counter("n").increment()
        for use in (
            lambda: doc.transaction().__enter__(), doc.snapshot, doc.digest, lambda: doc.changes_since({}),
            lambda: doc.apply(other.changes_since({})), lambda: doc.join(other.snapshot()), lambda: doc.renew("c"),
        ):  # fmt: skip
            with pytest.raises(TransactionOpen):
                use()
    assert doc.value == {"n": 1}


def test_a_change_fits_one_frame_or_is_refused_whole() -> None:
    doc = Document("a")
    doc.counter("n").increment()
    before = state(doc)
    with pytest.raises(ChangeTooLarge), doc.transaction():
        for at in range(5):
            doc.register(f"r{at}").set("x" * (250 << 10))
    assert state(doc) == before
    with doc.transaction():
        for at in range(4):
            doc.register(f"r{at}").set("x" * (250 << 10))
    assert len(doc.changes_since(VectorClock({"a": 1}))[0].item()) <= CHANGE_BYTES_MAX


def test_a_removal_too_large_for_a_frame_is_refused() -> None:
    doc, other = Document("a"), Document("b")
    for top in range(3):
        with other.transaction():
            for at in range(2200):
                other.map("m").counter(f"{top}-{at}-" + "x" * 180).increment()
    doc.apply(other.changes_since({}))
    clock = doc.clock
    with pytest.raises(ChangeTooLarge):
        doc.delete("m")
    assert doc.clock == clock
    assert len(doc.map("m")) == 6600
    doc.map("m").delete("0-0-" + "x" * 180)
    assert len(doc.map("m")) == 6599


def test_changes_wait_for_what_they_depend_on() -> None:
    a, b, c = Document("a"), Document("b"), Document("c")
    a.set("s").add("x")
    b.apply(a.changes_since({}))
    b.set("s").discard("x")
    late = b.changes_since(a.clock)
    assert late[0].deps == {"a": 1}
    assert not c.is_ready(late[0])
    assert c.apply(late) == []
    assert c.value == {}
    assert [event.origin for event in c.apply(a.changes_since({}))] == ["a", "b"]
    assert c.value == {}
    require_same([b, c])


def test_a_full_buffer_refuses_the_batch_and_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "CHANGES_MAX", 3)
    a, b = Document("a"), Document("b")
    for _ in range(6):
        a.counter("n").increment()
    changes = a.changes_since({})
    b.apply(changes[1:3])
    with pytest.raises(CausalBufferFull) as full:
        b.apply(changes[3:])
    assert full.value.missing == {"a": 1}
    assert (b.value, len(b._buffer.held)) == ({}, 2)
    b.apply(list(reversed(changes)))  # more than there is room for, but nothing of it has to wait in the end
    require_same([a, b])
    assert (len(b._buffer.held), b._buffer._bytes) == (0, 0)


def test_looking_ahead_is_quick_in_any_order() -> None:
    a, b, c = Document("a"), Document("b"), Document("c")
    for _ in range(5000):
        a.counter("n").increment()
        b.apply(a.changes_since(b.clock), events=False)
        b.counter("n").increment()
        a.apply(b.changes_since(a.clock), events=False)
    changes = a.changes_since({})
    assert len(changes) > buffers.CHANGES_MAX
    with pytest.raises(CausalBufferFull) as full:
        c.apply(changes[:0:-1])
    assert full.value.missing == {"a": 1}
    c.apply(changes[::-1], events=False)  # more than may wait, but in the end nothing does
    require_same([a, c])


def test_history_is_cut_where_it_was_folded() -> None:
    a, b = Document("a"), Document("b")
    for _ in range(3):
        a.counter("n").increment()
    a.compact({"a": 2, "stranger": 9})
    with pytest.raises(HistoryCut):
        a.changes_since({"a": 1})
    assert [each.seq for each in a.changes_since({"a": 2})] == [3]
    b.join(a.snapshot())
    with pytest.raises(HistoryCut):
        b.changes_since({"a": 2})
    assert b.changes_since(a.clock) == []
    with pytest.raises(HistoryCut):
        Document("c", keep_history=False).changes_since({})


def test_changes_since_can_be_applied_in_its_order() -> None:
    a, b = Document("z"), Document("a")
    for _ in range(3):
        a.counter("n").increment()
        b.apply(a.changes_since(b.clock))
        b.counter("n").increment()
        a.apply(b.changes_since(a.clock))
    fresh = Document("c")
    for change in a.changes_since({}):
        assert fresh.is_ready(change)
        fresh.apply([change])
    require_same([fresh, a, b])


def test_a_returner_joins_and_offers_its_own() -> None:
    a, b = Document("a"), Document("b")
    a.map("m").counter("n").increment(5)
    b.apply(a.changes_since({}))
    a.map("m").counter("n").increment(2)
    b.delete("m")
    b.set("s").add(1)
    kept = b.clock
    a.join(b.snapshot())
    assert a.value == {"m": {"n": 2}, "s": [1]}
    b.apply(a.changes_since(kept.join({"a": 1})))
    require_same([a, b])


def test_a_restored_backup_goes_on_under_a_new_actor() -> None:
    a, b = Document("a"), Document("b")
    a.set("s").add("x")
    backup = a.snapshot()
    a.set("s").add("y")
    b.apply(a.changes_since({}))
    again = Document.load(backup, actor="a")
    with pytest.raises(ActorReused):
        again.renew("a")
    again.renew("a2")
    again.set("s").discard("x")
    change = again.changes_since(VectorClock({"a": 1}))[0]
    assert (change.actor, change.seq, change.deps) == ("a2", 1, {"a": 1})
    b.apply([change])
    again.apply(b.changes_since(again.clock))
    assert b.value == {"s": ["y"]}
    require_same([again, b])
    with pytest.raises(ActorReused):
        b.renew("a2")


def test_what_follows_a_joined_snapshot_depends_on_it() -> None:
    a, b, c = Document("a"), Document("b"), Document("c")
    a.register("r").set("x")
    b.join(a.snapshot())
    b.counter("n").increment()
    change = b.changes_since(a.clock)[0]
    assert change.deps == {"a": 1}
    assert c.apply([change]) == []
    c.join(a.snapshot())  # what waited is ready now
    require_same([b, c])


def test_an_actor_used_twice_is_noticed() -> None:
    one, two, reader = Document("same"), Document("same"), Document("reader")
    one.counter("n").increment(1)
    two.counter("n").increment(2)
    reader.apply(one.changes_since({}))
    before = state(reader)
    with pytest.raises(ActorReused):
        reader.apply(two.changes_since({}))
    with pytest.raises(ActorReused):
        one.apply(two.changes_since({}))
    assert state(reader) == before


def test_own_changes_come_back_from_a_journal() -> None:
    a = Document("a")
    a.counter("n").increment()
    a.register("r").set("x")
    again = Document("a")
    again.apply(a.changes_since({}))
    again.register("r").set("y")
    assert again.changes_since(a.clock)[0].seq == 3
    require_same([again, a]) if a.apply(again.changes_since(a.clock)) else pytest.fail("nothing came")


def test_frames_of_items_are_read_as_they_were_made() -> None:
    wall = iter([5, 5, 90, 91, 91])
    made: list[Change] = []
    a = Document("a", clock_ms=lambda: next(wall), on_change=made.append, keep_history=False)
    b = Document("b")
    b.counter("n").increment()
    a.counter("n").increment()
    a.apply(b.changes_since({}), events=False)
    a.set("s").add("x")
    with a.transaction():
        a.set("s").add("y")
        a.map("m")["k"] = 1
    a.delete("m")
    body = bytes((0x90 | len(made),)) + b"".join(each.item() for each in made)
    read = Change.from_items("a", 1, made[0].hlc, body, len(made))
    assert read == made
    assert [each.hlc for each in read] == [each.hlc for each in made]
    assert [dict(each.deps) for each in read] == [{}, {"b": 1}, {}, {}]
    assert made[0].item()[1:2] == b"\x00"  # no dependencies: one zero byte
    b.apply(read)
    require_same([a, b])
    tail = bytes((0x92,)) + b"".join(each.item() for each in made[2:])
    assert Change.from_items("a", made[2].seq, made[2].hlc, tail, 2) == made[2:]


def test_guard_and_on_change() -> None:
    doc = Document("a")

    def refuse() -> None:
        raise CrdtError("the disk is full")

    doc.guard = refuse
    with pytest.raises(CrdtError):
        doc.counter("n").increment()
    with pytest.raises(CrdtError), doc.transaction():
        pytest.fail("begun")
    doc.guard = None
    assert doc.value == {}
    with doc.transaction():
        doc.counter("n").increment()
    assert doc.events_of(doc.changes_since({})[0])[0].local


def test_watching_a_large_set_stays_cheap() -> None:
    made: list[Change] = []
    doc, twin = Document("a", on_change=made.append), Document("b")
    for at in range(1000):
        doc.set("s").add(at)
    events = [event for change in made for event in twin.apply([change])]
    assert [len(event.value) for event in events[:256]] == list(range(1, 257))
    late = events[300]
    assert late.value == twin.value["s"]  # taken when it is looked at: newer, never older
    twin.delete("s")
    assert len(late.value) == 1000  # and then it stays
    assert events[301].value == []


def test_clocks() -> None:
    one, other = VectorClock({"a": 3, "b": 0}), VectorClock({"b": 2})
    assert one == {"a": 3} and one["a"] == 3 and "b" not in one and one.get("b") == 0
    assert one.is_concurrent(other) and not one >= other
    both = one.join(other)
    assert both == VectorClock({"b": 2, "a": 3}) and hash(both) == hash(VectorClock({"a": 3, "b": 2}))
    assert both.dominates(one) and both > other and one < both and one <= one
    for wrong in ({"a": -1}, {"a": 1.0}, {1: 1}):
        with pytest.raises(ValueError):
            VectorClock(wrong)  # type: ignore[arg-type]


def test_a_stamp_far_ahead_is_not_followed_and_still_counts() -> None:
    near = Document("near", clock_ms=lambda: 1_000_000)
    far = Document("far", clock_ms=lambda: 10**12)
    far.register("r").set("x")
    near.apply(far.changes_since({}))
    assert near.value == {"r": "x"}
    near.register("r").set("y")
    assert near.value == {"r": "y"}
    assert near.changes_since(far.clock)[0].hlc >> 16 == 1_000_000


def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(Path(__file__).parents[2] / "examples" / "crdt_offline.py"), run_name="__main__")
    assert "agree" in capsys.readouterr().out


def test_one_key_reads_as_it_does_in_the_whole() -> None:
    doc = Document("a")
    doc.counter("n").increment(3)
    doc.map("m").map("child")["x"] = 1
    doc.set("gone").add("x")
    doc.set("gone").discard("x")
    doc.register("none").set(None)
    assert {key: doc.get(key) for key in doc.live_keys()} == doc.value
    assert doc.get("gone", "absent") == doc.get("never", "absent") == "absent"
    assert doc.get("none", "absent") is None
