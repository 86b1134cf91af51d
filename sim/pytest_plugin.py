"""``pytest --sim-seeds N --sim-seed S``: how many seeds, and which, each simulated test is run for.

A ``@scenario`` whose name begins with ``test_`` is such a test, and so is any test that takes the ``world`` fixture. A
failure says how to see it again, in the report of the test and once more at the end.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from sim.world import World

REPLAY = pytest.StashKey[list[str]]()
SEED_MAX = (1 << 64) - 1


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("sim", "simulated worlds (gossamer)")
    group.addoption("--sim-seeds", type=_count, default=None, metavar="N", help="run each simulated test for N seeds")
    group.addoption("--sim-seed", type=_seed, default=None, metavar="S", help="the (first) seed")


def _count(text: str) -> int:
    if (count := int(text)) < 1:
        raise ValueError(f"at least one seed, not {count}")
    return count


def _seed(text: str) -> int:
    if not 0 <= (seed := int(text)) <= SEED_MAX:
        raise ValueError(f"a seed is 0 to 2**64-1, not {seed}")
    return seed


def pytest_configure(config: pytest.Config) -> None:
    config.stash[REPLAY] = []


def _asked(config: pytest.Config) -> range | None:
    count, first = config.getoption("--sim-seeds"), config.getoption("--sim-seed")
    if count is None and first is None:
        return None
    return range(first or 0, (first or 0) + (count or 1))


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    asked = _asked(metafunc.config)
    if "sim_seed" in metafunc.fixturenames:
        metafunc.parametrize("sim_seed", asked or range(1))
    elif asked is not None and hasattr(metafunc.function, "scenario"):
        own = metafunc.definition.own_markers
        own[:] = [mark for mark in own if not (mark.name == "parametrize" and mark.args[0] == "seed")]
        metafunc.parametrize("seed", asked)


@pytest.fixture
def world(sim_seed: int) -> Iterator[World]:
    """A world of the seed asked for (0 otherwise). Leaving it fails as leaving a ``with World()`` does."""
    from sim.world import World

    with World(sim_seed) as made:
        yield made


def _replay(item: pytest.Item) -> str | None:
    parameters: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    told = getattr(getattr(item, "function", None), "scenario", None)
    if told is not None and "seed" in parameters:
        return str(told.replay(parameters["seed"]))
    if "sim_seed" in parameters:
        seed = parameters["sim_seed"]
        here = Path(item.path)
        shown = here.relative_to(Path.cwd()) if here.is_relative_to(Path.cwd()) else here
        test = item.nodeid.partition("::")[2].replace(f"[{seed}]", "")
        return f"pytest {shown}::{test} --sim-seed {seed}"
    return None


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, None]:
    result = yield
    report = result.get_result()
    if report.failed and (line := _replay(item)) is not None:
        report.sections.append(("replay", line))
        if line not in item.config.stash[REPLAY]:
            item.config.stash[REPLAY].append(line)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if lines := config.stash[REPLAY]:
        terminalreporter.section("to see it again")
        for line in lines:
            terminalreporter.write_line(f"replay: {line}")
