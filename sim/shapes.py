"""Shapes of a partition: which nodes do not hear which, as a value. ``World.partition`` cuts along one.

Source  Jepsen's nemeses (Kingsbury): bridge, majorities ring; VOPR, FoundationDB: islands of any size.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from random import Random
from typing import Any

RING_MIN = 4  # fewer in a ring, each hearing a majority, all hear each other


@dataclass(frozen=True, slots=True)
class Shape:
    """``pairs``: the directed links (sender, receiver) on which nothing gets through."""

    text: str
    pairs: frozenset[tuple[str, str]]


def islands(*sides: Iterable[str]) -> Shape:
    """Each side hears only itself; who is on no side hears everybody."""
    held = [list(side) for side in sides]
    return Shape("|".join(",".join(side) for side in held), _between(held))


def bridge(middle: Iterable[str], one: Iterable[str], other: Iterable[str]) -> Shape:
    """Two sides that do not hear each other, and ``middle``, which hears both and is heard by both."""
    cut = islands(one, other)
    return Shape(f"{cut.text} over {','.join(middle)}", cut.pairs)


def ring(order: Sequence[str]) -> Shape:
    """Everybody hears the same number of neighbours on either hand, as few as make a majority with itself: all are in
    a majority, and no two in the same. Raises ``ValueError`` for fewer than ``RING_MIN``."""
    count = len(order)
    if count < RING_MIN:
        raise ValueError(f"a ring of majorities has {RING_MIN} nodes or more, got {count}")
    reach = -(-(count // 2) // 2)
    apart = {(a, b) for a in range(count) for b in range(count) if reach < (a - b) % count < count - reach}
    return Shape(f"ring {'~'.join(order)}", frozenset((order[a], order[b]) for a, b in apart))


def _between(sides: Sequence[Sequence[str]]) -> frozenset[tuple[str, str]]:
    return frozenset(
        pair for one, other in combinations(sides, 2) for a in one for b in other for pair in ((a, b), (b, a))
    )


# -- as plain values, for a plan -------------------------------------------------------------------------------------

SHAPES = ("halves", "isolate", "uneven", "bridge", "ring")


def draw(rng: Random, names: Sequence[str]) -> tuple[Any, ...]:
    """A shape of these nodes (two or more) as the parameters of a planned fault: its kind, and lists of names."""
    mixed, count = rng.sample(names, len(names)), len(names)
    kind = rng.choice([each for each in SHAPES if count >= {"bridge": 3, "uneven": 4, "ring": RING_MIN}.get(each, 2)])
    match kind:
        case "isolate":
            return (kind, mixed[:1], mixed[1:])
        case "uneven":  # two or three islands
            cuts = sorted(rng.sample(range(1, count), rng.randrange(1, 3)))
            return (kind, *(mixed[a:b] for a, b in zip([0, *cuts], [*cuts, count], strict=True)))
        case "bridge":
            return (kind, mixed[:1], mixed[1 : 1 + count // 2], mixed[1 + count // 2 :])
        case "ring":
            return (kind, mixed)
        case _:
            return (kind, mixed[: count // 2], mixed[count // 2 :])


def planned(parameters: Sequence[Any]) -> Shape:
    """The shape that such parameters stand for. Raises ``ValueError`` when they stand for none."""
    kind, *sides = parameters
    match kind:
        case "bridge" if len(sides) == 3:
            return bridge(*sides)
        case "ring" if len(sides) == 1:
            return ring(sides[0])
        case "halves" | "isolate" | "uneven" | "bridge":  # a bridge of two sides: everybody else is in the middle
            return islands(*sides)
        case _:
            raise ValueError(f"there is no partition {kind} of {len(sides)} sides")
