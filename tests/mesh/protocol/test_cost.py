"""What the protocol says when it has little to say: counts, so that no machine's speed matters."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

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
