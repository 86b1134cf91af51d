"""Oracles: what must hold in every world, whatever went wrong in it."""

from sim.checkers.bounds import check_messages, check_quiet, quiet
from sim.checkers.causality import Causality
from sim.checkers.convergence import Converged, Diverged, check_clocks, check_values, converged
from sim.checkers.counting import Tally
from sim.checkers.delivery import Delivered, SetFull
from sim.checkers.escrow import check_rights
from sim.checkers.linearizability import Answer, Operation, linearizable
from sim.checkers.overlay import Connected, connected
from sim.checkers.rounds import demand_rounds
from sim.checkers.stability import check_floors
from sim.checkers.verdict import Violated
from sim.checkers.winners import Winners

__all__ = [
    "Answer",
    "Causality",
    "Connected",
    "Converged",
    "Delivered",
    "Diverged",
    "Operation",
    "SetFull",
    "Tally",
    "Violated",
    "Winners",
    "check_clocks",
    "check_floors",
    "check_messages",
    "check_quiet",
    "check_rights",
    "check_values",
    "connected",
    "converged",
    "demand_rounds",
    "linearizable",
    "quiet",
]
