"""A world: machines, a network, disks and clocks that obey one seed, and faults that prove they bit.

Used from plain, synchronous code: ``run_for`` and ``run_until`` let time pass, in between everything stands still and
nodes may be looked at and written to. Leaving the world fails when a node raised what nobody handled, and when a fault
that was asked for never fired.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from sim.ambient import REPLACEMENTS, Ambient
from sim.errors import SimError
from sim.faults import Bandwidth, Clog, Cut, Fault, Latency, Loss, OneWay, Rule
from sim.loop import SimLoop
from sim.machine import Machine, Process
from sim.network import Network
from sim.node import Factory, SimNode
from sim.plan import Demand, Plan, Planned
from sim.seed import Seed
from sim.suite import Memory, StandIn
from sim.trace import Trace
from transport.base import SECOND, Env

if TYPE_CHECKING:
    from transport.identity import Suite

T = TypeVar("T")
F = TypeVar("F", bound=Fault)

LAN_LEAST_S = 0.0002
LAN_MEAN_S = 0.0006
START_WITHIN_S = 60.0
RUN_WITHIN_S = 3600.0
LOOK_EVERY_NS = (10_000_000, 50_000_000)  # how often ``run_until`` asks its predicate: in the first second, and then
DATA = "data"


class NodeFailed(SimError):
    """A node raised what nobody handled; ``__cause__`` is what it raised. The world cannot go on."""


class NeverFired(SimError):
    """A fault was asked for and never bit, so the run proved nothing about it."""


class NotReached(SimError, AssertionError):
    """What was demanded did not come true by its deadline."""


class Program(Protocol):
    """What runs on a simulated machine: ``mesh.Node``, or your own."""

    async def start(self) -> object: ...

    async def stop(self) -> object: ...


def _mesh_node(name: str, *, env: Env, data: str | None, **options: Any) -> Any:
    """The real node, unchanged. Unless told otherwise all nodes of a world share a secret."""
    from mesh import Node  # late: ``sim`` is imported by programs that have no mesh in them

    if "secret" not in options and "open" not in options:
        options["secret"] = "the secret of a world"
    return Node(name, env=env, data=data, **options)


class World:
    """``seed`` decides everything. ``order="fifo"`` steps tasks in order, for debugging; ``signatures="ed25519"`` uses
    real ones; ``program`` stands in for ``mesh.Node``; ``latency`` (least, mean) in seconds is the network's own."""

    def __init__(
        self,
        seed: int = 0,
        *,
        order: Literal["random", "fifo"] = "random",
        signatures: Literal["stand-in", "ed25519"] = "stand-in",
        latency: tuple[float, float] = (LAN_LEAST_S, LAN_MEAN_S),
        program: Factory | None = None,
        keep_trace: bool = False,
        plan: Plan | None = None,
    ) -> None:
        self.seed = Seed(seed)
        self.plan = plan or Plan()
        self.loop = SimLoop(self.seed.stream("sched") if order == "random" else None)
        self.trace = Trace(keep_trace)
        self.suite: Suite = StandIn(self.seed) if signatures == "stand-in" else Memory()
        base = Latency(round(latency[0] * 1e9), round(latency[1] * 1e9), 0, 0.0, None)
        self.network = Network(self.loop, self.seed, self.trace, base)
        self.source = self.seed.source("world")
        self.nodes: list[SimNode] = []
        self.faults: list[Fault] = []
        self.forgetful: set[str] = set()  # names of nodes whose disk was lost, lied or rotted
        self.operations: list[str] = []  # the clients' operations that were carried out, by name
        self.waits: list[int] = []  # ns of each ``run_for``, in order, as the story asked for it
        self.demands: list[Demand] = []
        self.planned: list[Planned] = []  # the faults that were drawn from the seed
        self._naming = ""
        self.on_boot: Callable[[SimNode], None] = lambda node: None  # a recorder's, both
        self.on_end: Callable[[], None] = lambda: None
        self._counts: dict[str, int] = {}
        self._factory: Factory = program or _mesh_node
        self._settings = [
            f"tasks in {order} order; signatures: {signatures}",
            f"latency {latency[0] * 1e3:g} ms and an exponential draw of {latency[1] * 1e3:g} ms more",
        ]
        self._ambient = Ambient(self.loop, self.seed)
        self._closed = False
        REPLACEMENTS.acquire()

    # -- time ------------------------------------------------------------------------------------------------------

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
        name = getattr(predicate, "name", None) or getattr(predicate, "__qualname__", repr(predicate))
        demand = Demand(str(name), began, within)
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
            name = owner.name if isinstance(owner, Process) else "the test"
            said = "" if wrong is None else f": {type(wrong).__name__}: {wrong}"
            raise NodeFailed(f"{name} raised {text} at {self.now:.6f} s{said}") from wrong

    # -- nodes -----------------------------------------------------------------------------------------------------

    def spawn(
        self,
        count: int = 1,
        *,
        names: Sequence[str] | None = None,
        program: Factory | None = None,
        data: str | None = DATA,
        **options: Any,
    ) -> list[SimNode]:
        """``count`` more machines, each with a disk and a started node; ``options`` are the node's keywords."""
        first = len(self.nodes) + 1
        chosen = list(names) if names is not None else [f"n{number}" for number in range(first, first + count)]
        made = []
        for name in chosen:
            if any(each.name == name for each in self.nodes):
                raise ValueError(f"there is a node called {name} already")
            number = len(self.nodes) + 1
            machine = Machine(name, f"10.0.{number >> 8}.{number & 255}", self.loop, self.seed)
            machine.disk.on_commit = lambda directory, text, name=name: self.note(f"{directory} {text}", name)  # type: ignore[misc]
            self.network.machines[machine.address] = machine
            node = SimNode(self, machine, program or self._factory, data, dict(options))
            self.nodes.append(node)
            made.append(node)
        self.launch(made)
        return made

    def named(self, name: str) -> SimNode:
        """The node called so."""
        return next(each for each in self.nodes if each.name == name)

    def launch(self, nodes: Sequence[SimNode]) -> None:
        """Boot these and let time pass until all are started; inside a running coroutine only begin to."""
        tasks = []
        for node in nodes:
            coroutine = node.boot()
            assert node.process is not None
            tasks.append((node, self.loop.create_task(coroutine, context=node.process.context.copy())))
        if self.loop.is_running():
            return  # a failed start is an unhandled error of its node
        for node, task in tasks:
            if not self._drive(self.loop.now + round(START_WITHIN_S * 1e9), task.done):
                raise NotReached(f"{node.name} did not start within {START_WITHIN_S:g} s")
            if not task.cancelled() and task.exception() is not None:
                node.exit()
            task.result()

    # -- faults ----------------------------------------------------------------------------------------------------

    def fault(self, kind: str, text: str) -> Fault:
        """Register a fault of this kind: it has to fire before the world ends."""
        fault = Fault(text)
        fault.kind = kind
        return self._register(fault)

    def _register(self, fault: F) -> F:
        same = sum(each.kind == fault.kind for each in self.faults)
        fault.key = self._naming or (fault.kind if same == 0 else f"{fault.kind}#{same + 1}")
        fault.began = self.loop.now
        fault.on_end = lambda: setattr(fault, "ended", self.loop.now)
        if fault.key in self.plan.left_out:
            fault.muted, fault.asked, fault.active, fault.ended = True, False, False, fault.began
        self.faults.append(fault)
        return fault

    def _rule(self, rule: Rule) -> Rule:
        self._register(rule)
        if rule.muted:
            return rule
        self.network.add(rule)

        def undo() -> None:
            self.note(f"end {rule.key}")
            self.network.drop(rule)

        rule.undo_with(undo)
        self.note(f"begin {rule.key} {rule.text}")
        return rule

    @contextmanager
    def naming(self, name: str) -> Iterator[None]:
        """Faults that begin in here are called ``name``, so that leaving others out changes neither name nor draws."""
        before, self._naming = self._naming, name
        try:
            yield
        finally:
            self._naming = before

    def operation(self, name: str) -> bool:
        """Whether a client may carry out its operation of this name: always, unless a replay leaves it out."""
        if not self.plan.wants(name):
            return False
        self.operations.append(name)
        return True

    def partition(self, *groups: Iterable[SimNode | str]) -> Rule:
        """Cut the groups off from one another (one group: from everybody else), until removed."""
        sides = [_names(group) for group in groups]
        if len(sides) == 1:
            sides.append([each.name for each in self.nodes if each.name not in sides[0]])
        pairs = {(a, b) for one in sides for other in sides if one is not other for a in one for b in other}
        return self._rule(Cut("|".join(",".join(side) for side in sides), pairs))

    def one_way(self, sender: Any, receiver: Any) -> Rule:
        """Nothing from ``sender`` reaches ``receiver``."""
        senders, receivers = _names(sender), _names(receiver)
        pairs = {(a, b) for a in senders for b in receivers}
        return self._rule(OneWay(f"{','.join(senders)}>{','.join(receivers)}", pairs))

    def clog(self, sender: Any, receiver: Any) -> Rule:
        """What ``sender`` says to ``receiver`` queues up, and arrives in a burst when this is removed."""
        senders, receivers = _names(sender), _names(receiver)
        pairs = {(a, b) for a in senders for b in receivers}
        return self._rule(Clog(f"{','.join(senders)}>{','.join(receivers)}", pairs))

    def loss(self, probability: float, *, between: tuple[Any, Any] | None = None) -> Rule:
        """Lose packets with this probability, between two (groups of) nodes or everywhere."""
        return self._rule(Loss(probability, _both_ways(between)))

    def latency(
        self,
        mean: float = 0.05,
        *,
        least: float = 0.0,
        tail: float = 0.0,
        tail_chance: float = 0.01,
        between: tuple[Any, Any] | None = None,
    ) -> Rule:
        """Delay packets by ``least`` plus an exponential draw of ``mean``, sometimes plus one of ``tail``; seconds."""
        rule = Latency(
            round(least * 1e9), round(mean * 1e9), round(tail * 1e9), tail_chance if tail else 0.0, _both_ways(between)
        )  # fmt: skip
        return self._rule(rule)

    def bandwidth(self, bytes_per_s: int, *, between: tuple[Any, Any] | None = None) -> Rule:
        """Carry at most so many bytes a second on each directed link."""
        return self._rule(Bandwidth(bytes_per_s, _both_ways(between)))

    # -- what happened ---------------------------------------------------------------------------------------------

    def note(self, text: str, source: str = "world") -> None:
        """Add a line to the trace."""
        self.trace.record(self.loop.now, source, text)

    def count(self, what: str, by: int = 1) -> None:
        """Count something that happened."""
        if by:
            self._counts[what] = self._counts.get(what, 0) + by

    @property
    def trace_hash(self) -> str:
        """One hash of everything that happened so far: messages, disk, faults, lives."""
        return self.trace.digest()

    def settings(self) -> list[str]:
        """What it was made with, in words."""
        return list(self._settings)

    @property
    def stats(self) -> dict[str, Any]:
        """What became of frames and datagrams, how often each fault fired, what befell machines and disks."""
        return {
            "seconds": self.now,
            "steps": self.loop.steps,
            "frames": dict(self.network.frames),
            "datagrams": dict(self.network.datagrams),
            "faults": {fault.key: fault.fired for fault in self.faults if not fault.muted},
            "disks": {each.name: each.machine.disk.commits for each in self.nodes},
            "machines": dict(sorted(self._counts.items())),
        }

    # -- beginning and end -----------------------------------------------------------------------------------------

    def __enter__(self) -> World:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._raise_failures()
                for task, wrong in self.loop.unretrieved():
                    raise NodeFailed(f"{task.get_name()} failed, and nobody looked: {wrong!r}") from wrong
                idle = [fault for fault in self.faults if fault.asked and not fault.fired]
                if idle:
                    raise NeverFired(f"asked for and never fired: {', '.join(map(repr, idle))}")
        except SimError as wrong:
            wrong.add_note(self._where())
            raise
        finally:
            if error is not None:
                error.add_note(self._where())
            self.close()

    def _where(self) -> str:
        active = ", ".join(f"{fault.key} {fault.text}" for fault in self.faults if fault.active)
        return f"seed {self.seed.value}, {self.now:.6f} s into the world" + (f", under {active}" if active else "")

    def close(self) -> None:
        """End everything without a word; a world whose end proves nothing. ``with`` does more."""
        if self._closed:
            return
        self._closed = True
        self.on_end()
        for node in self.nodes:
            if node.process is not None and node.process.alive:
                with suppress(ValueError):
                    node.process.end()
        self.loop.close()
        REPLACEMENTS.release()


def _names(who: Any) -> list[str]:
    """The names of one node or of several, also of some that are not born yet."""
    if isinstance(who, SimNode | str):
        who = (who,)
    return [each.name if isinstance(each, SimNode) else each for each in who]


def _both_ways(between: tuple[Any, Any] | None) -> set[tuple[str, str]] | None:
    if between is None:
        return None
    one, other = _names(between[0]), _names(between[1])
    return {pair for a in one for b in other for pair in ((a, b), (b, a))}
