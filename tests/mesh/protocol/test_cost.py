"""What the protocol says when it has little to say: counts, so that no machine's speed matters."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.messages import IHave
from mesh.protocol.antientropy import AntiEntropyConfig
from mesh.protocol.prober import ProberConfig
from tests.pair import Wire
from transport.base import SECOND

QUIET_S = ProberConfig().quiet_ms / 1000
ROUND_S = 0.8 * AntiEntropyConfig().round_s
LONG_S = 30.0


@settings(max_examples=15, deadline=None)
@given(nodes=st.integers(2, 6), seed=st.integers(0, 1 << 16), latency_ms=st.floats(0.1, 20.0))
def test_an_idle_link_is_asked_by_one_end_at_a_time(nodes: int, seed: int, latency_ms: float) -> None:
    """One question and one answer in each quiet interval, not one from each end; and the ends take turns, so both
    know the round trip. It was 1.5 times as much: both ends fell quiet together, so both asked."""
    wire = Wire("abcdef"[:nodes], seed=seed, latency_ms=(latency_ms / 2, latency_ms))
    wire.meet_all()
    wire.run_for(3.0)
    wire.messages = 0
    wire.run_for(LONG_S)
    links, rounds = nodes * (nodes - 1) // 2, nodes * LONG_S / ROUND_S
    assert wire.messages <= 2 * links * LONG_S / QUIET_S + rounds + 2 * links
    for box in wire.boxes.values():
        for watch in box.stack.swim._prober.watches.values():
            assert wire.now - watch.probed_at < 5 * SECOND


@settings(max_examples=15, deadline=None)
@given(nodes=st.integers(3, 9), seed=st.integers(0, 1 << 16), writes=st.integers(1, 6))
def test_a_frame_of_the_small_mesh_is_told_of_once(nodes: int, seed: int, writes: int) -> None:
    """Who got it from its origin takes turns to tell, and the first one's word keeps the others quiet. All told all:
    (n-1)(n-2) messages a frame, ten times what the frame itself took."""
    wire = Wire("abcdefghi"[:nodes], seed=seed, latency_ms=(0.1, 2.0))
    wire.meet_all()
    wire.run_for(3.0)
    wire.kinds.clear()
    wire.frames = 0
    for number in range(writes):
        wire["abcdefghi"[number % nodes]].write()
        wire.run_for(0.3)
    assert wire.agree() and wire.frames == writes * (nodes - 1)
    assert wire.kinds[IHave] <= writes * (nodes - 2)


@settings(max_examples=15, deadline=None)
@given(nodes=st.integers(3, 9), seed=st.integers(0, 1 << 16), cut=st.permutations(range(9)))
def test_whoever_was_to_tell_first_may_be_the_one_that_is_cut_off(nodes: int, seed: int, cut: list[int]) -> None:
    """A link is cut and nobody has noticed: what one end writes is at the other in a fifth of a second."""
    names = "abcdefghi"[:nodes]
    one, other, *_ = [names[at] for at in cut if at < nodes]
    wire = Wire(names, seed=seed, latency_ms=(0.1, 2.0))
    wire.meet_all()
    wire.run_for(3.0)
    wire.cut(one, other)
    wire[one].write()
    assert wire.run_until(wire.agree, within_s=0.2) < 0.2
