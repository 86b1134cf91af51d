"""The window of recent frames against a plain list."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mesh.messaging.window import FRAME_EXTRA, Window
from mesh.protocol.effects import Slot
from transport.identity import Origin

SLOTS = [Slot("t", Origin(bytes(39) + bytes((each,)))) for each in range(2)]
adds = st.lists(st.tuples(st.integers(0, 1), st.integers(1, 3), st.integers(0, 2), st.integers(1, 200)), max_size=30)


@given(adds, st.integers(0, 1), st.integers(0, 40), st.integers(1, 500))
def test_it_holds_the_newest_and_shows_where_it_begins(
    adds: list[tuple[int, int, int, int]], who: int, after: int, bytes_max: int
) -> None:
    window, bound = Window(1000), 1000
    held: list[tuple[Slot, int, int, bytes]] = []
    ends = [0, 0]
    for index, (which, count, hole, size) in enumerate(adds):
        first = ends[which] + 1 + hole
        ends[which] = last = first + count - 1
        raw = bytes((index,)) * size
        window.add(SLOTS[which], first, last, raw)
        held.append((SLOTS[which], first, last, raw))
        while sum(len(each[3]) + FRAME_EXTRA for each in held) > bound and len(held) > 1:
            held.pop(0)
    mine = [each for each in held if each[0] == SLOTS[who]]
    for _, first, _, raw in mine:
        assert window.at(SLOTS[who], first) == raw
    if any(first <= after < last for _, first, last, _ in mine):
        return  # nobody holds half a frame
    begin, frames, last = window.after(SLOTS[who], after, bytes_max)
    later = [each for each in mine if each[1] > after]
    assert begin == (later[0][1] - 1 if later else after)
    expected, end = [], begin
    for _, first, upto, raw in later:
        if first != end + 1 or sum(map(len, expected)) >= bytes_max:
            break
        expected.append(raw)
        end = upto
    assert (frames, last) == (expected, end)
