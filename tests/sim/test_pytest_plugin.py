"""The pytest options, the ``world`` fixture and the strategy of fault schedules, as a user of the package has them."""

from __future__ import annotations

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from sim import World, converged
from sim.draws import CLASSES
from sim.nemesis import Nemesis
from sim.plan import Planned
from sim.strategies import schedules
from tests.sim.toy import Toy

pytest_plugins = ["pytester"]

THEIRS = """
from sim import scenario
from tests.sim.toy import Toy

@scenario(nodes=2, program=Toy, seeds=[0])
def test_story(world):
    '''Breaks for odd seeds.'''
    world.run_for(1.0)
    assert world.seed.value % 2 == 0, "odd"

def test_fixture(world):
    world.spawn(2, program=Toy)
    world.run_for(1.0)
    assert world.seed.value != 2, "two"

def test_unrelated():
    pass
"""


def run(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    pytester.makepyfile(test_theirs=THEIRS)
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    return pytester.runpytest_inprocess("-p", "sim.pytest_plugin", *options)


def test_seeds_are_chosen_on_the_command_line_and_a_failure_says_how_to_see_it_again(
    pytester: pytest.Pytester,
) -> None:
    result = run(pytester, "--sim-seeds", "3")
    result.assert_outcomes(passed=5, failed=2)
    result.stdout.fnmatch_lines([
        "replay: gossamer sim run test_theirs.py::story --seed 1",
        "replay: pytest test_theirs.py::test_fixture --sim-seed 2",
    ])  # fmt: skip


def test_without_options_a_story_runs_its_own_seeds(pytester: pytest.Pytester) -> None:
    run(pytester).assert_outcomes(passed=3)


def test_one_seed(pytester: pytest.Pytester) -> None:
    run(pytester, "--sim-seed", "5").assert_outcomes(passed=2, failed=1)
    assert run(pytester, "--sim-seeds", "0").ret != 0


NAMES = ["n1", "n2", "n3"]


@given(schedule=schedules(NAMES, 5.0))
def test_a_schedule_is_in_order_named_and_within_its_time(schedule: list[Planned]) -> None:
    assert [each.begin for each in schedule] == sorted(each.begin for each in schedule)
    assert len({each.name for each in schedule}) == len(schedule) <= 5
    assert all(each.begin <= 5 * 10**9 and each.kind in CLASSES for each in schedule)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(schedule=schedules(NAMES, 4.0, faults_max=3), seed=st.integers(0, 99))
def test_the_mesh_survives_any_schedule(schedule: list[Planned], seed: int) -> None:
    with World(seed) as world:
        world.spawn(3)
        nemesis = Nemesis(world, schedule)
        nemesis.run(5.0)
        nemesis.end()
        for each in world.nodes:
            each.node.counter("n").increment()
        world.run_until(lambda: {each.node.counter("n").value for each in world.nodes} == {3}, within=40.0)
        world.run_until(converged, within=10.0)


def test_a_failing_schedule_shrinks_to_the_fault_that_matters() -> None:
    def word_is_late(schedule: list[Planned]) -> bool:
        with World(1) as world:
            a, b = world.spawn(2, program=Toy)
            a.node.dial("10.0.0.2:7000")
            world.run_for(0.5)
            nemesis = Nemesis(world, schedule)
            nemesis.run(0.1)
            a.node.say(b"word")
            world.run_for(0.5)
            late = b"word" not in b.node.got
            nemesis.end()
            return late

    kinds = ("skew", "drift", "slow_disk", "partition")  # of which one alone can hold a word up
    smallest = find(
        schedules(["n1", "n2"], 1.0, kinds=kinds), word_is_late,
        settings=settings(max_examples=300, phases=[Phase.generate, Phase.shrink], derandomize=True),
    )  # fmt: skip
    (fault,) = smallest
    assert fault.kind == "partition" and fault.begin == 0


def test_wrong_schedules_are_refused() -> None:
    with pytest.raises(ValueError, match="no such faults"):
        schedules(NAMES, kinds=("rain",))
    with pytest.raises(ValueError, match="two nodes"):
        schedules(["n1"])
