"""What a write costs, counted by kind, and that so few messages still reach everybody."""

from __future__ import annotations

from itertools import combinations
from random import Random

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mesh.messages import Graft, IHave, Listen, Prune, Vector, Want
from mesh.protocol.plumtree import PlumtreeConfig
from tests.mesh.protocol.test_overlay import grown
from tests.pair import Wire

SMALL = (IHave, Graft, Prune, Want, Vector, Listen)


def mesh(size: int, seed: int = 1) -> Wire:
    if size > 12:
        return grown(size, seed)
    wire = Wire([f"n{number:02}" for number in range(size)], seed=seed, latency_ms=(0.5, 3.0))
    wire.meet_all()
    wire.run_for(2)
    return wire


def small(wire: Wire) -> int:
    return sum(wire.kinds[kind] for kind in SMALL)


@pytest.mark.parametrize("size", [5, 12, 30])
@pytest.mark.parametrize("writers", [1, 3])
def test_a_write_costs_one_payload_a_node_and_a_few_small_messages(size: int, writers: int) -> None:
    wire = mesh(size)
    names = list(wire.boxes)[:writers]

    def write(rounds: int) -> None:
        for _ in range(rounds):
            for name in names:
                wire[name].write()
            wire.run_for(0.5)

    write(4)  # the trees settle
    frames, before = wire.frames, small(wire)
    write(20)
    assert wire.agree()
    writes = 20 * writers
    assert wire.frames - frames <= writes * (size - 1) * 1.05
    config = PlumtreeConfig()
    tellers = config.tellers if size <= 12 else config.tellers_apart
    told = 20 * tellers * size  # each once by each it listens to …
    assert small(wire) - before <= told * min(writers, 2), "… mostly of several writers at a time"


def test_steady_writing_gathers_its_ihaves() -> None:
    wire = mesh(5)
    before = small(wire)
    for _ in range(500):
        wire["n01"].write()
        wire.run_for(0.005)
    wire.run_for(0.1)
    assert wire.agree()
    assert small(wire) - before <= (500 * 5 // 50 + 3) * 2 * 5


def test_whoever_cannot_hear_the_writer_hears_of_it_at_once() -> None:
    """Every single link of five cut in silence: nobody has noticed yet, and the write goes around."""
    for one, other in combinations([f"n{number:02}" for number in range(5)], 2):
        wire = mesh(5)
        wire.cut([one], [other])
        wire[one].write()
        assert wire.run_until(wire.agree, within_s=0.06) < 0.06


@settings(max_examples=12, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(rng=st.randoms(use_true_random=False))
def test_whatever_links_are_missing_a_write_goes_around_once_they_are_given_up(rng: Random) -> None:
    """Law: a link that is cut is given up within 6 s if both ends live (it was kept for ever when both had come under
    suspicion and refuted it); and while everybody is in one component, everybody has a write 0.2 s later."""
    wire = mesh(6)
    names = list(wire.boxes)
    hub = rng.choice(names)
    pairs = [pair for pair in combinations(names, 2) if hub not in pair]
    cuts = rng.sample(pairs, rng.randint(0, len(pairs)))
    for one, other in cuts:
        wire.cut([one], [other])
    wire.run_until(
        lambda: not any(wire[b].id in wire[a].links for one, other in cuts for a, b in ((one, other), (other, one))),
        within_s=6,
    )
    wire.run_for(0.5)
    for _ in range(3):
        wire[rng.choice(names)].write()
        wire.run_until(wire.agree, within_s=0.2)


def test_a_peer_that_pulls_while_more_is_written_gets_nothing_twice() -> None:
    """Law of ``Served``: until what it pulled is sent, nothing is pushed to it, so no copy makes anybody prune."""
    wire = mesh(3)
    wire.cut(["n00"], ["n02"])
    wire.run_for(6.0)
    for _ in range(20):
        wire["n00"].write()
        wire.run_for(0.001)
    wire.run_for(0.5)
    before, pruned = wire.frames, wire.kinds[Prune]
    for _ in range(50):
        wire["n00"].write()
        wire.run_for(0.002)
    wire.run_for(0.5)
    assert wire.agree()
    assert wire.frames - before == 50 * 2
    assert wire.kinds[Prune] == pruned
