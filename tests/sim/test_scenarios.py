"""Every shipped story holds, for a few seeds each; what a swarm once found stays here with its seed."""

from __future__ import annotations

from pathlib import Path

import pytest

from sim.plan import load
from sim.scenario import find, shipped

REPLAYS = Path(__file__).with_name("replays")  # what was found, as whole plans: the draws of a seed may change since
LONG = {"flooding", "topics", "overload", "long-offline-writer", "thundering-heal", "crash-points", "calm"}  # one seed
STORIES = sorted(set(shipped()) - {"chaos", "chaos-folding"})


@pytest.mark.parametrize(
    ("seed", "name"), [(seed, name) for seed in range(2) for name in STORIES if not seed or name not in LONG]
)
def test_a_shipped_story_holds(seed: int, name: str) -> None:
    find(name)(seed)


@pytest.mark.parametrize("name", ["chaos", "chaos-folding"])
@pytest.mark.parametrize("seed", range(1, 3))
def test_chaos_holds(name: str, seed: int) -> None:
    find(name)(seed)


def replay(name: str) -> None:
    plan = load(REPLAYS / f"{name}.json")
    error = find(plan.scenario).tell(plan.seed, plan=plan).error
    if error is not None:
        raise error


@pytest.mark.parametrize("seed", [0, 4])
def test_found_own_stamps_go_on_when_a_machine_boots_with_a_clock_behind(seed: int) -> None:
    """A node whose clock was set back over a restart did not follow its own older stamps, since they were too far
    ahead; the next change then differed by a negative step, which no decoder takes: peers refused it for good, and
    the node itself could not start again."""
    replay(f"chaos-{seed}")


def test_found_a_holder_that_was_passed_over_is_not_asked_again_and_again() -> None:
    """n2's disk had lost one record of a log. n1 asked n2 for it, passed it over, and asked n2 again, since all other
    holders had an ask of another (causally blocked) log outstanding and so counted as more loaded: for ever."""
    replay("chaos-19")


@pytest.mark.parametrize("seed", [0, 7])
def test_found_a_node_that_starts_in_a_split_does_not_fold_alone(seed: int) -> None:
    """n4 was killed and started again while it was cut off with n3 from the others. It had heard of nobody yet (or
    only of members that were down already, which were no news), so nobody else counted, and it folded its logs beyond
    what the others had on disk. Who counts is kept on disk since; found by ``check_floors``."""
    replay(f"chaos-folding-{seed}")


def test_found_a_torn_batch_takes_nothing_that_was_durable() -> None:
    """The simulator's own mistake: a torn commit of a fold did its cuts and lost the snapshot they were made for. No
    storage that keeps the contract (all or nothing) does so; a node then came back without all it had promised."""
    find("crash-points")(14)


def test_found_a_fold_waits_until_the_base_it_builds_on_is_on_disk() -> None:
    """n5's disk took a second for a commit. It folded again before the base of the last fold was on disk, so onto an
    older one under the new floors: the second base had holes, and took the place of the first. After a power cut
    everything above the holes was gone, acknowledged or not."""
    replay("chaos-folding-267")


def test_found_repair_is_told_when_a_broken_record_lowers_a_head() -> None:
    """A record of n4 rotted; when its disk refused a commit it was rebuilt, and held less. The repair core still
    believed the old heads, asked for what comes after them, and n4 set aside 116 frames for ever."""
    replay("chaos-folding-220")


def test_found_what_lies_behind_a_broken_record_is_taken_up_again() -> None:
    """A record of n5's own log rotted; its disk refused a commit while it was cut off, and the space was made anew up
    to that record. Peers brought the record back, but not what n5 had acknowledged behind it, which nobody else had:
    it was gone until the next start, unnamed. And n4, which had heard of it, asked for it for ever."""
    replay("chaos-20098")


def test_what_rots_before_anybody_else_has_it_is_no_liveness_fault() -> None:
    """n3's own frame broke before it was sent to anybody: nothing can bring it back. The nemesis spares such now."""
    replay("chaos-folding-248")


def test_found_a_log_keeps_its_name_before_its_first_frame() -> None:
    """n3 was handed rights, had written nothing itself yet, and lost its power: it came back under another name, since
    a log's name was on disk with its first frame only. The rights were nobody's."""
    find("tickets")(2)


def test_a_bridge_over_a_rotten_record_is_no_unstable_fold() -> None:
    """A false alarm of ``check_floors``: a record of n5 rotted, it folded its space as it stood so that the others get
    past the hole, and n3 joined that snapshot: its floor was above what n1 had on disk, and rightly so."""
    replay("chaos-10004")
