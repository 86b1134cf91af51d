"""Scenarios are tests and commands alike; a failure says what broke, with which seed, and how to see it again."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from sim import World, scenario
from sim.cli import group
from sim.determinism import check
from sim.errors import SimError
from sim.scenario import UnknownScenario, find, shipped
from sim.scenarios import retired
from sim.swarm import is_checked, swarm
from tests.sim.stories import breaks_sometimes, holds
from tests.sim.toy import Toy

STORIES = str(Path(__file__).with_name("stories.py"))


@scenario(nodes=2, seeds=range(2), program=Toy)
def test_a_scenario_is_a_test_for_each_of_its_seeds(world: World) -> None:
    """The scout finds both."""
    world.run_until(lambda: all(each.node.hints for each in world.nodes))
    assert world.seed.value in (0, 1)


def test_a_seed_holds_or_breaks_and_says_how_to_replay() -> None:
    assert holds.tell(1).error is None
    broken = [seed for seed in breaks_sometimes.seeds if breaks_sometimes.tell(seed).error]
    assert 0 < len(broken) < len(breaks_sometimes.seeds)
    outcome = breaks_sometimes.tell(broken[0])
    assert "too slow" in outcome.explain() and f"seed {broken[0]}" in outcome.explain()
    with pytest.raises(AssertionError) as caught:
        breaks_sometimes(broken[0])
    assert f"breaks-sometimes --seed {broken[0]}" in caught.value.__notes__[-1]
    assert breaks_sometimes.tell(broken[0]).trace_hash == outcome.trace_hash


def test_a_swarm_tells_which_seeds_broke_alike_on_any_number_of_processes() -> None:
    name = f"{STORIES}::breaks-sometimes"
    alone = list(swarm(name, range(24)))
    assert [each.seed for each in alone] == list(range(24))
    assert list(swarm(name, range(24), jobs=2)) == alone


def test_a_story_that_obeys_its_seed_is_one_trace() -> None:
    compared = check(f"{STORIES}::holds", 5)
    assert compared.equal and compared.trace_hash == holds.tell(5).trace_hash and compared.events > 10


LEAKS = (
    "set-order", "identity-order", "uuid4", "wall-time", "chance", "now", "key", "thread", "completed", "module-global",
)  # fmt: skip


@pytest.mark.parametrize("leak", LEAKS)
def test_a_leak_is_found_at_its_first_event(leak: str) -> None:
    """Ten ways not to obey a seed: each is flagged, with the file and line of what it made different."""
    compared = check(f"{Path(__file__).with_name('leaks.py')}::{leak}", 0)
    assert not compared.equal
    if leak == "thread":
        assert "it left the world" in compared.difference and "a world has one thread" in compared.difference
        return
    assert "send n1>n2" in compared.difference and "one:" in compared.difference
    assert re.search(r"by toy\.py:\d+ in say < leaks\.py:\d+ in \w+", compared.difference), compared.difference


def test_a_swarm_tells_some_of_its_seeds_twice() -> None:
    """The choice is the seed's, about one in twenty; a seed that is not one trace counts as broken."""
    assert 25 < sum(is_checked(seed) for seed in range(1000)) < 80
    name = f"{Path(__file__).with_name('leaks.py')}::now"
    (result,) = swarm(name, [3], share=1.0)
    assert result.checked and "is not one trace" in result.broke and "check-determinism" in result.replay
    (held,) = swarm(f"{STORIES}::holds", [3], share=1.0)
    assert held.checked and not held.broke


def test_two_stories_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second ``long-offline-writer`` stood in for the first for hours, and nobody told the first."""

    def churn(world: World) -> None:
        """Another one of that name."""

    churn.__module__ = retired.__name__
    monkeypatch.setattr(retired, "churn", scenario()(churn), raising=False)
    with pytest.raises(SimError, match=r"called churn: one in \S+restarts, one in \S+retired$"):
        shipped()


def test_the_command_line_runs_lists_and_replays() -> None:
    runner = CliRunner()
    held = runner.invoke(group, ["run", f"{STORIES}::holds", "--seed", "3"])
    assert held.exit_code == 0 and "it held" in held.output and "partition" in held.output
    broken = next(seed for seed in breaks_sometimes.seeds if breaks_sometimes.tell(seed).error)
    fails = runner.invoke(group, ["run", f"{STORIES}::breaks_sometimes", "--seed", str(broken)])
    assert fails.exit_code == 1 and "too slow" in fails.output and f"--seed {broken}" in fails.output
    report = json.loads(runner.invoke(group, ["run", f"{STORIES}::holds", "--json"]).output)
    assert report["held"] and report["stats"]["faults"]["partition"] > 0
    assert runner.invoke(group, ["run", "no-such-story"]).exit_code == 2
    many = runner.invoke(group, ["swarm", f"{STORIES}::breaks-sometimes", "--seeds", "20", "--jobs", "1"])
    assert many.exit_code == 1 and "replay:" in many.output
    assert runner.invoke(group, ["list"]).exit_code == 0


def test_names_are_found_or_the_error_says_what_there_is() -> None:
    assert find(f"{STORIES}::test_holds").name == "holds"
    with pytest.raises(UnknownScenario, match="holds"):
        find(f"{STORIES}::nothing")
    with pytest.raises(UnknownScenario):
        find("missing.py")
    assert all(each.moral for each in shipped().values())


def test_a_swarm_on_the_command_line_stops_or_collects_and_speaks_json() -> None:
    runner, name = CliRunner(), f"{STORIES}::breaks-sometimes"
    broken = [seed for seed in range(20) if breaks_sometimes.tell(seed).error]
    options = ["--seeds", "20", "--jobs", "2", "--check", "0"]
    first = runner.invoke(group, ["swarm", name, *options])
    assert first.exit_code == 1 and f"--seed {broken[0]}" in first.output and "1 broke" in first.output
    collected = runner.invoke(group, ["swarm", name, *options, "--keep-going", "--json"])
    assert collected.exit_code == 1
    told = json.loads(collected.stdout)
    assert [each["seed"] for each in told["broken"]] == broken and told["seeds"] == 20
    assert len({each["where"] for each in told["broken"]}) == 1
    held = runner.invoke(group, ["swarm", f"{STORIES}::holds", "--seeds", "3", "--jobs", "1", "--check", "0"])
    assert held.exit_code == 0 and "3 seeds" in held.output and "0 broke" in held.output
