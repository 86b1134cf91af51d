"""A computer of the world: an address, a clock, a disk, power; and the process that runs on it."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any, TypeVarTuple

from sim.clock import WallClock
from sim.loop import SimLoop
from sim.occurrence import OWNER, Occurrence
from sim.seed import Seed, Source
from sim.storage import Disk

if TYPE_CHECKING:
    from sim.dial import Door
    from sim.stream import SimConduit

Ts = TypeVarTuple("Ts")

FIRST_FREE_PORT = 49_152


class Machine:
    """What stays when its process dies. ``address`` is its only interface beside loopback."""

    def __init__(self, name: str, address: str, loop: SimLoop, seed: Seed) -> None:
        self.name = name
        self.address = address
        self.loop = loop
        self.seed = seed
        self.clock = WallClock()
        self.disk = Disk(seed.stream(f"disk/{name}"))
        self.powered = True
        self.epoch = 0  # processes started so far
        self.process: Process | None = None
        self.doors: dict[int, Door] = {}
        self.slowness: Callable[[Random], int] = lambda rng: 0  # ns that each offloaded work takes longer
        self._next_port = FIRST_FREE_PORT

    def boot(self) -> Process:
        """Start a process (the one before must be dead)."""
        if self.process is not None and self.process.alive:
            raise ValueError(f"{self.name} already runs")
        self.powered = True
        self.epoch += 1
        self.process = Process(self)
        return self.process

    def free_port(self) -> int:
        self._next_port += 1
        return self._next_port - 1

    def __repr__(self) -> str:
        return f"Machine({self.name} {self.address})"


class Process:
    """One life of a program. When it ends nothing of it is ever stepped again, and nothing of it is finalized."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.name = f"{machine.name}/{machine.epoch}"
        self.loop = machine.loop
        self.alive = self.running = True
        self.held: list[Any] | None = None  # while paused: what is due and does not happen
        self.missed = 0  # how much was held in all
        self._stops = 0  # pauses that overlap: it goes on when the last one ends
        self.source: Source = machine.seed.source(self.name)
        self.ambient = self.stream("ambient")  # what ``random`` and its kin draw from in this process
        self.context = contextvars.copy_context()
        self.context.run(OWNER.set, self)
        self.conduits: dict[SimConduit, None] = {}
        self.offloaded: dict[Occurrence, Callable[[], object]] = {}  # work in flight: the power may go meanwhile

    def stream(self, name: str) -> Random:
        """A stream of this life: another one draws anew, so that it never repeats its predecessor's entropy."""
        return self.machine.seed.stream(f"node/{self.name}/{name}")

    def at(self, when: int, callback: Callable[[], object]) -> Occurrence:
        """Let ``callback`` happen to this process at ``when``: late if paused, never once it is dead."""
        return self.loop.at(when, callback, self.source, self, self.context)

    def soon(self, callback: Callable[[], object]) -> Occurrence:
        """Let ``callback`` happen to this process now, after what is going on."""
        return self.loop.soon(callback, self, self.context)

    def call(self, callback: Callable[[*Ts], object], *args: *Ts) -> None:
        """It happens to this process, before this returns: late if paused, never once it is dead."""
        self.loop.happen(self, self.context, callback, args)

    def pause(self) -> None:
        """Stop in mid-step (a garbage collection, SIGSTOP): its machine's kernel goes on."""
        self._stops += 1
        if self.held is None:
            self.held, self.running = [], False

    def resume(self) -> None:
        """One pause is over: after the last one what was due happens now, in a burst."""
        self._stops -= 1
        if self.held is not None and self.alive and not self._stops:
            held, self.held, self.running = self.held, None, True
            self.missed += len(held)
            self.loop.resume(held)

    def end(self) -> None:
        """Never step it again. Its tasks, timers and objects stay referenced until the world ends."""
        self.alive = self.running = False
        self.loop.graveyard += [self.held, dict(self.offloaded), *self.loop.tasks_of(self)]
        self.held = None
        self.offloaded.clear()

    def __repr__(self) -> str:
        return f"Process({self.name})"
