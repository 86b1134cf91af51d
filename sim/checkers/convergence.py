"""Convergence: the live nodes of a world hold the same state, and equal clocks never meant anything else.

Strong eventual consistency (Shapiro et al. 2011): replicas that saw the same operations are equal. The second law is
checked at every look, long before the end: it catches a dependence on order while both sides are still apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim.node import SimNode
    from sim.world import World


class Diverged(AssertionError):
    """Two nodes saw the same operations and differ: a bug in the state itself."""


def _states(nodes: Iterable[SimNode], space: str) -> list[tuple[str, dict[str, int], str]]:
    rows = []
    for each in nodes:
        if each.answers:
            held: Any = each.node.space(space)
            rows.append((each.name, dict(sorted(held.clock.items())), held.digest()))
    return rows


def check_clocks(world: World, space: str = "main") -> None:
    """Raise ``Diverged`` if two live nodes have equal clocks and unequal digests."""
    seen: dict[tuple[tuple[str, int], ...], tuple[str, str]] = {}
    for name, clock, digest in _states(world.nodes, space):
        key = tuple(clock.items())
        other, known = seen.setdefault(key, (name, digest))
        if known != digest:
            raise Diverged(f"{other} and {name} saw the same operations and hold {known[:12]} and {digest[:12]}")


class Converged:
    """``converged(world)``: every live node has the same clock and digest of ``space``. For ``world.run_until``."""

    name = "converged"

    def __init__(self, space: str = "main") -> None:
        self._space = space

    def __call__(self, world: World) -> bool:
        check_clocks(world, self._space)
        rows = _states(world.nodes, self._space)
        return len({digest for _, _, digest in rows}) <= 1 and all(clock == rows[0][1] for _, clock, _ in rows)

    def explain(self, world: World) -> str:
        """Who lacks what, in a few words."""
        rows = _states(world.nodes, self._space)
        most: dict[str, int] = {}
        for _, clock, _ in rows:
            for actor, count in clock.items():
                most[actor] = max(count, most.get(actor, 0))
        told = []
        for name, clock, digest in rows:
            lacks = {
                actor[:8]: count - clock.get(actor, 0) for actor, count in most.items() if clock.get(actor, 0) < count
            }
            told.append(f"{name} {digest[:8]} lacks {lacks or 'nothing'}")
        return "; ".join(told)


converged = Converged()
