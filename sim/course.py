"""Time as the tester spends it: let some pass, or until something holds, or until a coroutine ends."""

from __future__ import annotations

import ast
import asyncio
import inspect
import textwrap
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from sim.ambient import REPLACEMENTS, Ambient
from sim.errors import SimError
from sim.loop import SimLoop
from sim.machine import Process
from sim.plan import Demand, Plan
from transport.base import SECOND

if TYPE_CHECKING:
    from sim.node import SimNode

T = TypeVar("T")

RUN_WITHIN_S = 3600.0
LOOK_EVERY_NS = (10_000_000, 50_000_000)  # how often ``run_until`` asks its predicate: in the first second, and then


class NodeFailed(SimError):
    """A node raised what nobody handled; ``__cause__`` is what it raised. The world cannot go on."""


class NotReached(SimError, AssertionError):
    """What was demanded did not come true by its deadline."""


class Course:
    """The part of a ``World`` that lets time pass. Between two calls everything stands still."""

    loop: SimLoop
    plan: Plan
    _ambient: Ambient

    def __init__(self) -> None:
        self.waits: list[int] = []  # ns of each ``run_for``, in order, as the story asked for it
        self.stretched: dict[int, int] = {}  # ns of those waits that lasted longer than asked, by number
        self.demands: list[Demand] = []

    @property
    def now(self) -> float:
        """Seconds since the world began."""
        return self.loop.time()

    def run_for(self, seconds: float) -> None:
        """Let so much time pass."""
        self._drive(self.loop.now + self.wait(seconds), None)

    def run_to(self, when: int) -> None:
        """Let time pass until ``when``, in ns; not at all if that is past."""
        if when > self.loop.now:
            self._drive(when, None)

    def wait(self, seconds: float) -> int:
        """The ns that a wait of the story's lasts: as long as it says, unless a replay makes it shorter."""
        self.waits.append(round(seconds * 1e9))
        return self.plan.waits.get(len(self.waits) - 1, self.waits[-1])

    def run_until(self, predicate: Callable[..., object], within: float = 10.0) -> float:
        """Let time pass until ``predicate()`` (or ``predicate(world)``, if it takes one) is true; the seconds it took.

        It is asked every 10 ms of the world's time, after a second every 50 ms. Raises ``NotReached`` past ``within``;
        what the predicate's ``explain(world)`` says, if it has one, is told.
        """
        began, deadline = self.loop.now, self.loop.now + round(within * 1e9)
        name = _said(predicate)
        demand = Demand(name, began, within)
        self.demands.append(demand)
        takes = [each for each in inspect.signature(predicate).parameters.values() if each.default is each.empty]
        arguments = (self,) if takes and takes[0].kind is not takes[0].VAR_POSITIONAL else ()
        while not predicate(*arguments):
            if self.loop.now >= deadline:
                explain = getattr(predicate, "explain", None)
                demand.held = False
                raise NotReached(f"{name} did not hold within {within:g} s" + (f": {explain(self)}" if explain else ""))
            step = LOOK_EVERY_NS[self.loop.now - began >= SECOND]
            self._drive(min(deadline, self.loop.now + step), None)
        demand.held, demand.took = True, (self.loop.now - began) / 1e9
        return demand.took

    def run(self, coroutine: Coroutine[Any, Any, T], within: float = RUN_WITHIN_S) -> T:
        """Run a coroutine of the tester's own, on no node: its result, or ``NotReached`` past ``within``."""
        task = self.loop.create_task(coroutine)
        self._finish(task, within)
        return task.result()

    def run_in(self, node: SimNode, coroutine: Coroutine[Any, Any, T], within: float = RUN_WITHIN_S) -> T:
        """Run a coroutine as part of ``node``'s program: a crash stops it for good."""
        assert node.process is not None
        task = self.loop.create_task(coroutine, context=node.process.context.copy())
        self._finish(task, within)
        return task.result()

    def start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin a coroutine of the tester's own, on no node, and do not wait: what it raises fails the run."""
        return self._start(coroutine, None)

    def start_in(self, node: SimNode, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin a coroutine as part of ``node``'s program and do not wait: what it raises fails the run."""
        assert node.process is not None
        return self._start(coroutine, node.process)

    def _start(self, coroutine: Coroutine[Any, Any, None], process: Process | None) -> asyncio.Task[None]:
        context = None if process is None else process.context
        task = self.loop.create_task(coroutine, context=None if context is None else context.copy())

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (wrong := task.exception()) is not None:
                self.loop.failures.append((process, f"in {task.get_name()}", wrong))

        task.add_done_callback(ended, context=context)
        return task

    def _finish(self, task: asyncio.Task[Any], within: float) -> None:
        if not self._drive(self.loop.now + round(within * 1e9), task.done):
            task.cancel()
            raise NotReached(f"{task.get_name()} did not end within {within:g} s")

    def _drive(self, until: int, done: Callable[[], bool] | None) -> bool:
        with self.loop.entered():
            REPLACEMENTS.running = self._ambient
            try:
                reached = self.loop.drive(until, done)
            finally:
                REPLACEMENTS.running = None
        self._raise_failures()
        return reached

    def _raise_failures(self) -> None:
        if self.loop.failures:
            owner, text, wrong = self.loop.failures[0]
            if owner is None and isinstance(wrong, AssertionError):
                raise wrong  # an observer of the tester's own saw a law broken
            name = owner.name if isinstance(owner, Process) else "the test"
            said = "" if wrong is None else f": {type(wrong).__name__}: {wrong}"
            raise NodeFailed(f"{name} raised {text} at {self.now:.6f} s{said}") from wrong


def _said(predicate: Callable[..., object]) -> str:
    """What is demanded, in words: its name, or of a lambda what it says."""
    name = str(getattr(predicate, "name", None) or getattr(predicate, "__name__", repr(predicate)))
    if name != "<lambda>":
        return name.replace("_", " ").strip()
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(predicate)))
    except (OSError, SyntaxError, TypeError):  # no source, or a piece of it that does not stand alone
        return "a condition of the story"
    return next(ast.unparse(each.body) for each in ast.walk(tree) if isinstance(each, ast.Lambda))
