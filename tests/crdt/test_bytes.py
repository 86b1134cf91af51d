"""Hostile and damaged bytes end in one typed error, and nothing of them stays."""

from __future__ import annotations

import time
import tracemalloc
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crdt import Change, CrdtError, Document, InvalidBytes, UnknownOperation
from crdt.value import check_packed, pack, unpack
from tests.laws import require_sound, state
from tests.strategies import History, histories, values

some = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@some
@given(values)
def test_values_round_trip_in_canonical_form(value: Any) -> None:
    raw = pack(value)
    check_packed(raw)
    assert pack(unpack(raw)) == raw
    assert repr(sorted_dicts(unpack(raw))) == repr(sorted_dicts(value))


def sorted_dicts(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: sorted_dicts(value[key]) for key in sorted(value)}
    return [sorted_dicts(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"\xcc\x01", b"\xca\x00\x00\x00\x00", b"\xd9\x01a", b"\xa1\xff", b"\xa2a", b"\xa1ab", b"\xc1", b"\x01\x01",
        b"\x82\xa1b\x01\xa1a\x01", b"\x82\xa1a\x01\xa1a\x01", b"\x81\x01\x01",
        b"\xd4\x01\x00", b"\xcb\x7f\xf8" + bytes(6),
        b"\x91" * 40 + b"\xc0", b"\xd6\xff\x00\x00\x00\x00", b"\xdd\xff\xff\xff\xff", b"\xc4\x02a",
    ],
)  # fmt: skip
def test_values_not_in_canonical_form_are_refused(raw: bytes) -> None:
    with pytest.raises(InvalidBytes):
        check_packed(raw)


@some
@given(histories(steps=16), st.data())
def test_damaged_changes_and_snapshots_change_nothing(history: History, data: st.DataObject) -> None:
    doc = history.docs[0]
    sources = [each.encode() for each in history.changes[-6:]] + [history.docs[1].snapshot()]
    raw = bytearray(data.draw(st.sampled_from(sources)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        match data.draw(st.integers(0, 2)):
            case 0:
                raw[at] = data.draw(st.integers(0, 255))
            case 1:
                del raw[at:]
                raw += b"\x00" * (not raw)
            case 2:
                raw[at:at] = data.draw(st.binary(max_size=6))
    for read in (lambda raw: doc.apply([Change.decode(raw)]), doc.join):
        before, actors = state(doc), len(doc.actors)
        try:
            read(bytes(raw))
        except CrdtError:
            assert state(doc) == before
            assert len(doc.actors) == actors
        else:
            Document.load(doc.snapshot(), actor="observer")  # what was let in is a whole state
            require_sound(doc)


@some
@given(st.binary(max_size=200), st.integers(1, 20))
def test_random_bytes_are_refused(raw: bytes, items: int) -> None:
    doc = Document("a")
    for read in (Change.decode, doc.join, lambda raw: Change.from_items("x", 1, 1, raw, items)):
        with pytest.raises(CrdtError):
            read(raw)
    assert dict(doc.clock) == {}


def item(*ops: Any, deps: Any = 0, names: list[str] | None = None) -> bytes:
    fields = [deps, 1, list(ops)] + ([names] if names is not None else [])
    return bytes(msgpack.packb([fields], use_bin_type=True))


@pytest.mark.parametrize(
    "body",
    [
        item(), item([1, "k", 1 << 63]), item([1, "k", -(1 << 63)]), item([1, "k" * 513, 1]), item([1, "é" * 300, 1]),
        item([1, ["k"], 1]), item([1, ["k"] * 33, 1]), item([1, [], 1]), item([1, ["k", "x" * 513], 1]),
        item([1, "k", 1], deps=[0, 1]), item([1, "k", 1], deps=[0, 1], names=["x"]), item([1, "k", 1], deps=7),
        item([1, "k", 1], deps=[0], names=["y"]), item([1, "k", 1], deps=[0, 0], names=["y"]),
        item([1, "k", 1], names=["y", "y"]), item([1, "k", 1], names=[""]), item([1, "k", 1], names=["y" * 300]),
        item([4, "k", b"\xcc\x01", []]), item([4, "k", b"\x01", [0, 1]]), item([4, "k", b"\x01", [0, 1]], names=["x"]),
        item([6, "k", b"\x01", 1, []]), item([3, "k", 1, 0]), item([3, "k", 1, 0], names=["x"]),
        item([3, "k", -1, 0], names=["y"]), item([10, "k", [], [[["a"] * 40, "counter", []]]]),
        item([10, "k", [], [[[], "counter", [[0, 1]]]]], names=["y"]),
        item([10, "k", [], [[[], "set", [[0, 1, 1]]]]], names=["y"]),
        item([10, "k", [], [[[], "counter", [[0, 1, b"x"]]]]], names=["y"]),
        item([10, "k", [], [[[], "counter", [["a", 1, 1]]]]], names=["y"]),
        item([11, "k", 0, ""]), item([11, "k", [1], "x"]), item([11, "k", [0, 0], "x"]), item([11, "k", [1, -1], "x"]),
        item([11, "k", [1, 2, 3, 4], "x"]), item([11, "k", [0, 1, 0], "x"]), item([11, "k", [0, 1, 1 << 40], "x"]),
        item([11, "k", [0, 1, 0], "x"], names=["x"]), item([11, "k", 1 << 50, "x"]), item([11, "k", 0, b"x"]),
        item([11, "k", 0, "x" * 300_000]), item([12, "k", 0]), item([12, "k", -1]), item([12, "k", [0, 1, 0, 0]]),
        item([12, "k", [0, 1, 0, 1, 0]]), item([12, "k", [0, 2, 0, -1, 0]]), item([12, "k", [1, 1, 0, 0, 0]]),
        item([12, "k", [0, 2, 0, 0, 0, 0, 3, 0, 0, 0]]), item([12, "k", [0, 2, 3, 0, 1]]),
        item([12, "k", [0, 3, 0, 1, 0, 0, 2, 0, 0, 0]]), item([12, "k", [1, 0, 0, 1, 0]], names=["y"]),
        item([13, "k", 0, []]), item([13, "k", 0, [b"\xcc\x01"]]), item([14, "k", 0]), item([15, "k", 0, [0, 0, 0], 1]),
        item([15, "k", 0, [0, 1], 1]), item([15, "k", 0, [0, 1, 0], 0]), item([15, "k", 0, [1, 1, 0], 1]),
        item([15, "k", 0, [-1, 1, 0], 1]), item([15, "k", 0, [0, 1, 0], 1 << 63]),
        item([16, "s", 2, b"\x01"]), item([16, "s", 1, b"\x01"]), item([16, "s", 2, b"\x01\x02\x03"]),
        item([16, "s", 2, b"\x01\xcc\x02"]), item([16, "s", 1 << 30, b"\x01\x02"]), item([16, "s", 2, b"\x01\xc1"]),
    ],
)  # fmt: skip
def test_changes_no_correct_replica_writes_are_refused(body: bytes) -> None:
    with pytest.raises(InvalidBytes):
        Change.from_items("x", 1, 1, body, 1)


def test_a_newer_operation_stalls_loudly() -> None:
    with pytest.raises(UnknownOperation) as newer:
        Change.from_items("x", 7, 1, item([1, "k", 1], [99, "k", {"what": "ever"}]), 1)
    assert (newer.value.actor, newer.value.seq, newer.value.kind) == ("x", 7, 99)
    with pytest.raises(UnknownOperation):
        Change.from_items("x", 7, 1, item([10, "k", [], [[[], "tree", []]]]), 1)
    snapshot = msgpack.packb([2, ["x"], [1], [], False, 1, [["k", "tree", []]]])
    with pytest.raises(UnknownOperation):
        Document("a").join(snapshot)


def test_fields_of_a_newer_version_are_carried_along() -> None:
    body = msgpack.packb([[0, 1, [[1, "k", 5, "newer"]], [], "newer"]])
    (change,) = Change.from_items("x", 1, 1, body, 1)
    assert change.item() == body[1:]
    assert Change.decode(change.encode()).item() == body[1:]
    doc = Document("a")
    doc.apply([change])
    assert doc.value == {"k": 5}


@pytest.mark.parametrize(
    "body",
    [
        b"\xdc\x10\x00" + b"\x90" * (1 << 20 - 1), b"\xdd\x00\x0f\xff\x00" + b"\xc0" * ((1 << 20) - 16),
        b"\x91" * (1 << 20),
        b"\x91\x93\x00\x01\xdd\x00\x0f\xff\x00" + b"\x90" * ((1 << 20) - 20),
        b"\x91\x93\x00\x01\x91\x93\x01\xdd\x00\x0f\xff\x00" + b"\xa0" * ((1 << 20) - 24),
        b"\x91\x93\xdd\x00\x0f\xff\x00" + b"\x00" * ((1 << 20) - 20),
        b"\x91\x93\x00\x01\x98" + (b"\x94\x10\xa1s\xce\x00\x01\xff\xf0\xc6\x00\x01\xff\xf0" + b"\x01" * 0x1FFF0) * 7
        + b"\x94\x10\xa1s\xce\x00\x01\xff\xf0\xc6\x00\x01\xf0\x00" + b"\x01" * 0x1F000,
        b"\x91\x94\x00\x01\x90\xdd\x00\x0f\xff\x00" + b"\xa0" * ((1 << 20) - 20),
    ],
)  # fmt: skip
def test_bombs_cost_bounded_time_and_memory(body: bytes) -> None:
    tracemalloc.start()
    began = time.perf_counter()
    for items in (1, 4096):
        with pytest.raises(CrdtError):
            Change.from_items("x", 1, 1, body[: 1 << 20], items)
    spent, peak = time.perf_counter() - began, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50 << 20
    assert spent < 2.0


def test_an_operation_that_names_dots_nobody_made_waits() -> None:
    """A forged removal of the future would else make the outcome depend on the order of arrival."""
    (forged,) = Change.from_items("x", 1, 1, item([6, "s", b"\x01", False, [0, 3]], names=["y"]), 1)
    one, other = Document("a"), Document("b")
    y = Document("y")
    y.counter("n").increment()
    y.counter("n").increment()
    y.set("s").add(1)
    changes = y.changes_since({})
    one.apply([forged, *changes])
    other.apply([*changes, forged])
    assert state(one) == state(other)
    assert one.value == {"n": 2}


def test_a_removal_that_lies_about_totals_is_the_same_lie_everywhere() -> None:
    (forged,) = Change.from_items("x", 1, 1, item([10, "n", [0, 2], [[[], "counter", [[0, 2, 1000]]]]], names=["y"]), 1)
    y = Document("y")
    y.counter("n").increment(5)
    y.set("s").add(1)
    y.counter("n").increment(7)
    changes = y.changes_since({})
    one, other = Document("a"), Document("b")
    one.apply([*changes[:2], forged, changes[2]])
    other.apply([*changes, forged])
    assert state(one) == state(other) == state(Document.load(one.snapshot(), actor="c"))
