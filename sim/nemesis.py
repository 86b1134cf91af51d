"""Carries out planned faults: begins each when its node runs, ends it when its time is over and it has bitten."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from sim import shapes
from sim.draws import CLASSES, MAY_MISS, is_about
from sim.plan import Planned
from sim.points import arm
from sim.trouble import NeverFired
from transport.base import SECOND, StorageFault

if TYPE_CHECKING:
    from sim.faults import Fault
    from sim.node import SimNode
    from sim.world import World

RETRY_NS = SECOND  # a node whose start failed is started again
AGAIN_NS = SECOND // 4  # a fault that could not begin, or has not bitten when its time is over, is looked at again
GRACE_NS = 15 * SECOND  # and so much longer than the faults' time at most


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
        return any(is_about(planned, each) for each in dead) or not self._lives.get(planned.name, lambda: True)()

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
