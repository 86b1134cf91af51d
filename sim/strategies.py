"""Hypothesis strategies: a schedule of faults as a value, so that a failing one shrinks by itself.

Fewer faults are simpler, and earlier and shorter ones, and milder ones. ``Nemesis(world, schedule).run(seconds)``
carries one out; ``end()`` takes every fault away. Needs the package ``hypothesis``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import permutations, product
from typing import Any

from hypothesis import strategies as st

from sim import shapes
from sim.draws import CLASSES
from sim.plan import Planned
from sim.points import POINTS

Parameters = Callable[[list[str]], st.SearchStrategy[tuple[Any, ...]]]

MILLISECOND = 1_000_000
KINDS = tuple(kind for kind in CLASSES if kind not in ("wipe", "death", "point"))  # after which all can be as before
LENGTHS_MS = (100, 500, 2_000, 5_000)  # how long a fault lasts; the first is the simplest


def schedules(
    nodes: Sequence[str], seconds: float = 10.0, *, kinds: Sequence[str] = KINDS, faults_max: int = 5
) -> st.SearchStrategy[list[Planned]]:
    """Up to ``faults_max`` faults among ``nodes`` that begin within ``seconds``, in order of their beginning.

    ``kinds``: also "wipe" (a lost disk), "death" (for good) and "point" (a crash at a named point of ``mesh.Node``).
    """
    names = list(nodes)
    unknown = [kind for kind in kinds if kind not in CLASSES]
    if unknown or len(names) < 2:
        raise ValueError(f"no such faults: {unknown}" if unknown else "faults are among two nodes or more")
    return st.lists(
        st.sampled_from(kinds).flatmap(lambda kind: _fault(kind, names, round(seconds * 1000))), max_size=faults_max
    ).map(_named)


def _fault(kind: str, names: list[str], within_ms: int) -> st.SearchStrategy[Planned]:
    return st.builds(
        lambda begin, length, parameters: Planned(begin * MILLISECOND, length * MILLISECOND, kind, parameters),
        st.integers(0, within_ms),
        st.sampled_from(LENGTHS_MS),
        _PARAMETERS.get(kind, _of_one)(names),
    )


def _named(faults: list[Planned]) -> list[Planned]:
    """Each with a name of its own, so that it draws from a stream of its own."""
    counts: dict[str, int] = {}
    named = []
    for each in sorted(faults, key=lambda each: (each.begin, each.kind)):
        counts[each.kind] = counts.get(each.kind, 0) + 1
        named.append(Planned(each.begin, each.length, each.kind, each.parameters, f"{each.kind}.{counts[each.kind]}"))
    return named


def _of_one(names: list[str]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.tuples(st.sampled_from(names))


def _of_two(names: list[str]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.sampled_from(list(permutations(names, 2)))


def _partition(names: list[str]) -> st.SearchStrategy[tuple[Any, ...]]:
    def cut(mixed: list[str], at: int) -> tuple[Any, ...]:
        return ("isolate" if at == 1 else "uneven", mixed[:at], mixed[at:])

    shapes_of = [st.builds(cut, st.permutations(names), st.integers(1, max(1, len(names) // 2)))]
    if len(names) >= 3:
        shapes_of.append(st.permutations(names).map(lambda mixed: ("bridge", mixed[:1], mixed[1:2], mixed[2:])))
    if len(names) >= shapes.RING_MIN:
        shapes_of.append(st.permutations(names).map(lambda mixed: ("ring", mixed)))
    return st.one_of(shapes_of)


def _sides(names: list[str]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.builds(
        lambda mixed, at: (mixed[:1], mixed[1:2]) if at == 0 else (mixed[:at], mixed[at:]),
        st.permutations(names), st.integers(0, len(names) - 1),
    )  # fmt: skip


def _one_and(*values: Sequence[Any]) -> Parameters:
    return lambda names: _of(names, *values)(names)


def _of(*values: Sequence[Any]) -> Parameters:
    """One draw of all: Hypothesis leaves out at most five draws at a time, and a fault should be no more than that."""
    return lambda names: st.sampled_from(list(product(*values)))


_PARAMETERS: dict[str, Parameters] = {  # the mildest value first
    "partition": _partition,
    "one_way": _sides,
    "flapping": lambda names: st.tuples(_of_two(names), _of((0.3, 1.5), (1.5, 0.3))(names)).map(
        lambda two: two[0] + two[1]
    ),
    "clog": _of_two,
    "swizzle": _of(),
    "loss": _of((0.02, 0.1, 0.3), (0.0, 0.75)),
    "latency": _of((0.03, 0.1, 0.3), (0.0, 2.0)),
    "bandwidth": _of((20_000, 2_000), (64_000, 4_000)),
    "point": _one_and(sorted(POINTS)),
    "stutter": _one_and((0.05, 0.4), (1.5, 0.5)),
    "skew": _one_and((30.0, -1.0, -86400.0, 3e7)),
    "drift": _one_and((500, -500, 200_000, -200_000)),
    "slow_disk": _one_and((0.02, 0.5)),
    "failing_disk": _one_and((0.3, 1.0)),
}
