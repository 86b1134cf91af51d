"""Leaving a part of a run out changes nothing before it; a failing run gets small; a replay is the run to the byte."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from sim import World, scenario
from sim.cli import group
from sim.draws import CLASSES
from sim.plan import BadReplay, Broke, Plan, Planned, load
from sim.scenario import find
from sim.scenarios.chaos import chaos
from sim.shrink import Holds, Shrinker
from tests.sim.toy import Toy

NAMES = st.text("abc.#-0129", min_size=1, max_size=8)
PLANNED = st.builds(
    Planned, st.integers(0, 10**14), st.integers(0, 10**12), st.sampled_from(sorted(CLASSES)),
    st.tuples(st.sampled_from(["n1", "n2"]), st.floats(0, 1e6)) | st.tuples(st.lists(NAMES, max_size=3)), NAMES,
)  # fmt: skip
PLANS = st.builds(
    Plan,
    scenario=NAMES,
    seed=st.integers(0, 2**64 - 1),
    nodes=st.none() | st.lists(NAMES).map(tuple),
    faults=st.none() | st.lists(PLANNED, max_size=4).map(tuple),
    left_out=st.frozensets(NAMES),
    operations=st.none() | st.frozensets(NAMES),
    waits=st.dictionaries(st.integers(0, 50), st.integers(0, 10**14), max_size=4),
    broke=st.none() | st.builds(Broke, st.text(), st.text(), st.floats(0, 1e6), NAMES, NAMES),
)


@given(plan=PLANS)
def test_a_replay_file_keeps_every_value(plan: Plan) -> None:
    assert Plan.decode(plan.encode()) == plan


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "gossamer replay 1"}', '{"format": "gossamer replay 9"}'])
def test_what_is_no_replay_is_refused_by_name(text: str, tmp_path: Path) -> None:
    file = tmp_path / "wrong.json"
    file.write_text(text)
    with pytest.raises(BadReplay, match=r"wrong\.json is no replay"):
        load(file)


STORM = find("maelstrom-g-set")  # five nodes, clients, faults of nine classes, in half the time of chaos


def before(lines: list[str], when: int) -> list[str]:
    return [line for line in lines if int(line.split(" ", 1)[0]) < when]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_plan_of_everything_is_the_run_itself(seed: int) -> None:
    """Also what the nemesis had to wait for, or let last until it bit."""
    whole = STORM.tell(seed)
    again = STORM.tell(seed, plan=Plan.decode(whole.plan().encode()))
    assert again.trace_hash == whole.trace_hash and whole.plan().faults


def test_removing_one_fault_leaves_all_before_it_unchanged() -> None:
    """Of the real node, under many faults: whichever fault goes, the trace up to its beginning is the same."""
    wholes = (STORM.tell(seed, keep_trace=True) for seed in range(99))
    whole = next(each for each in wholes if each.world is not None and len(each.world.planned) > 8)
    assert whole.world is not None
    plan = replace(whole.plan(), broke=None)
    assert plan.faults is not None
    load_began = next(each.began for each in whole.world.faults if each.key == plan.faults[0].name)
    load_began -= plan.faults[0].begin
    for gone in plan.faults[:: len(plan.faults) // 3]:
        rest = replace(plan, faults=tuple(each for each in plan.faults if each is not gone))
        without = STORM.tell(whole.seed, keep_trace=True, plan=rest)
        began = load_began + gone.begin
        assert before(without.lines, began) == before(whole.lines, began) and len(before(whole.lines, began)) > 100
        assert without.trace_hash != whole.trace_hash


def test_removing_one_operation_leaves_all_before_it_unchanged() -> None:
    whole = chaos.tell(2, keep_trace=True)
    assert whole.world is not None
    gone = whole.world.operations[len(whole.world.operations) // 2]
    plan = replace(whole.plan(), operations=frozenset(whole.world.operations) - {gone})
    without = chaos.tell(2, keep_trace=True, plan=plan)
    assert without.world is not None
    at = whole.world.operations.index(gone)
    assert without.world.operations[:at] == whole.world.operations[:at] and at > 20
    same = next(n for n, (one, other) in enumerate(zip(whole.lines, without.lines, strict=False)) if one != other)
    assert same > len(whole.lines) // 4


@scenario(nodes=4, program=Toy)
def word_is_lost_with_two_faults(world: World) -> None:
    """Breaks when the first node is cut off while the second is dead; the rest of it is noise."""
    a, b, c, *_ = (*world.nodes, None, None)
    assert a is not None and b is not None
    a.node.dial("10.0.0.2:7000")
    world.run_for(3.0)
    with world.latency(0.01):
        world.run_for(2.0)
    if c is not None:
        c.crash()
        world.run_for(1.0)
        c.restart()
    cut = world.partition([a])
    b.pause(5.0)
    for number in range(12):
        if world.operation(f"word-{number}"):
            a.node.say(b"word-%d" % number)
    world.run_for(1.0)
    lost = b"word-7" not in b.node.got and "word-7" in world.operations
    assert not (lost and not cut.muted), "word 7 was lost"
    for each in world.faults:
        each.asked = False


def test_a_failing_run_gets_small_and_still_fails_alike() -> None:
    shrunk = Shrinker(word_is_lost_with_two_faults, Plan(seed=5)).run()
    plan = shrunk.plan
    assert plan.operations == {"word-7"}
    assert plan.nodes == ("n1", "n2")
    assert "latency" in plan.left_out and "partition" not in plan.left_out
    assert shrunk.after.seconds < shrunk.before.seconds / 3
    again = word_is_lost_with_two_faults.tell(5, plan=Plan.decode(plan.encode()))
    assert again.broke == plan.broke  # the same place, trace and last draw


def test_what_holds_cannot_be_shrunk() -> None:
    with pytest.raises(Holds):
        Shrinker(find("split"), Plan(seed=0)).run()


STORY = str(Path(__file__).parents[2] / "examples" / "lost_update" / "story.py")


def test_the_command_line_shrinks_and_replays(tmp_path: Path) -> None:
    """The race of the example, as a reader of the docs meets it."""
    runner, file = CliRunner(), tmp_path / "small.json"
    told = find(STORY)
    seed = next(seed for seed in range(30) if told.tell(seed).error is not None)
    small = runner.invoke(group, ["shrink", STORY, "--seed", str(seed), "--out", str(file), "--json"])
    assert small.exit_code == 0, small.output
    after = json.loads(small.output)["after"]
    assert after["operations"] == 2 and after["faults"] == 0 and after["nodes"] <= 3
    assert file.stat().st_size < 1000
    again = runner.invoke(group, ["replay", str(file)])
    assert again.exit_code == 1
    assert "the same run to the byte" in again.output and f"replay: gossamer sim replay {file}" in again.output
    assert "seats were sold" in again.output and "customer-" in again.output


def test_a_wrong_replay_is_a_usage_error(tmp_path: Path) -> None:
    file = tmp_path / "other.json"
    file.write_text("{}")
    wrong = CliRunner().invoke(group, ["replay", str(file)])
    assert wrong.exit_code == 2 and "is no replay" in wrong.output
