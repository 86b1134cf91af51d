"""Make a failing run small: fewer faults, fewer nodes, fewer operations, less time, and the same failure at the end.

Delta debugging (Zeller, Hildebrandt 2002, algorithm ddmin) on each part in turn, again until nothing more goes. A
smaller run counts only if it fails in the same way at the same place of the source. Everything draws from a stream of
its own, so what is left stays as it was: this finds small runs where a seed alone would give another story.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from sim.plan import Broke, Plan, Planned
from sim.scenario import Outcome, Scenario

T = TypeVar("T")

RUNS_MAX = 400  # tries, all parts together; a guess: half a minute to two of a story of five nodes
SHORTEST_NS = 100_000_000  # a wait is not made shorter than that


@dataclass(frozen=True, slots=True)
class Size:
    """What a run is made of."""

    faults: int
    nodes: int
    operations: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.faults} faults, {self.nodes} nodes, {self.operations} operations, {self.seconds:.1f} s"


@dataclass(frozen=True, slots=True)
class Shrunk:
    """The smaller run, and from what and after how many tries."""

    plan: Plan
    before: Size
    after: Size
    runs: int


class Holds(Exception):
    """The run does not break, so there is nothing to shrink."""


class Shrinker:
    """One failing run of ``told``, made smaller by ``run``. ``on_try(runs, size)`` is told of each try."""

    def __init__(
        self, told: Scenario, plan: Plan, *, runs_max: int = RUNS_MAX, on_try: Callable[[int, Size], None] | None = None
    ) -> None:
        self._told, self._first, self._runs_max, self._on_try = told, plan, runs_max, on_try
        self.runs = 0
        self._best: Outcome
        self._plan: Plan
        self._wanted: Broke

    def run(self) -> Shrunk:
        """Raises ``Holds`` when the run does not break in the first place."""
        outcome = self._tell(self._first)
        if outcome.broke is None:
            raise Holds(f"{self._told.name} holds with seed {self._first.seed}: there is nothing to shrink")
        self._wanted, self._best = outcome.broke, outcome
        self._plan = replace(outcome.plan(), broke=outcome.broke)
        before = self._size()
        while True:
            at = self._plan
            self._shrink_waits()
            self._shrink_faults()
            self._shrink_operations()
            self._shrink_nodes()
            self._shrink_lengths()
            if self._plan == at or self.runs >= self._runs_max:
                return Shrunk(self._plan, before, self._size(), self.runs)

    # -- one try ---------------------------------------------------------------------------------------------------

    def _tell(self, plan: Plan) -> Outcome:
        self.runs += 1
        return self._told.tell(plan.seed, plan=plan)

    def _try(self, plan: Plan) -> bool:
        """Keep it if it fails alike."""
        if self.runs >= self._runs_max:
            return False
        outcome = self._tell(plan)
        alike = outcome.broke is not None and outcome.broke.where == self._wanted.where
        if alike:
            self._plan, self._best = replace(plan, broke=outcome.broke), outcome
        if self._on_try is not None:
            self._on_try(self.runs, self._size())
        return alike

    def _size(self) -> Size:
        world = self._best.world
        assert world is not None
        faults = {each.key for each in world.faults if not each.muted}
        return Size(len(faults), len(world.nodes), len(world.operations), self._best.seconds)

    def _least(self, items: Sequence[T], attempt: Callable[[Sequence[T]], bool]) -> None:
        """ddmin: ``attempt`` fewer and fewer of ``items``, as long as it says that they still fail."""
        kept, parts = list(items), 2
        if kept and attempt([]):
            return
        while len(kept) >= 2:
            size = -(-len(kept) // parts)
            for start in range(0, len(kept), size):
                fewer = kept[:start] + kept[start + size :]
                if attempt(fewer):
                    kept, parts = fewer, max(parts - 1, 2)
                    break
            else:
                if size == 1:
                    return
                parts = min(len(kept), parts * 2)
            if self.runs >= self._runs_max:
                return

    # -- the parts -------------------------------------------------------------------------------------------------

    def _shrink_faults(self) -> None:
        if self._plan.faults:
            self._least(self._plan.faults, lambda fewer: self._try(replace(self._plan, faults=tuple(fewer))))
        world = self._best.world
        assert world is not None
        planned = {each.name for each in self._plan.faults or ()}
        own = [each.key for each in world.faults if not each.muted and each.key not in planned]
        left_out = self._plan.left_out

        def without(fewer: Sequence[str]) -> bool:
            return self._try(replace(self._plan, left_out=left_out | (set(own) - set(fewer))))

        self._least(own, without)

    def _shrink_operations(self) -> None:
        world = self._best.world
        assert world is not None
        if world.operations:
            self._least(world.operations, lambda fewer: self._try(replace(self._plan, operations=frozenset(fewer))))

    def _shrink_nodes(self) -> None:
        if not self._told.nodes:
            return  # the story spawns them itself
        for name in reversed(self._plan.nodes or ()):
            rest = tuple(each for each in self._plan.nodes or () if each != name)
            if len(rest) < 1:
                return
            faults = self._plan.faults
            if faults is not None:
                faults = tuple(less for each in faults if (less := _without(each, name)) is not None)
            self._try(replace(self._plan, nodes=rest, faults=faults))

    def _shrink_waits(self) -> None:
        world = self._best.world
        assert world is not None
        for number, asked in enumerate(world.waits):
            lasts = self._plan.waits.get(number, asked)
            while lasts > SHORTEST_NS and self._try(
                replace(self._plan, waits={**self._plan.waits, number: max(SHORTEST_NS, lasts // 2)})
            ):
                lasts = self._plan.waits[number]

    def _shrink_lengths(self) -> None:
        for number, each in enumerate(self._plan.faults or ()):
            if each.length > SHORTEST_NS:
                faults = list(self._plan.faults or ())
                faults[number] = replace(each, length=each.length // 2)
                self._try(replace(self._plan, faults=tuple(faults)))


def _without(planned: Planned, node: str) -> Planned | None:
    """The fault in a world that lacks this node; None if nothing is left of it."""
    if node in planned.parameters:
        return None
    parameters = tuple(
        [name for name in each if name != node] if isinstance(each, list) else each for each in planned.parameters
    )
    if any(each == [] for each in parameters):
        return None
    return replace(planned, parameters=parameters)
