"""Lanes against a dumb oracle: three lists of frames, and sums."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from transport.base import FRAME_BYTES_MAX, MESSAGE_BYTES_MAX, Lane
from transport.errors import Misuse, PeerFault
from transport.identity import NodeId
from transport.lanes import Lanes, LanesConfig

PEER = NodeId(bytes(32))
SMALL = LanesConfig(
    window_bytes=FRAME_BYTES_MAX, outbound_bytes_max=FRAME_BYTES_MAX, control_bytes_max=1 << 16,
    passed_over_bytes_max=1 << 16,
)  # fmt: skip
FLOW = (Lane.DIRECT, Lane.BROADCAST, Lane.SYNC)
SIZES = st.one_of(st.integers(5, 300), st.integers(5, 60_000), st.sampled_from([127, 128, 32 << 10, FRAME_BYTES_MAX]))


class Talk(RuleBasedStateMachine):
    """Two ends, both sending; a wire between them that keeps order and may end."""

    @initialize()
    def begin(self) -> None:
        self.ends = [Lanes(PEER, SMALL), Lanes(PEER, SMALL)]
        self.wires: list[list[bytes]] = [[], []]  # from each end
        self.offered: list[dict[Lane, list[bytes]]] = [{lane: [] for lane in Lane} for _ in range(2)]
        self.urgent: list[dict[Lane, list[bytes]]] = [{lane: [] for lane in Lane} for _ in range(2)]
        self.got: list[dict[Lane, list[bytes]]] = [{lane: [] for lane in Lane} for _ in range(2)]  # by each end
        self.owed: list[dict[Lane, int]] = [dict.fromkeys(Lane, 0) for _ in range(2)]  # given to the owner, not done
        self.refused: list[set[Lane]] = [set(), set()]
        self.count = 0

    @rule(end=st.integers(0, 1), lane=st.sampled_from(Lane), size=SIZES, urgent=st.booleans())
    def offer(self, end: int, lane: Lane, size: int, urgent: bool) -> None:
        self.count += 1
        frame = self.count.to_bytes(4, "big").rjust(size, b"U" if urgent else b"x")[-size:]
        if self.ends[end].offer(lane, frame, urgent):
            offered = self.offered[end][lane]
            if urgent:  # before all in the queue that are not
                taken = len(self.taken(end, lane))
                self.urgent[end][lane] = [each for each in self.urgent[end][lane] if each in offered[taken:]]
                offered.insert(taken + len(self.urgent[end][lane]), frame)
                self.urgent[end][lane].append(frame)
            else:
                offered.append(frame)
        else:
            assert self.ends[end].queued(lane) > 0
            self.refused[end].add(lane)

    @rule(end=st.integers(0, 1))
    def take(self, end: int) -> None:
        message = self.ends[end].take()
        if message is None:
            assert not self.ends[end].is_ready
            return
        assert len(message) <= MESSAGE_BYTES_MAX
        self.wires[end].append(message)
        for lane in self.ends[end].writable():
            self.refused[end].remove(lane)  # each is named once, and only if it had refused

    @rule(end=st.integers(0, 1))
    def deliver(self, end: int) -> None:
        if self.wires[end]:
            other = 1 - end
            for lane, frame in self.ends[other].receive(self.wires[end].pop(0)):
                self.got[other][lane].append(frame)
                self.owed[other][lane] += len(frame)

    @rule(end=st.integers(0, 1), lane=st.sampled_from(Lane), part=st.sampled_from([0.1, 0.5, 1.0]))
    def consume(self, end: int, lane: Lane, part: float) -> None:
        size = round(self.owed[end][lane] * part)
        self.ends[end].consumed(lane, size)
        self.owed[end][lane] -= size

    @precondition(lambda self: self.count > 3)
    @rule()
    def settle(self) -> None:
        """Everything flows when everybody does his part: no credit is ever lost."""
        for _ in range(400):
            for end in (0, 1):
                self.take(end)
                self.deliver(end)
                for lane in Lane:
                    self.consume(end, lane, 1.0)
        for end in (0, 1):
            assert self.got[1 - end] == self.offered[end]
            assert not any(self.ends[end].queued(lane) for lane in Lane)
            assert not self.refused[end]

    @invariant()
    def what_arrives_is_what_was_offered_in_order(self) -> None:
        for end in (0, 1):
            for lane in Lane:
                got = self.got[1 - end][lane]
                assert got == self.offered[end][lane][: len(got)]

    @invariant()
    def memory_is_bounded(self) -> None:
        for end in (0, 1):
            for lane in FLOW:
                assert self.owed[end][lane] <= SMALL.window_bytes
                assert self.ends[end].queued(lane) <= SMALL.outbound_bytes_max + FRAME_BYTES_MAX + 64

    @invariant()
    def sent_is_received_or_lost_with_the_link(self) -> None:
        for end in (0, 1):
            queued = sum(
                len(frame) + 64 for lane in Lane for frame in self.offered[end][lane][len(self.taken(end, lane)) :]
            )
            assert queued == sum(self.ends[end].queued(lane) for lane in Lane)

    def taken(self, end: int, lane: Lane) -> list[bytes]:
        """What left the queue: arrived, or on the wire."""
        reader = Lanes(PEER, LanesConfig(window_bytes=1 << 40))
        seen: list[bytes] = []
        for message in self.wires[end]:
            seen += [frame for at, frame in reader.receive(message) if at is lane]
        return self.got[1 - end][lane] + seen


TestTalk = Talk.TestCase
TestTalk.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)


def drained(lanes: Lanes) -> list[tuple[Lane, int]]:
    """Lane and size of what comes out, in order."""
    reader, out = Lanes(PEER, LanesConfig(window_bytes=1 << 40)), []
    while (message := lanes.take()) is not None:
        out += [(lane, len(frame)) for lane, frame in reader.receive(message)]
    return out


def credited(config: LanesConfig = SMALL) -> Lanes:
    """One end that may send as much as it likes."""
    lanes = Lanes(PEER, config)
    lanes.receive(b"".join(bytes((0x10 | lane,)) + b"\xff" * 5 + b"\x7f" for lane in FLOW))
    return lanes


def test_a_higher_lane_goes_first() -> None:
    lanes = credited()
    for lane in reversed(Lane):
        lanes.offer(lane, b"x" * 10)
    assert [lane for lane, _ in drained(lanes)] == list(Lane)


def test_a_lower_lane_is_never_starved() -> None:
    lanes, passed, longest = credited(), 0, 0
    lanes.offer(Lane.SYNC, b"s" * 100)
    for _ in range(3000):
        while lanes.offer(Lane.DIRECT, b"d" * 1000):
            pass
        message = lanes.take() or b""
        passed += len(message)
        if b"sss" in message:
            longest, passed = max(longest, passed), 0
            lanes.offer(Lane.SYNC, b"s" * 100)
    assert 0 < longest <= SMALL.passed_over_bytes_max + 2 * SMALL.message_bytes


def test_a_long_message_is_one_frame() -> None:
    """10,000 records in one message of 1 MiB, each with a signature to check, kept a node's loop for seconds."""
    lanes = Lanes(PEER, SMALL)
    entry = b"\x00\x80\x08" + bytes(1024)
    assert len(lanes.receive(entry * 60)) == 60
    with pytest.raises(PeerFault):
        lanes.receive(entry * 70)


def test_small_frames_travel_together_and_a_big_one_alone() -> None:
    lanes = credited()
    lanes.take()
    for _ in range(1000):
        lanes.offer(Lane.BROADCAST, bytes(100))
    sizes = []
    while (message := lanes.take()) is not None:
        sizes.append(len(message))
    assert len(sizes) == 4 and max(sizes) <= SMALL.message_bytes + 1000
    lanes.offer(Lane.DIRECT, bytes(10))
    lanes.offer(Lane.DIRECT, bytes(500_000))
    assert len(lanes.take() or b"") == 12 and len(lanes.take() or b"") == 500_004


def test_control_needs_no_credit_and_others_wait_for_it() -> None:
    lanes = Lanes(PEER, SMALL)
    lanes.take()
    lanes.offer(Lane.CONTROL, b"c")
    lanes.offer(Lane.SYNC, b"s")
    assert drained(lanes) == [(Lane.CONTROL, 1)]
    lanes.receive(b"\x13\x01")
    assert drained(lanes) == [(Lane.SYNC, 1)]


def test_tiny_frames_count_for_what_they_cost() -> None:
    lanes = Lanes(PEER, SMALL)
    count = 0
    while lanes.offer(Lane.DIRECT, b"x"):
        count += 1
    assert count == SMALL.outbound_bytes_max // 65


@pytest.mark.parametrize(
    ("message", "rule"),
    [
        (b"", "message"),
        (b"\x04\x01x", "kind"),
        (b"\x10\x01", "kind"),
        (b"\x14\x01", "kind"),
        (b"\x00\x00", "frame"),
        (b"\x00\x02x", "frame"),
        (b"\x00", "varint"),
        (b"\x00\x80", "varint"),
        (b"\x00\x81\x00x", "varint"),  # not the shortest form
        (b"\x00" + b"\xff" * 9 + b"\x01", "varint"),
        (b"\x11\x00", "credit"),
        (b"\x11\x05\x11\x05", "credit"),
        (b"\x11\x05\x11\x04", "credit"),
        (b"\x00\x81\x80\x40" + bytes(FRAME_BYTES_MAX + 1), "frame"),
        (bytes(MESSAGE_BYTES_MAX + 1), "message"),
    ],
)
def test_broken_rules_are_named(message: bytes, rule: str) -> None:
    with pytest.raises(PeerFault, match=rule) as caught:
        Lanes(PEER, SMALL).receive(message)
    assert caught.value.peer == PEER


def test_to_send_beyond_the_credit_is_a_fault() -> None:
    lanes = Lanes(PEER, SMALL)
    most = b"\x01\x80\x80\x40" + bytes(FRAME_BYTES_MAX)
    lanes.receive(most)
    with pytest.raises(PeerFault, match="credit"):
        lanes.receive(b"\x01\x01x")
    lanes.receive(b"\x00\x01x")  # control stays open


@settings(max_examples=100, deadline=None)
@given(junk=st.binary(min_size=1, max_size=200))
def test_any_bytes_end_in_frames_or_one_typed_error(junk: bytes) -> None:
    try:
        frames = Lanes(PEER, SMALL).receive(junk)
    except PeerFault:
        return
    assert sum(len(frame) for _, frame in frames) < len(junk)


def test_our_own_mistakes_are_told() -> None:
    lanes = Lanes(PEER, SMALL)
    with pytest.raises(Misuse):
        lanes.offer(Lane.DIRECT, b"")
    with pytest.raises(Misuse):
        lanes.offer(Lane.DIRECT, bytes(FRAME_BYTES_MAX + 1))
    with pytest.raises(Misuse):
        lanes.consumed(Lane.DIRECT, 1)
    with pytest.raises(ValueError, match="largest frame"):
        LanesConfig(window_bytes=1000)
