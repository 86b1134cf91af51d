"""What goes wrong in a run, drawn from the seed: a list of planned faults, printed before they happen.

Half the seeds draw a random subset of the fault classes (Groce et al. 2012: swarm testing), half use all of them:
measured on toy protocols, each half finds bugs that the other misses. Each class draws from a stream of its own, so
leaving one out changes no other's times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

from sim.plan import Planned
from sim.seed import chance, exponential
from transport.base import SECOND, StorageFault

if TYPE_CHECKING:
    from sim.faults import Fault
    from sim.node import SimNode
    from sim.world import World

Draw = Callable[[Random, Sequence[str]], tuple[Any, ...]]

SWARM_CHANCE = 0.6  # that a class is in, where a subset is drawn
RETRY_NS = SECOND  # a node whose start failed is started again


def _partition(rng: Random, names: Sequence[str]) -> tuple[Any, ...]:
    """Halves, one isolated, or a bridge (one node sees both sides)."""
    mixed = rng.sample(names, len(names))
    shape = rng.choice(("halves", "isolate", "bridge"))
    if shape == "isolate" or len(names) < 3:
        return ("isolate", mixed[:1], mixed[1:])
    if shape == "bridge":
        rest = mixed[1:]
        return ("bridge", rest[: len(rest) // 2], rest[len(rest) // 2 :])
    return ("halves", mixed[: len(mixed) // 2], mixed[len(mixed) // 2 :])


def _two(rng: Random, names: Sequence[str]) -> tuple[Any, ...]:
    return tuple(rng.sample(names, 2))


def _one(rng: Random, names: Sequence[str]) -> tuple[Any, ...]:
    return (rng.choice(names),)


# kind: (mean ns between two, mean ns it lasts, how its parameters are drawn)
def _loss(rng: Random, names: Sequence[str]) -> tuple[Any, ...]:
    return (rng.choice((0.02, 0.1, 0.3)),)


def _latency(rng: Random, names: Sequence[str]) -> tuple[Any, ...]:
    return rng.choice((0.03, 0.1, 0.3)), rng.choice((0.0, 2.0))


def _bandwidth(rng: Random, names: Sequence[str]) -> tuple[Any, ...]:
    return (rng.choice((2_000, 20_000)),)


def _skew(rng: Random, names: Sequence[str]) -> tuple[Any, ...]:
    return rng.choice(names), rng.choice((-86400.0, -1.0, 30.0, 3e7))


def _slowness(rng: Random, names: Sequence[str]) -> tuple[Any, ...]:
    return rng.choice(names), rng.choice((0.02, 0.5))


def _failure(rng: Random, names: Sequence[str]) -> tuple[Any, ...]:
    return rng.choice(names), rng.choice((0.3, 1.0))


# kind: (mean ns between two, mean ns it lasts, how its parameters are drawn)
CLASSES: dict[str, tuple[int, int, Draw]] = {
    "partition": (10 * SECOND, 6 * SECOND, _partition),
    "one_way": (12 * SECOND, 5 * SECOND, _two),
    "clog": (8 * SECOND, 2 * SECOND, _two),
    "loss": (12 * SECOND, 4 * SECOND, _loss),
    "latency": (12 * SECOND, 5 * SECOND, _latency),
    "bandwidth": (20 * SECOND, 4 * SECOND, _bandwidth),
    "crash": (8 * SECOND, 3 * SECOND, _one),
    "kill": (12 * SECOND, 2 * SECOND, _one),
    "pause": (10 * SECOND, SECOND, _one),
    "skew": (12 * SECOND, 8 * SECOND, _skew),
    "slow_disk": (15 * SECOND, 5 * SECOND, _slowness),
    "failing_disk": (25 * SECOND, 2 * SECOND, _failure),
    "rot": (25 * SECOND, 0, _one),
}


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
        while within and at < seconds * 1e9:
            number += 1
            length = exponential(rng, lasts)
            plan.append(Planned(at, length, kind, parameters(rng, names), f"{kind}.{number}"))
            at += exponential(rng, between)
    plan.sort(key=lambda each: (each.begin, each.kind))
    world.planned += plan
    return plan


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
    """Carries out a plan. What it begins counts in the world's statistics; none of it has to bite by itself."""

    def __init__(self, world: World, plan: Sequence[Planned]) -> None:
        self._world = world
        self.plan = list(plan)
        self._faults: list[Fault] = []
        self._later: list[tuple[int, Callable[[], None]]] = []

    def run(self, seconds: float) -> None:
        """Let so much time pass, and do on the way what the plan says."""
        world = self._world
        began = world.loop.now
        until = world.wait(seconds)
        pending: list[tuple[int, int, Callable[[], None]]] = [
            (each.begin, number, partial(self._begin_named, each)) for number, each in enumerate(self.plan)
        ]
        number = len(pending)
        while True:
            pending += [(at - began, (number := number + 1), act) for at, act in self._later]
            self._later.clear()
            pending.sort(key=lambda each: each[:2])
            if not pending or pending[0][0] > until:
                break
            at, _, act = pending.pop(0)
            world.run_to(began + at)
            act()
        world.run_to(began + until)

    def end(self) -> None:
        """Take every fault away and boot what is down."""
        for fault in self._faults:
            fault.remove()
        for node in self._world.nodes:
            if not node.alive:
                node.restart()

    def _restart(self, node: SimNode) -> None:
        if node.alive:
            return
        try:
            node.restart()
        except StorageFault:  # its disk is one of the faults: again, when somebody has looked after it
            self._later.append((self._world.loop.now + RETRY_NS, lambda: self._restart(node)))

    def _node(self, name: str) -> SimNode:
        return self._world.named(name)

    def _begin_named(self, planned: Planned) -> None:
        with self._world.naming(planned.name):
            self._begin(planned)

    def _begin(self, planned: Planned) -> None:
        world, values = self._world, planned.parameters
        until = world.loop.now + planned.length
        match planned.kind:
            case "crash" | "kill":
                node = self._node(values[0])
                if node.alive:
                    node.crash() if planned.kind == "crash" else node.kill()
                    self._later.append((until, lambda: self._restart(node)))
                return
            case "rot":
                node = self._node(values[0])
                if node.rot(1, partial(_is_only_copy, world, node)):
                    world.forgetful.add(node.name)
                return
            case _:
                fault = self._fault(planned, values)
        if fault is not None:
            fault.asked = False
            self._faults.append(fault)
            self._later.append((until, fault.remove))

    def _fault(self, planned: Planned, values: tuple[Any, ...]) -> Fault | None:
        world = self._world
        match planned.kind:
            case "partition":
                return world.partition(*([self._node(name) for name in side] for side in values[1:]))
            case "one_way":
                return world.one_way(self._node(values[0]), self._node(values[1]))
            case "clog":
                return world.clog(self._node(values[0]), self._node(values[1]))
            case "loss":
                return world.loss(values[0])
            case "latency":
                return world.latency(values[0], tail=values[1])
            case "bandwidth":
                return world.bandwidth(values[0])
            case "pause":
                node = self._node(values[0])
                return node.pause(planned.length / 1e9) if node.answers else None
            case "skew":
                return self._node(values[0]).skew(values[1])
            case "slow_disk":
                return self._node(values[0]).slow_disk(values[1])
            case "failing_disk":
                return self._node(values[0]).failing_disk(values[1])
            case _:
                raise ValueError(f"there is no fault called {planned.kind}")
