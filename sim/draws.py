"""Which faults a seed comes to: a list of planned ones, printed before they happen.

Half the seeds draw a random subset of the fault classes (Groce et al. 2012: swarm testing), half use all of them:
measured on toy protocols, each half finds bugs that the other misses. Each class draws from a stream of its own, so
leaving one out changes no other's times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import TYPE_CHECKING, Any

from sim import shapes
from sim.plan import Planned
from sim.points import POINTS
from sim.seed import chance, exponential
from transport.base import SECOND

if TYPE_CHECKING:
    from sim.world import World

Draw = Callable[[Random, Sequence[str]], tuple[Any, ...]]

SWARM_CHANCE = 0.6  # that a class is in, where a subset is drawn


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
        plan = [each for each in plan if each is death or not (is_about(each, death) and each.begin > death.begin)]
    plan.sort(key=lambda each: (each.begin, each.kind))
    world.planned += plan
    return plan


def is_about(planned: Planned, other: Planned) -> bool:
    """Whether it needs the node of that other one: it cannot bite without it."""
    name = other.parameters[0]
    return name in planned.parameters or [name] in planned.parameters
