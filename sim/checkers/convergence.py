"""Convergence: the live nodes of a world hold the same state, and equal clocks never meant anything else.

Strong eventual consistency (Shapiro et al. 2011): replicas that saw the same operations are equal. The second law is
checked at every look, long before the end: it catches a dependence on order while both sides are still apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sim.checkers.verdict import Violated

if TYPE_CHECKING:
    from sim.node import SimNode
    from sim.world import World


class Diverged(Violated):
    """Two nodes saw the same operations and differ: a bug in the state itself."""


Clock = dict[str, int]


def _spaces(nodes: Iterable[SimNode], space: str) -> list[tuple[str, Clock, Any]]:
    """Name, clock and space of each that answers."""
    held = [(each.name, each.node.space(space)) for each in nodes if each.answers]
    return [(name, there.clock, there) for name, there in held]


def check_clocks(world: World, space: str = "main") -> None:
    """Raise ``Diverged`` if two live nodes have equal clocks and unequal digests."""
    _compare(_spaces(world.nodes, space))


def _compare(rows: Iterable[tuple[str, Clock, Any]]) -> None:
    """A digest costs as much as the state is large: it is made only where clocks are equal."""
    seen: dict[frozenset[tuple[str, int]], tuple[str, Any]] = {}
    for name, clock, held in rows:
        other, known = seen.setdefault(frozenset(clock.items()), (name, held))
        if known is not held and (ours := held.digest()) != (theirs := known.digest()):
            raise Diverged(f"{other} and {name} saw the same operations and hold {theirs[:12]} and {ours[:12]}")


def check_values(world: World, space: str = "main") -> None:
    """Raise ``Diverged`` if two live nodes with equal clocks *show* something else: a tie settled by arrival is not in
    the digest of what is stored."""
    seen: dict[tuple[tuple[str, int], ...], tuple[str, dict[str, Any]]] = {}
    for each in world.nodes:
        if each.answers:
            held: Any = each.node.space(space)
            clock, value = tuple(sorted(held.clock.items())), held.value
            other, known = seen.setdefault(clock, (each.name, value))
            if known != value:
                keys = [key for key in sorted({*known, *value}) if known.get(key) != value.get(key)]
                raise Diverged(
                    f"{other} and {each.name} saw the same operations and show at {keys[0]!r} "
                    f"{known.get(keys[0])!r} and {value.get(keys[0])!r}"
                )


class Converged:
    """``converged(world)``: every live node has the same clock and digest of ``space``. For ``world.run_until``.

    ``but``: names of nodes that need not agree, such as one that lies. ``strict=False`` only asks: while one log has
    two histories, equal clocks may mean two things until the proof is found.
    """

    name = "converged"

    def __init__(self, space: str = "main", but: Iterable[str] = (), *, strict: bool = True) -> None:
        self._space = space
        self._strict = strict
        self._but = frozenset(but)

    def __call__(self, world: World) -> bool:
        rows = self._rows(world)
        if self._strict:
            _compare(rows)
        return all(clock == rows[0][1] for _, clock, _ in rows) and len({held.digest() for _, _, held in rows}) <= 1

    def _rows(self, world: World) -> list[tuple[str, Clock, Any]]:
        return _spaces((each for each in world.nodes if each.name not in self._but), self._space)

    def explain(self, world: World) -> str:
        """Who lacks what, in a few words."""
        rows = self._rows(world)
        most: Clock = {}
        for _, clock, _ in rows:
            for actor, count in clock.items():
                most[actor] = max(count, most.get(actor, 0))
        told = []
        for name, clock, held in rows:
            lacks = {
                actor[:8]: count - clock.get(actor, 0)
                for actor, count in sorted(most.items())
                if clock.get(actor, 0) < count
            }
            told.append(f"{name} {held.digest()[:8]} lacks {lacks or 'nothing'}")
        return "; ".join(told)


converged = Converged()
