"""A world: machines, a network, disks and clocks that obey one seed, and faults that prove they bit.

Used from plain, synchronous code: ``run_for`` and ``run_until`` let time pass, in between everything stands still and
nodes may be looked at and written to. Leaving the world fails when a node raised what nobody handled, and when a fault
that was asked for never fired.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol

from sim.ambient import REPLACEMENTS, Ambient
from sim.course import Course, NodeFailed, NotReached
from sim.errors import SimError
from sim.faults import Latency
from sim.loop import SimLoop
from sim.machine import Machine
from sim.network import Network
from sim.node import Factory, SimNode
from sim.plan import Plan
from sim.seed import Seed
from sim.suite import Memory, StandIn
from sim.trace import Trace
from sim.trouble import NeverFired, Trouble
from transport.base import Env

if TYPE_CHECKING:
    from transport.identity import Suite

LAN_LEAST_S = 0.0002
LAN_MEAN_S = 0.0006
START_WITHIN_S = 60.0
DATA = "data"

__all__ = ["NeverFired", "NodeFailed", "NotReached", "Program", "World"]


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


class World(Course, Trouble):
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
        Course.__init__(self)
        Trouble.__init__(self)
        self.seed = Seed(seed)
        self.plan = plan or Plan()
        self.loop = SimLoop(self.seed.stream("sched") if order == "random" else None)
        self.trace = Trace(keep_trace)
        self.suite: Suite = StandIn(self.seed) if signatures == "stand-in" else Memory()
        base = Latency(round(latency[0] * 1e9), round(latency[1] * 1e9), 0, 0.0, None)
        self.network = Network(self.loop, self.seed, self.trace, base)
        self.source = self.seed.source("world")
        self.nodes: list[SimNode] = []
        self.forgetful: set[str] = set()  # names of nodes whose disk was lost, lied or rotted
        self.bridged: dict[tuple[str, object], int] = {}  # how far those folded what they had, by space and log
        self.operations: list[str] = []  # the clients' operations that were carried out, by name
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

    # -- what happened ---------------------------------------------------------------------------------------------

    def operation(self, name: str) -> bool:
        """Whether a client may carry out its operation of this name: always, unless a replay leaves it out."""
        if not self.plan.wants(name):
            return False
        self.operations.append(name)
        return True

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
                self._demand_fired()
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
