"""What goes wrong in a run, drawn from the seed: a list of planned faults, printed before they happen.

Half the seeds draw a random subset of the fault classes (Groce et al. 2012: swarm testing), half use all of them:
measured on toy protocols, each half finds bugs that the other misses. Each class draws from a stream of its own, so
leaving one out changes no other's times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

from sim import shapes
from sim.plan import Planned
from sim.points import POINTS, arm
from sim.seed import chance, exponential
from sim.trouble import NeverFired
from transport.base import MILLISECOND, SECOND, StorageFault

if TYPE_CHECKING:
    from sim.faults import Fault
    from sim.node import SimNode
    from sim.world import World

Draw = Callable[[Random, Sequence[str]], tuple[Any, ...]]

SWARM_CHANCE = 0.6  # that a class is in, where a subset is drawn
RETRY_NS = SECOND  # a node whose start failed is started again
AGAIN_NS = (
    250 * MILLISECOND
)  # a fault that could not begin, or has not bitten when its time is over, is looked at again
GRACE_NS = 15 * SECOND  # and so much longer than the faults' time at most


def _two(rng: Random, names: Sequence[str]) -> tuple[Any, ...]:
    return tuple(rng.sample(names, 2))


def _one_way(rng: Random, names: Sequence[str]) -> tuple[Any, ...]:
    """One does not hear one other, or a whole side does not hear the rest."""
    mixed = rng.sample(names, len(names))
    if chance(rng, 0.5):
        return mixed[:1], mixed[1:2]
    at = rng.randrange(1, len(names))
    return mixed[:at], mixed[at:]


def _one(rng: Random, names: Sequence[str]) -> tuple[Any, ...]:
    return (rng.choice(names),)


def _of(*choices: Sequence[Any]) -> Draw:
    """Values only: one of each."""
    return lambda rng, names: tuple(rng.choice(each) for each in choices)


def _one_and(*choices: Sequence[Any]) -> Draw:
    """A node, and one of each of these values."""
    return lambda rng, names: (rng.choice(names), *(rng.choice(each) for each in choices))


def _two_and(*choices: Sequence[Any]) -> Draw:
    return lambda rng, names: (*rng.sample(names, 2), *(rng.choice(each) for each in choices))


# kind: (mean ns between two, mean ns it lasts, how its parameters are drawn)
CLASSES: dict[str, tuple[int, int, Draw]] = {
    "partition": (10 * SECOND, 6 * SECOND, shapes.draw),
    "one_way": (12 * SECOND, 5 * SECOND, _one_way),
    "flapping": (25 * SECOND, 6 * SECOND, _two_and((0.3, 1.5), (0.3, 1.5))),
    "clog": (8 * SECOND, 2 * SECOND, _two),
    "swizzle": (25 * SECOND, 4 * SECOND, lambda rng, names: ()),  # and SWIZZLE_LEAST_NS more
    "loss": (12 * SECOND, 4 * SECOND, _of((0.02, 0.1, 0.3), (0.0, 0.75))),
    "latency": (12 * SECOND, 5 * SECOND, _of((0.03, 0.1, 0.3), (0.0, 2.0))),
    "bandwidth": (20 * SECOND, 4 * SECOND, _of((2_000, 20_000), (4_000, 64_000))),
    "crash": (8 * SECOND, 3 * SECOND, _one),
    "kill": (12 * SECOND, 2 * SECOND, _one),
    "wipe": (50 * SECOND, 3 * SECOND, _one),
    "death": (60 * SECOND, 0, _one),
    "point": (20 * SECOND, 3 * SECOND, _one_and(sorted(POINTS))),
    "pause": (10 * SECOND, SECOND, _one),
    "stutter": (20 * SECOND, 4 * SECOND, _one_and((0.05, 0.4), (0.5, 1.5))),
    "skew": (12 * SECOND, 8 * SECOND, _one_and((-86400.0, -1.0, 30.0, 3e7))),
    "drift": (25 * SECOND, 8 * SECOND, _one_and((-200_000, -500, 500, 200_000))),
    "slow_disk": (15 * SECOND, 5 * SECOND, _one_and((0.02, 0.5))),
    "failing_disk": (25 * SECOND, 2 * SECOND, _one_and((0.3, 1.0))),
    "rot": (25 * SECOND, 0, _one),
}
SWIZZLE_LEAST_NS = 2 * SECOND  # it ends by itself, so it has to be long enough to bite
ONCE = frozenset({"wipe", "death"})  # of these one at most: whoever else had it must be there to give it back
# Nobody can promise that a point is passed, that a record is there to break, or that who is clogged is not cut off.
MAY_MISS = frozenset({"point", "rot", "swizzle"})


def draw_plan(world: World, seconds: float, classes: Sequence[str] = tuple(CLASSES)) -> list[Planned]:
    """The faults of ``world``'s seed within so many seconds from now, in order of their beginning; or a replay's."""
    if world.plan.faults is not None:
        return list(world.plan.faults)
    some = world.seed.stream("nemesis").random() < 0.5
    names = [each.name for each in world.nodes]
    plan = []
    for kind in classes:
        rng = world.seed.stream(f"nemesis/{kind}")
        within = chance(rng, SWARM_CHANCE) or not some
        between, lasts, parameters = CLASSES[kind]
        at, number = exponential(rng, between), 0
        while within and at < seconds * 1e9 and not (number and kind in ONCE):
            number += 1
            length = (exponential(rng, lasts) if lasts else 0) + (SWIZZLE_LEAST_NS if kind == "swizzle" else 0)
            if kind != "swizzle":  # all others end with the faults' time, so that who has not bitten then can
                length = min(length, round(seconds * 1e9) - at)
            plan.append(Planned(at, length, kind, parameters(rng, names), f"{kind}.{number}"))
            at += exponential(rng, between)
    for death in [each for each in plan if each.kind == "death"]:
        plan = [each for each in plan if each is death or not (_is_about(each, death) and each.begin > death.begin)]
    plan.sort(key=lambda each: (each.begin, each.kind))
    world.planned += plan
    return plan


def _is_about(planned: Planned, other: Planned) -> bool:
    """Whether it needs the node of that other one: it cannot bite without it."""
    name = other.parameters[0]
    return name in planned.parameters or [name] in planned.parameters


def _is_only_copy(world: World, node: SimNode, table: str, key: bytes) -> bool:
    """Whether a frame is on no other living node: no protocol brings back what rots before anybody else has it."""
    from mesh.state import records  # late: ``sim`` is imported by programs that have no mesh in them

    if table != records.FRAMES:
        return False
    stream, origin, last = records.read_stream(key), records.read_origin(key), int.from_bytes(key[-8:], "big")
    for other in world.nodes:
        if other is not node and other.answers:
            replica = other.node._runtime.spaces._replicas.get(stream)
            if replica is not None and origin in replica.logs and replica.logs[origin].saved.seq >= last:
                return False
    return True


class Nemesis:
    """Carries out a plan. What was drawn from the seed has to bite: it waits for its node to run, and lasts until it
    has bitten, or the world fails and says which did not. What a replay or a test planned happens just as planned."""

    def __init__(self, world: World, plan: Sequence[Planned]) -> None:
        self._world = world
        self.plan = list(plan)
        self._drawn = {each.name for each in world.planned}
        self._faults: list[Fault] = []
        self._dead: set[str] = set()
        self._lives: dict[str, Callable[[], bool]] = {}  # whether the program that a fault holds up still runs
        self._pending: list[tuple[int, int, Callable[[], None]]] = []  # (ns of the world, number, act)
        self._number = 0
        self._began = 0

    def _at(self, when: int, act: Callable[[], None]) -> None:
        self._number += 1
        self._pending.append((when, self._number, act))

    def run(self, seconds: float) -> None:
        """Let so much time pass, and do on the way what the plan says; longer if what was drawn has not bitten yet."""
        world = self._world
        began = self._began = world.loop.now
        until = began + world.wait(seconds)
        number = len(world.waits) - 1
        for each in self.plan:
            self._at(began + each.begin, partial(self._begin, each, began + each.begin))
        self._run_to(until)
        while self._waits() and world.loop.now < until + GRACE_NS:
            self._run_to(world.loop.now + AGAIN_NS)
            world.stretched[number] = world.loop.now - began

    def _run_to(self, until: int) -> None:
        while self._pending:
            at, number, act = min(self._pending, key=lambda each: each[:2])
            if at > until:
                break
            self._pending = [each for each in self._pending if each[1] != number]
            self._world.run_to(at)
            act()
        self._world.run_to(until)

    def _waits(self) -> list[str]:
        """The drawn faults that have not begun, or have not bitten."""
        begun = {each.key: each for each in self._world.faults}
        due = [each for each in self.plan if each.name in self._drawn and each.kind not in MAY_MISS]
        idle = [each for each in due if each.name not in begun or not begun[each.name].fired]
        return [each.name for each in idle if not self._is_excused(each)]

    def _is_excused(self, planned: Planned) -> bool:
        """Whether it can bite no more: a node it needs is dead for good, or a program it held up ended first."""
        dead = [each for each in self.plan if each.kind == "death" and each.parameters[0] in self._dead]
        return any(_is_about(planned, each) for each in dead) or not self._lives.get(planned.name, lambda: True)()

    def end(self) -> None:
        """Take every fault away and boot what is down, unless it died for good.

        Raises ``NeverFired`` when something that was drawn never bit: the run proves nothing about it.
        """
        if idle := self._waits():
            raise NeverFired(f"drawn and never fired: {', '.join(idle)}")
        for fault in self._faults:
            fault.asked = False
            fault.remove()
        self._pending.clear()
        for node in self._world.nodes:
            if not node.alive and node.name not in self._dead:
                node.restart()

    def _restart(self, node: SimNode) -> None:
        if node.alive or node.name in self._dead:
            return
        try:
            node.restart()
        except StorageFault:  # its disk is one of the faults: again, when somebody has looked after it
            self._at(self._world.loop.now + RETRY_NS, lambda: self._restart(node))

    def _begin(self, planned: Planned, due: int) -> None:
        """``due``: when it was to begin; it may be a little later, since a restart takes its time."""
        world, is_drawn = self._world, planned.name in self._drawn
        node = world.named(planned.parameters[0]) if planned.kind in _OF_A_NODE else None
        if node is not None and not _can_begin(planned.kind, node):
            if is_drawn and node.name not in self._dead:
                again = world.loop.now + AGAIN_NS
                self._at(again, lambda: self._begin(planned, again))
            return
        if is_drawn:
            self._record(replace(planned, begin=due - self._began))
        with world.naming(planned.name):
            fault = self._of_a_node(planned, node, due) if node is not None else self._of_the_network(planned)
        if fault is None:
            return
        fault.asked = is_drawn and planned.kind not in MAY_MISS and not fault.muted
        self._faults.append(fault)
        if node is not None and planned.kind in _HOLDS_UP:
            process = node.process
            self._lives[planned.name] = lambda: process is not None and process.alive
        over = due + planned.length
        self._at(over, lambda: self._over(planned, fault, over))

    def _over(self, planned: Planned, fault: Fault, due: int) -> None:
        """Its time is over: it ends now, or when it has bitten."""
        if fault.asked and not fault.fired and not self._is_excused(planned):
            again = self._world.loop.now + AGAIN_NS
            self._at(again, lambda: self._over(planned, fault, again))
            begun = next(each for each in self._world.planned if each.name == planned.name)
            self._record(replace(begun, length=again - self._began - begun.begin))
            return
        fault.asked = False
        fault.remove()

    def _record(self, planned: Planned) -> None:
        """What really happened, so that a replay does exactly that."""
        self._world.planned[:] = [planned if each.name == planned.name else each for each in self._world.planned]

    def _of_the_network(self, planned: Planned) -> Fault:
        world, values = self._world, planned.parameters
        match planned.kind:
            case "partition":
                return world.partition(shapes.planned(values))
            case "one_way":
                return world.one_way(*values)
            case "flapping":
                return world.flapping(*values[:2], down=values[2], up=values[3])
            case "clog":
                return world.clog(*values)
            case "swizzle":
                return world.swizzle(planned.length / 1e9)
            case "loss":
                return world.loss(values[0], burst=values[1] if len(values) > 1 else 0.0)
            case "latency":
                return world.latency(values[0], tail=values[1])
            case "bandwidth":
                return world.bandwidth(values[0], queue_bytes=values[1] if len(values) > 1 else None)
            case _:
                raise ValueError(f"there is no fault called {planned.kind}")

    def _of_a_node(self, planned: Planned, node: SimNode, due: int) -> Fault | None:
        """``None``: it is over as soon as it has begun, but for a restart."""
        world, values = self._world, planned.parameters
        match planned.kind:
            case "crash" | "wipe" | "kill":
                node.kill() if planned.kind == "kill" else node.crash("wiped" if planned.kind == "wipe" else "drawn")
                self._at(due + planned.length, lambda: self._restart(node))
                return None
            case "death":
                if not node.crash().muted:
                    self._dead.add(node.name)
                return None
            case "rot":
                if node.rot(1, partial(_is_only_copy, world, node)):
                    world.forgetful.add(node.name)
                return None
            case "point":
                self._at(due + planned.length, lambda: self._restart(node))
                return arm(world, node, values[1])
            case "pause":
                return node.pause()
            case "stutter":
                return node.stutter(values[1], values[2])
            case "skew":
                return node.skew(values[1])
            case "drift":
                return node.drift(values[1])
            case "slow_disk":
                return node.slow_disk(values[1])
            case _:
                return node.failing_disk(values[1])


_OF_A_NODE = frozenset(CLASSES) - {
    "partition", "one_way", "flapping", "clog", "swizzle", "loss", "latency", "bandwidth",
}  # fmt: skip


_HOLDS_UP = frozenset({"point", "pause", "stutter"})


def _can_begin(kind: str, node: SimNode) -> bool:
    """What ends a program, or holds it up, needs one."""
    if kind in ("crash", "wipe", "kill", "death"):
        return node.alive
    return kind not in _HOLDS_UP or node.answers
