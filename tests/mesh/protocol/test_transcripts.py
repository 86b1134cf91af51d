"""Protocol talks as readable text, compared whole. ``GOSSAMER_REWRITE=1 pytest`` writes them anew: read the diff."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pair import Wire

FOLDER = Path(__file__).parents[2] / "transcripts"


def two_nodes_meet() -> Wire:
    """b found a's address; both tell what they know, then keep each other company."""
    wire = Wire("ab")
    wire["a"].write(2)
    wire.recording = True
    wire.link(wire["b"], wire["a"])
    wire.run_for(0.5)
    return wire


def met(names: str, rest_s: float = 1.0) -> Wire:
    wire = Wire(names)
    wire.meet_all()
    wire.run_for(rest_s)
    wire.recording = True
    return wire


def kill_seen_by_three() -> Wire:
    """d is killed: its links close, nobody reaches it, the dial is refused. Down in three round trips."""
    wire = met("abcd")
    wire.crash("d")
    wire.run_for(0.02)
    return wire


def frozen_process() -> Wire:
    """c stops: probed, asked about, suspected, down; back by its own word when it runs again."""
    wire = met("abc")
    wire.freeze("c")
    wire.run_for(3.0)
    wire.say("       c runs again")
    wire.thaw("c")
    wire.run_for(0.05)
    return wire


def refutation() -> Wire:
    """c stops for long enough to be suspected, not for longer: it refutes, and was never down."""
    wire = met("abc")
    wire.freeze("c")
    wire.run_for(1.2)
    wire.say("       c runs again")
    wire.thaw("c")
    wire.run_for(0.05)
    return wire


def cut_and_heal() -> Wire:
    """ab | cde for four seconds; both sides write; then one mesh again, with everything."""
    wire = met("abcde")
    wire.recording = False
    wire.cut("ab", "cde")
    wire.run_for(4.0)
    wire["a"].write(3)
    wire["c"].write(5)
    wire.run_for(0.1)
    wire.recording = True
    wire.say("       the cut ends")
    wire.heal()
    wire.run_until(lambda: wire.is_complete() and wire.agree(), within_s=5.0)
    wire.run_for(0.31)
    return wire


def around_a_cut_link() -> Wire:
    """a and b no longer reach each other, both reach c: what a writes takes the way through c."""
    wire = met("abc")
    wire.cut("a", "b")
    wire["a"].write(2)
    wire.run_for(0.1)
    wire.say("       and again: c pushes at once, since b asked it to")
    wire["a"].write(2)
    wire.run_for(0.05)
    return wire


def push_refused() -> Wire:
    """b's lane is full: it is told by ihave, and pulls when it has room."""
    wire = met("ab")
    wire.full.add(("a", "b"))
    wire["a"].write(2)
    wire["a"].write(2)
    wire.run_for(0.05)
    return wire


def leave() -> Wire:
    """c leaves in good order, and comes back under the same key: its own word brings it back."""
    wire = met("abc")
    wire["c"].leave()
    wire.run_for(0.1)
    wire.say("       c starts again")
    wire.restart("c")
    wire.run_for(0.02)
    return wire


STORIES = [
    two_nodes_meet, kill_seen_by_three, frozen_process, refutation, cut_and_heal, around_a_cut_link, push_refused,
    leave,
]  # fmt: skip


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_the_talk_reads_as_it_is_written_down(story: Callable[[], Wire]) -> None:
    text = "\n".join([story.__doc__ or "", "", *story().lines, ""])
    path = FOLDER / f"{story.__name__}.txt"
    if os.environ.get("GOSSAMER_REWRITE"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert path.read_text() == text
