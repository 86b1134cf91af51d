"""The fast lanes, for what most changes are, do the same as the general ones."""

from __future__ import annotations

import random
from itertools import groupby
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdt import Change, CrdtError, Document
from crdt import change as changes
from crdt.counter import Increment
from tests.laws import require_sound, state
from tests.strategies import History, random_steps, run, wire

some = settings(max_examples=40, deadline=None)
# By a seed, since drawn step by step most histories are one change long, and the first of an author is nobody's run.
long = st.builds(lambda seed: run(random_steps(random.Random(seed), 60, 3)), st.integers(0, 1 << 32))
short = st.builds(lambda seed: run(random_steps(random.Random(seed), 8, 2)), st.integers(0, 1 << 32))


@some
@given(long, st.data())
def test_what_is_ready_is_applied_alike_at_once_or_one_by_one(history: History, data: st.DataObject) -> None:
    fast, slow = Document("observer"), Document("observer")
    batches = [list(run) for _, run in groupby(history.changes, lambda each: each.actor)]
    for at in range(len(batches)):
        match data.draw(st.integers(0, 9)):
            case 0:
                batches[at] += batches[at][:1]  # a repeat
            case 1:
                batches[at].reverse()
            case 2:
                batches[at - 1], batches[at] = batches[at], batches[at - 1]  # perhaps before its causes
    for batch in batches:
        assert fast.apply(wire(batch)) == slow._apply_each(wire(batch), events=True, admitted=False)
        assert fast._news == slow._news
        if data.draw(st.booleans()):
            for doc in (fast, slow):
                doc.counter("mine").increment()
    assert state(fast) == state(slow)
    assert fast.hlc.now == slow.hlc.now
    assert fast.changes_since({}) == slow.changes_since({})
    require_sound(fast)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=6))
def test_stamps_too_far_ahead_are_followed_alike(seconds: list[int]) -> None:
    """The wall clock stands still, and what is up to 20 s ahead is followed."""
    docs = Document("fast", lambda: 0), Document("slow", lambda: 0)
    for doc in docs:
        doc.hlc.ahead_ms_max = 20_000
        doc.apply([Change("x", 1, 0, 0, (Increment("n", 1),))])
    made = [Change("x", at, each * 1000 << 16, 0, (Increment("n", 1),)) for at, each in enumerate(seconds, 2)]
    docs[0].apply(made)
    for each in made:
        docs[1]._apply_each([each], events=False, admitted=False)
    assert docs[0].hlc.now == docs[1].hlc.now == max([0, *(each * 1000 << 16 for each in seconds if each <= 20)])


@settings(max_examples=150, deadline=None)
@given(short, st.data())
def test_bytes_are_read_alike_or_refused_alike(history: History, data: st.DataObject) -> None:
    if not history.changes:
        return
    raw = bytearray(data.draw(st.sampled_from(history.changes)).encode())
    for _ in range(data.draw(st.integers(0, 2))):
        raw[data.draw(st.integers(min(8, len(raw) - 1), len(raw) - 1))] = data.draw(st.integers(0, 255))
    assert told(Change.decode, bytes(raw)) == told(slowly, bytes(raw))


def slowly(raw: bytes) -> Change:
    """``Change.decode`` without its fast lane."""
    try:
        _, actor, seq, hlc, item = changes._standalone_decode(raw)
    except (msgspec.MsgspecError, RecursionError, ValueError) as wrong:
        raise changes.InvalidBytes(f"bytes that are no change: {wrong}") from None
    return changes._read(changes._decode_item(item, actor, seq), actor, seq, hlc, raw, 0)


def told(read: Any, raw: bytes) -> Any:
    try:
        change = read(raw)
    except CrdtError as wrong:
        return type(wrong), str(wrong)
    return [getattr(change, each) for each in Change.__struct_fields__], change.item(), change.last, change.size


@some
@given(long)
def test_a_frame_is_read_as_its_items_are(history: History) -> None:
    """One by one, or all from one body."""
    for actor in sorted({each.actor for each in history.changes}):
        mine = [each for each in history.changes if each.actor == actor]
        mine = mine[: next((at for at in range(1, len(mine)) if mine[at].seq != mine[at - 1].last + 1), len(mine))]
        body = msgspec.msgpack.encode([msgspec.Raw(each.item()) for each in mine])
        read = Change.from_items(actor, mine[0].seq, mine[0].hlc, body, len(mine))
        assert read == mine == [Change.decode(each.encode()) for each in mine]
        assert [(each.needs, each.deps) for each in read] == [
            (each.needs, each.deps) for each in (Change.decode(each.encode()) for each in mine)
        ]


@pytest.mark.parametrize(
    "op",
    [
        [1, "k" * 513, 1], [1, ["k"], 1], [1, "k", 1 << 63], [4, "k", b"\xcc\x01", []], [4, "k", b"\x01", [0, 1]],
        [6, "k", b"", True, []], [6, ["k", "é" * 300], b"\x01", True, []], [11, "k", [0, 1], "x"], [11, "k", 0, ""],
        [13, "k", 0, [b"\xcc\x01"]], [16, "s", 2, b"\x01\xc1"], [99, "k"],
    ],
)  # fmt: skip
def test_what_is_refused_in_a_frame_is_refused_alone(op: list[Any]) -> None:
    item = msgspec.msgpack.encode([0, 1, [op]])
    raw = msgspec.msgpack.encode([1, "x", 1, 1, msgspec.Raw(item)])
    with pytest.raises(CrdtError) as alone:
        Change.decode(raw)
    with pytest.raises(CrdtError) as framed:
        Change.from_items("x", 1, 1, b"\x91" + item, 1)
    assert (type(alone.value), str(alone.value)) == (type(framed.value), str(framed.value)) == told(slowly, raw)
