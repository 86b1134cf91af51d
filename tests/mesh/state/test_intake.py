"""How received frames are gathered: what comes alone does not wait, what comes in crowds goes together, in order."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.state.config import StateConfig
from mesh.state.intake import LONE_OPERATIONS, Intake, Pending
from tests.fake_env import FakeEnv, FastSuite
from transport.frame import GENESIS, SignedFrame, seal
from transport.identity import Identity, Mesh

MESH = Mesh("test", b"t" * 8, b"i" * 16, None)
ONE = Identity(b"k" * 32, FastSuite())


def frames(*counts: int) -> list[SignedFrame]:
    """One log's frames, each of so many operations."""
    made: list[SignedFrame] = []
    for count in counts:
        first, previous = (made[-1].last + 1, made[-1].digest) if made else (1, GENESIS)
        made.append(
            seal(ONE, MESH, stream="s", log=b"12345678", first=first, count=count, hlc=1, previous=previous,
                 items=[b"\x01"])
        )  # fmt: skip
    return made


class Room:
    """Who takes what the intake hands on."""

    def __init__(self) -> None:
        self.env = FakeEnv(1)
        self.env.suite = FastSuite()
        self.accepted: list[SignedFrame] = []
        self.is_open = True
        self.intake = Intake(
            self.env, MESH, StateConfig(), accept=lambda pending: self.accepted.append(pending.frame),
            is_ready=lambda frame: self.is_open,
        )  # fmt: skip

    def put(self, frame: SignedFrame) -> None:
        self.intake.put(Pending(frame, ONE.id, lambda: None))


def test_a_small_frame_that_comes_alone_goes_through_at_once() -> None:
    room = Room()
    for frame in frames(1, LONE_OPERATIONS):
        room.put(frame)
        assert room.accepted[-1] is frame
        room.env.run_for(0.001)


def test_what_comes_behind_it_waits_for_the_end_of_the_turn() -> None:
    room, sent = Room(), frames(1, 1, 1)
    for frame in sent:
        room.put(frame)
    assert room.accepted == sent[:1]
    room.env.run_for(0.001)
    assert room.accepted == sent


def test_a_large_one_always_waits_and_so_does_one_that_nobody_is_ready_for() -> None:
    room, sent = Room(), frames(LONE_OPERATIONS + 1, 1)
    room.put(sent[0])
    assert not room.accepted
    room.env.run_for(0.001)
    room.is_open = False
    room.put(sent[1])
    room.env.run_for(0.001)
    assert room.accepted == sent[:1]
    room.is_open = True
    room.intake.wake()
    room.env.run_for(0.001)
    assert room.accepted == sent


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(st.tuples(st.integers(1, 40), st.booleans(), st.booleans()), max_size=12))
def test_whatever_the_crowd_the_order_is_kept_and_each_is_accepted_once(steps: list[tuple[int, bool, bool]]) -> None:
    """A step: how many operations, whether somebody is ready for them, whether a turn passes before the next."""
    room, sent = Room(), frames(*(count for count, _, _ in steps))
    for frame, (_, is_open, turns) in zip(sent, steps, strict=True):
        room.is_open = is_open
        room.put(frame)
        if turns:
            room.env.run_for(0.001)
        assert room.accepted == sent[: len(room.accepted)]
    room.is_open = True
    room.intake.wake()
    room.env.run_for(0.1)
    assert room.accepted == sent
    assert not room.intake.senders
