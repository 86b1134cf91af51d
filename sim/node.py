"""A machine of the world and the program on it: what can be done to one node."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Literal

from sim.env import SimEnv, settle_disk
from sim.faults import Fault, Latest
from sim.machine import Machine, Process
from sim.seed import chance, exponential
from sim.storage import Fate

if TYPE_CHECKING:
    from sim.world import World

Factory = Callable[..., Any]  # (name, *, env, data, **options) -> Program
Disks = Literal["drawn", "kept", "lost", "torn", "wiped", "replaced"]
POWER_CUT = (Fate.LOST, Fate.LOST, Fate.KEPT, Fate.KEPT, Fate.TORN)
KILLED = (Fate.LOST, Fate.KEPT)


class SimNode:
    """A machine of the world and the program on it. ``node`` is the live program object, a new one after a restart."""

    def __init__(
        self, world: World, machine: Machine, factory: Factory, data: str | None, options: dict[str, Any]
    ) -> None:
        self._world = world
        self._factory = factory
        self._data = data
        self._options = options
        self.machine = machine
        self.name = machine.name
        self.node: Any = None
        self._env: SimEnv
        loop, clock = world.loop, machine.clock
        self._skews = Latest(lambda offset: setattr(clock, "offset", offset), 0)
        self._drifts = Latest(lambda ppm: clock.drift(ppm, loop.now), 0)
        self._slowness = Latest(lambda delay: setattr(machine, "slowness", delay), lambda rng: 0)
        self._refusals = Latest(lambda refusal: setattr(machine.disk, "refusal", refusal), lambda: None)
        self._down: Fault | None = None  # what ended it, until it runs again
        self._spared = False  # a replay left its last crash out
        self.started = False

    @property
    def alive(self) -> bool:
        """Whether a program runs on it (perhaps paused)."""
        return self.process is not None and self.process.alive

    @property
    def answers(self) -> bool:
        """Whether its program runs, is not paused and has finished starting."""
        return self.alive and self.started and self.machine.process.held is None  # type: ignore[union-attr]

    @property
    def process(self) -> Process | None:
        return self.machine.process

    def boot(self) -> Coroutine[Any, Any, None]:
        """A new process with a new program; the coroutine starts it."""
        process = self.machine.boot()
        env = self._env = SimEnv(process, self._world.network, self._world.suite)
        build = lambda: self._factory(self.name, env=env, data=self._data, **self._options)  # noqa: E731
        self.node = process.context.run(build)
        self._world.note(f"start {self.machine.epoch}", self.name)
        self._world.on_boot(self)

        self.started = False

        async def start(node: Any = self.node) -> None:
            await node.start()
            self.started = True

        return start()

    def crash(self, disk: Disks = "drawn") -> Fault:
        """Cut its power: no ``finally`` runs, nobody is told, what was not synced is lost, kept or torn.

        ``remove`` of what it returns restarts it, if nobody has.

        ``disk``: what becomes of batches in flight ("drawn" by the seed, or all "kept", "lost" or "torn"); "wiped"
        loses every record and keeps the key, "replaced" loses both.
        """
        fates: Sequence[Fate] = POWER_CUT if disk in ("drawn", "wiped", "replaced") else (Fate(disk),)
        fault = self._end(power=True, fates=fates, kind="crash")
        if fault.muted:
            return fault
        self.machine.disk.power_cut()
        if disk in ("wiped", "replaced"):
            self.machine.disk.wipe(keep_keys=disk == "wiped")
            self._world.forgetful.add(self.name)
            self._world.count(f"disk.{disk}")
        return fault

    def kill(self) -> Fault:
        """End its process (``kill -9``): the kernel lives on and closes its connections; no ``finally`` runs."""
        fault = self._end(power=False, fates=KILLED, kind="kill")
        if not fault.muted:
            self.machine.disk.close_all()
        return fault

    def _end(self, *, power: bool, fates: Sequence[Fate], kind: str) -> Fault:
        process = self.process
        if process is None or not process.alive:
            raise ValueError(f"{self.name} does not run")
        fault = self._world.fault(kind, self.name)
        if fault.muted:
            self._spared = True
            return fault
        fault.fire()
        fault.undo_with(self._undo_end)
        self._down = fault
        process.alive = False
        for fate, count in settle_disk(process, self.machine.seed.stream(f"crash/{process.name}"), fates).items():
            self._world.count(f"disk.{fate.value}", count)
        process.end()
        self.machine.powered = not power
        self._world.network.process_ended(process, power)
        self._world.loop.graveyard.append(self.node)
        self._world.note(kind, self.name)
        self._world.count(kind)
        return fault

    def _undo_end(self) -> None:
        if not self.alive:
            self.restart()

    def restart(self) -> None:
        """Boot it again, with the disk it has. Started when this returns (at once, inside a running coroutine)."""
        if self._spared and self.alive:
            self._spared = False  # the replay left its crash out
            return
        self._world.launch([self])
        if self._down is not None:
            down, self._down = self._down, None
            down.remove()
        self._world.count("restart")

    def stop(self) -> None:
        """Let it leave in good order, then end its process."""
        env = self._env

        async def leave(node: Any = self.node) -> None:
            await node.stop()
            await env.close()

        self._world.run_in(self, leave())
        self.exit()

    def exit(self) -> None:
        """Its process ends by itself."""
        process = self.process
        if process is not None and process.alive:
            process.end()
            self._world.network.process_ended(process, power=False)
            self.machine.disk.close_all()
            self._world.loop.graveyard.append(self.node)
            self._world.note("exit", self.name)

    def pause(self, seconds: float | None = None) -> Fault:
        """Stop its program in mid-step (a garbage collection, SIGSTOP) for so long, or until removed; then everything
        due happens."""
        process = self.process
        if process is None or not process.alive:
            raise ValueError(f"{self.name} does not run")
        world = self._world
        fault = world.fault("pause", self.name if seconds is None else f"{self.name} for {seconds:g} s")
        if fault.muted:
            return fault
        before = process.missed
        fault.gauge = lambda: process.missed + len(process.held or ()) - before
        process.pause()

        def resume() -> None:
            world.note("resume", self.name)
            process.resume()

        fault.undo_with(resume)
        world.note("pause" if seconds is None else f"pause {seconds:g}", self.name)
        if seconds is not None:
            world.loop.at(world.loop.now + round(seconds * 1e9), fault.remove, world.source)
        return fault

    def stutter(self, stall: float, every: float) -> Fault:
        """A machine that hardly gets on: its program stands still for ``stall`` seconds, every ``every`` seconds."""
        process, world = self.process, self._world
        if process is None or not process.alive:
            raise ValueError(f"{self.name} does not run")
        if not 0.0 < stall < every:
            raise ValueError(f"a program stands still for a part of the time, got {stall} of {every} s")
        fault = world.fault("stutter", f"{self.name} for {stall:g} of {every:g} s")
        if fault.muted:
            return fault
        before = process.missed
        fault.gauge = lambda: process.missed + len(process.held or ()) - before
        stalled = False

        def stop() -> None:
            nonlocal stalled
            if fault.active and process.alive:
                stalled = True
                process.pause()
                world.loop.at(world.loop.now + round(stall * 1e9), go_on, world.source)
                world.loop.at(world.loop.now + round(every * 1e9), stop, world.source)

        def go_on() -> None:
            nonlocal stalled
            if stalled:
                stalled = False
                process.resume()

        fault.undo_with(go_on)
        world.note(f"stutter {stall:g} {every:g}", self.name)
        stop()
        return fault

    def skew(self, seconds: float) -> Fault:
        """Set its wall clock so far off (it may jump back); ``remove`` sets it right."""
        return self._clock_fault("skew", f"{self.name} by {seconds:g} s", self._skews, round(seconds * 1e9))

    def drift(self, parts_per_million: int) -> Fault:
        """Let its wall clock run fast (or slow) from now on."""
        return self._clock_fault("drift", f"{self.name} by {parts_per_million} ppm", self._drifts, parts_per_million)

    def _clock_fault(self, kind: str, text: str, setting: Latest, value: int) -> Fault:
        clock = self.machine.clock
        fault = self._world.fault(kind, text)
        if fault.muted:
            return fault
        before = clock.reads_wrong
        fault.gauge = lambda: clock.reads_wrong - before
        setting.begin(fault, value)
        self._world.note(f"{kind} {text}", self.name)
        if clock.offset == 0 and clock.drift_ppm == 0:
            fault.asked = False  # it was set right: nothing to demand
        return fault

    def slow_disk(self, mean: float) -> Fault:
        """Every offloaded work takes longer by a draw of this mean, in seconds."""
        fault = self._world.fault("slow_disk", f"{self.name} by {mean:g} s")
        if fault.muted:
            return fault

        def delay(rng: Any) -> int:
            fault.fire()
            return exponential(rng, round(mean * 1e9))

        self._slowness.begin(fault, delay)
        return fault

    def failing_disk(self, probability: float = 1.0, reason: str = "no space left on device") -> Fault:
        """Each commit fails with this probability."""
        fault = self._world.fault("failing_disk", f"{self.name} {probability:.0%}")
        if fault.muted:
            return fault
        rng = self.machine.seed.stream(f"disk/{self.name}/{fault.key}")

        def refusal() -> str | None:
            if chance(rng, probability):
                fault.fire()
                return reason
            return None

        self._refusals.begin(fault, refusal)
        return fault

    def lying_disk(self) -> Fault:
        """Commits return and are kept in a cache only: the next power cut takes all since the last honest one."""
        disk = self.machine.disk
        fault = self._world.fault("lying_disk", self.name)
        if fault.muted:
            return fault
        self._world.forgetful.add(self.name)
        disk.lying, disk.on_lie = True, fault.fire
        fault.undo_with(lambda: setattr(disk, "lying", False))
        return fault

    def rot(self, records: int = 1, spare: Callable[[str, bytes], bool] = lambda table, key: False) -> int:
        """Flip bits on its disk: so many records fail their checksum from now on, none that ``spare(table, key)`` says
        yes to; how many there were to break."""
        fault = self._world.fault("rot", self.name)
        fault.asked = False  # how many there were to break is the answer
        if fault.muted:
            return 0
        broken = self.machine.disk.rot(records, spare)
        fault.gauge = lambda: broken
        fault.remove()
        self._world.count("disk.rot", broken)
        self._world.note(f"rot {broken}", self.name)
        return broken

    def __repr__(self) -> str:
        return f"SimNode({self.name}{'' if self.alive else ', dead'})"
