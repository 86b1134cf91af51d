"""Hypothesis strategies: a schedule of faults as a value, so that a failing one shrinks by itself.

Fewer faults are simpler, and earlier and shorter ones, and milder ones. ``Nemesis(world, schedule).run(seconds)``
carries one out; ``end()`` takes every fault away. Needs the package ``hypothesis``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

from sim.nemesis import CLASSES
from sim.plan import Planned

MILLISECOND = 1_000_000
LENGTHS_MS = (100, 500, 2_000, 5_000)  # how long a fault lasts; the first is the simplest


def schedules(
    nodes: Sequence[str], seconds: float = 10.0, *, kinds: Sequence[str] = tuple(CLASSES), faults_max: int = 5
) -> st.SearchStrategy[list[Planned]]:
    """Up to ``faults_max`` faults among ``nodes`` that begin within ``seconds``, in order of their beginning."""
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
    return st.permutations(names).map(lambda mixed: (mixed[0], mixed[1]))


def _partition(names: list[str]) -> st.SearchStrategy[tuple[Any, ...]]:
    def cut(mixed: list[str], at: int) -> tuple[Any, ...]:
        return ("isolate" if at == 1 else "halves", mixed[:at], mixed[at:])

    return st.builds(cut, st.permutations(names), st.integers(1, max(1, len(names) // 2)))


def _one_and(*values: Any) -> Callable[[list[str]], st.SearchStrategy[tuple[Any, ...]]]:
    return lambda names: st.tuples(st.sampled_from(names), st.sampled_from(values))


_PARAMETERS: dict[str, Callable[[list[str]], st.SearchStrategy[tuple[Any, ...]]]] = {
    "partition": _partition,
    "one_way": _of_two,
    "clog": _of_two,
    "loss": lambda names: st.tuples(st.sampled_from((0.02, 0.1, 0.3))),
    "latency": lambda names: st.tuples(st.sampled_from((0.03, 0.1, 0.3)), st.sampled_from((0.0, 2.0))),
    "bandwidth": lambda names: st.tuples(st.sampled_from((20_000, 2_000))),
    "skew": _one_and(30.0, -1.0, -86400.0, 3e7),
    "slow_disk": _one_and(0.02, 0.5),
    "failing_disk": _one_and(0.3, 1.0),
}
