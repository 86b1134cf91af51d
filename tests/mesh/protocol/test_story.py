"""Five nodes through the faults of a day, in virtual time, with the bounds that are promised (issue 2)."""

from __future__ import annotations

import pytest

from mesh.protocol.facts import LinkLost, MemberDown, PartitionHealed, PartitionSuspected
from tests.pair import Wire

FIVE = "abcde"


def met(seed: int = 0) -> Wire:
    wire = Wire(FIVE, seed=seed, latency_ms=(0.2, 2.0))
    wire.meet_all(within_s=1.0)
    wire.run_for(2.0)
    return wire


def all_see(wire: Wire, name: str, state: str) -> bool:
    return all(box.states()[name] == state for box in wire.boxes.values() if box.alive and box.name != name)


def test_a_killed_process_is_down_everywhere_within_a_few_round_trips() -> None:
    wire = met()
    wire.crash("c")
    assert wire.run_until(lambda: all_see(wire, "c", "down"), within_s=0.5) < 0.1
    downs = [fact for box in wire.boxes.values() for _, fact in box.told(MemberDown)]
    assert [(fact.member, fact.cause) for fact in downs] == [(wire["c"].id, "closed")] * 4  # type: ignore[attr-defined]


def test_a_frozen_process_is_down_within_three_seconds_and_comes_back() -> None:
    wire = met()
    wire.freeze("c")
    took = wire.run_until(lambda: all_see(wire, "c", "down"), within_s=3.0)
    assert 1.0 < took < 2.5
    wire.run_for(10)
    wire.thaw("c")
    wire.run_until(wire.is_complete, within_s=5.0)
    assert not wire["c"].told(MemberDown), "the sleeper blames itself, not the others"
    assert wire["c"].stack.incarnation > 1


def test_a_short_freeze_is_forgiven() -> None:
    wire = met()
    for _ in range(5):
        wire.freeze("c")
        wire.run_for(1.2)
        wire.thaw("c")
        wire.run_for(0.3)
    assert not [fact for box in wire.boxes.values() for fact in box.told(MemberDown)]


def test_a_cut_mesh_says_so_and_grows_together_again() -> None:
    wire = met()
    wire.cut("ab", "cde")
    wire.run_for(15)
    for box in wire.boxes.values():
        side = "ab" if box.name in "ab" else "cde"
        assert {name for name, state in box.states().items() if state == "alive"} == set(side)
        assert len(box.told(PartitionSuspected)) == 1
        box.write(3)
    wire.heal()
    assert wire.run_until(wire.is_complete, within_s=5.0) < 5.0
    wire.run_until(wire.agree, within_s=5.0)
    wire.run_for(1.0)
    assert all(len(box.told(PartitionHealed)) == 1 for box in wire.boxes.values())
    assert all({fact.cause for _, fact in box.told(LinkLost)} == {"timeout"} for box in wire.boxes.values())  # type: ignore[attr-defined]


def test_a_write_goes_around_a_cut_link_at_once() -> None:
    wire = met()
    wire.cut("a", "b")
    wire["a"].write()
    assert wire.run_until(wire.agree, within_s=0.1) < 0.1
    wire.run_for(20)
    assert not [fact for box in wire.boxes.values() for fact in box.told(MemberDown)], "others still reach both"
    wire["a"].write()
    assert wire.run_until(wire.agree, within_s=0.1) < 0.1


@pytest.mark.parametrize("kills", range(3))
def test_a_killed_and_restarted_node_catches_up(kills: int) -> None:
    wire = met(kills)
    wire["a"].write(5)
    wire.crash("c")
    wire["b"].write(5)
    wire.run_for(0.2 + 3 * kills)
    wire.restart("c")
    wire.run_until(wire.is_complete, within_s=5.0)
    wire.run_until(wire.agree, within_s=1.0)
