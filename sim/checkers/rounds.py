"""Liveness in the protocol's own unit: once links lead everywhere again, all agree within so many rounds of repair.

Seconds alone would hide a mesh that needs ten rounds where one should do, or fail one that waits for a back-off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.checkers.convergence import converged
from sim.checkers.overlay import connected

if TYPE_CHECKING:
    from sim.world import World

LINKS_WITHIN_S = 40.0  # a dial that failed is tried again within 30 s


def demand_rounds(world: World, rounds: int, links_within: float = LINKS_WITHIN_S) -> float:
    """Let the links come back, then demand agreement within so many rounds; how many it took, a part of one too.

    Raises ``NotReached``.
    """
    from mesh.protocol.antientropy import AntiEntropyConfig

    round_s = AntiEntropyConfig().round_s
    world.run_until(connected, within=links_within)
    return world.run_until(converged, within=rounds * round_s) / round_s
