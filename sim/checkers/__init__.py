"""Oracles: what must hold in every world, whatever went wrong in it."""

from sim.checkers.convergence import Converged, Diverged, check_clocks, converged

__all__ = ["Converged", "Diverged", "check_clocks", "converged"]
