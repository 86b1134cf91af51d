"""The fast lanes, for what most changes are, do the same as the general ones."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crdt import Change, CrdtError, Document
from crdt import change as changes
from crdt.counter import Increment
from tests.laws import require_sound, state
from tests.strategies import History, histories, wire

some = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@some
@given(histories(steps=20), st.data())
def test_what_is_ready_is_applied_alike_at_once_or_one_by_one(history: History, data: st.DataObject) -> None:
    fast, slow = Document("observer"), Document("observer")
    left = list(history.changes)
    while left:
        run = 1
        while run < len(left) and left[run].actor == left[0].actor:
            run += 1
        batch, left = left[:run], left[run:]
        if data.draw(st.booleans()):
            batch = batch[: data.draw(st.integers(1, run))] + batch  # some of it twice
        assert fast.apply(wire(batch)) == slow._apply_each(wire(batch), True)
    assert state(fast) == state(slow)
    assert fast.hlc.now == slow.hlc.now
    assert fast.changes_since({}) == slow.changes_since({})
    assert fast._news == slow._news
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
        docs[1]._apply_each([each], False)
    assert docs[0].hlc.now == docs[1].hlc.now == max([0, *(each * 1000 << 16 for each in seconds if each <= 20)])


@some
@given(histories(steps=8), st.data())
def test_bytes_are_read_alike_or_refused_alike(history: History, data: st.DataObject) -> None:
    if not history.changes:
        return
    raw = bytearray(data.draw(st.sampled_from(history.changes)).encode())
    for _ in range(data.draw(st.integers(0, 2))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
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
@given(histories(steps=12))
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
