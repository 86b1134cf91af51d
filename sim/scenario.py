"""A scenario: a story about some nodes, told for many seeds; a pytest test and a ``gossamer sim`` command alike."""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.util
import inspect
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sim.errors import SimError
from sim.plan import Broke, Plan
from sim.world import World

Story = Callable[[World], object]


class UnknownScenario(SimError):
    """There is no scenario of that name."""


@dataclass(frozen=True)
class Outcome:
    """What one seed came to. ``error`` is None when the story held."""

    name: str
    seed: int
    error: BaseException | None
    trace_hash: str
    seconds: float  # of the world's time
    stats: dict[str, Any]
    lines: list[str] = field(default_factory=list, repr=False)  # the trace, if it was kept
    world: World | None = field(default=None, repr=False)  # closed; what it recorded can be read
    broke: Broke | None = None

    def explain(self) -> str:
        """What broke, in one paragraph."""
        if self.error is None:
            return f"{self.name} held with seed {self.seed}"
        notes = "; ".join(each for each in getattr(self.error, "__notes__", ()) if not each.startswith("replay: "))
        return f"{self.name} broke: {type(self.error).__name__}: {self.error} ({notes})"

    def configuration(self) -> list[str]:
        """What the seed came to, a line each: nodes, network, and every fault with its time and how often it bit."""
        world = self.world
        assert world is not None
        lines = [f"{len(world.nodes)} nodes: {', '.join(each.name for each in world.nodes)}", *world.settings()]
        if world.operations:
            lines.append(f"{len(world.operations)} operations of clients, {world.operations[0]} first")
        lines += [
            f"{each.began / 1e9:8.3f} s to {'the end' if each.ended is None else f'{each.ended / 1e9:.3f} s'}  "
            f"{each.key} {each.text}: {'left out' if each.muted else f'bit {each.fired} times'}"
            for each in world.faults
        ]
        lines += [
            f"{each.began / 1e9:8.3f} s  demanded: {each.name} within {each.within:g} s: "
            + (f"held after {each.took:.3f} s" if each.held else "did not hold")
            for each in world.demands
        ]
        return lines

    def plan(self) -> Plan:
        """All of this run as values, ready to be made smaller."""
        world = self.world
        assert world is not None
        return Plan(
            scenario=world.plan.scenario,
            seed=self.seed,
            nodes=tuple(each.name for each in world.nodes),
            faults=tuple(world.planned) if world.planned else world.plan.faults,
            left_out=world.plan.left_out,
            operations=frozenset(world.operations) if world.operations else None,
            waits={**world.plan.waits, **world.stretched},
            broke=self.broke,
        )


def where(error: BaseException) -> str:
    """What failed, the same for the same failure in a smaller run: kinds of error, and the place in the source.

    The world's own errors are raised in one place for many reasons, so for them the story's line counts.
    """
    deep: BaseException = error
    while isinstance(deep, SimError) and deep.__cause__ is not None:
        deep = deep.__cause__
    kinds = type(error).__name__ if deep is error else f"{type(error).__name__} from {type(deep).__name__}"
    frames = list(traceback.extract_tb(deep.__traceback__))
    here = Path(__file__).parent
    if isinstance(deep, SimError):
        frames = [each for each in frames if Path(each.filename).parent != here] or frames
    if not frames:
        return kinds
    last = frames[-1]
    return f"{kinds} in {Path(last.filename).name}:{last.name}:{last.lineno}"


class Scenario:
    """``story`` told about ``nodes`` spawned nodes. Called with a seed it runs and raises, as pytest wants it."""

    def __init__(
        self,
        story: Story,
        nodes: int,
        seeds: Iterable[int],
        program: Callable[..., Any] | None,
        options: dict[str, Any],
    ) -> None:
        functools.update_wrapper(self, story)
        self.story, self.nodes, self.seeds = story, nodes, tuple(seeds)
        self.name = story.__name__.removeprefix("test_").replace("_", "-")
        self.module = story.__module__
        self.file = inspect.getsourcefile(story) or ""
        self._program, self._options = program, options

    @property
    def moral(self) -> str:
        """The first paragraph of its docstring, as one line."""
        return " ".join((self.story.__doc__ or "").strip().split("\n\n")[0].split())

    def replay(self, seed: int) -> str:
        """The command that runs this seed again."""
        return f"gossamer sim run {self.spelled} --seed {seed}"

    @property
    def spelled(self) -> str:
        """How ``find`` finds it from this directory."""
        if self.module.startswith("sim.scenarios."):
            return self.name
        file = Path(self.file)
        shown = file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
        return f"{shown}::{self.name}"

    def tell(self, seed: int, *, keep_trace: bool = False, plan: Plan | None = None, recorder: Any = None) -> Outcome:
        """Run it for one seed; an error is an outcome. ``plan`` tells only a part of it (its own seed is ignored)."""
        plan = replace(plan or Plan(), scenario=self.spelled, seed=seed)
        world = World(seed, program=self._program, keep_trace=keep_trace, plan=plan)
        if recorder is not None:
            recorder.attach(world)
        error: BaseException | None = None
        try:
            with world:
                if plan.nodes is not None and self.nodes:
                    world.spawn(names=plan.nodes, **self._options)
                elif self.nodes:
                    world.spawn(self.nodes, **self._options)
                self.story(world)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as wrong:  # noqa: BLE001 - whatever a story raises is its outcome
            wrong.add_note(f"replay: {self.replay(seed)}")
            error = wrong
        broke = None
        if error is not None:
            text = f"{type(error).__name__}: {error}"
            broke = Broke(where(error), text, world.now, world.trace_hash, world.seed.unseed())
        return Outcome(
            self.name, seed, error, world.trace_hash, world.now, world.stats, list(world.trace.lines()), world, broke
        )

    def __call__(self, seed: int) -> None:
        error = self.tell(seed).error
        if error is not None:
            raise error


def scenario(
    *, nodes: int = 0, seeds: Iterable[int] = range(3), program: Callable[..., Any] | None = None, **options: Any
) -> Callable[[Story], Any]:
    """Make a function of a ``World`` a scenario, and under pytest a test for each of ``seeds``.

    ``options`` are the nodes' keywords, ``program`` stands in for ``mesh.Node``; with ``nodes=0`` the story spawns.
    """

    def wrap(story: Story) -> Any:
        made = Scenario(story, nodes, seeds, program, options)
        if "pytest" not in sys.modules or not story.__name__.startswith("test_"):
            return made
        import pytest

        @pytest.mark.parametrize("seed", made.seeds)
        def test(seed: int) -> None:
            made(seed)

        test.__name__ = test.__qualname__ = story.__name__
        test.__doc__, test.__module__ = story.__doc__, story.__module__
        test.scenario = made  # type: ignore[attr-defined]
        return test

    return wrap


def _of(module: Any) -> list[Scenario]:
    found = [getattr(each, "scenario", each) for each in vars(module).values()]
    return [each for each in found if isinstance(each, Scenario) and each.module == module.__name__]


def shipped() -> dict[str, Scenario]:
    """The scenarios that come along, by name."""
    package = importlib.import_module("sim.scenarios")
    found: dict[str, Scenario] = {}
    for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda each: each.name):
        for each in _of(importlib.import_module(f"sim.scenarios.{info.name}")):
            if (other := found.setdefault(each.name, each)) is not each:
                raise SimError(f"two stories are called {each.name}: one in {other.module}, one in {each.module}")
    return found


def find(name: str) -> Scenario:
    """The scenario called ``name``, or ``FILE.py::NAME``, or the only one in ``FILE.py``. Else ``UnknownScenario``."""
    file, _, wanted = name.partition("::")
    if not file.endswith(".py"):
        known = shipped()
        if name not in known:
            near = difflib.get_close_matches(name, known, 3, 0.5)
            meant = f"; did you mean {' or '.join(near)}?" if near else ";"
            raise UnknownScenario(
                f"no scenario is called {name}{meant} `gossamer sim list` shows all, FILE.py::NAME is yours"
            )
        return known[name]
    path = Path(file)
    if not path.is_file():
        raise UnknownScenario(f"there is no file {file}")
    spec = importlib.util.spec_from_file_location(f"scenario_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as wrong:
        del sys.modules[spec.name]
        at = next(
            (
                each.lineno
                for each in reversed(traceback.extract_tb(wrong.__traceback__))
                if Path(each.filename).name == path.name
            ),
            None,
        )
        line = "" if at is None else f", line {at}"
        raise UnknownScenario(f"{file} cannot be loaded{line}: {type(wrong).__name__}: {wrong}") from wrong
    found = {each.name: each for each in _of(module)}
    if wanted:
        wanted = wanted.removeprefix("test_").replace("_", "-")
    elif len(found) == 1:
        (wanted,) = found
    has = ", ".join(sorted(found))
    if wanted not in found:
        raise UnknownScenario(
            f"{file} has no scenario {wanted}; it has {has}"
            if wanted and found
            else f"{file} has {has}: say which, as {file}::NAME"
            if found
            else f"{file} has no function with @scenario"
        )
    return found[wanted]
