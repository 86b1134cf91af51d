"""The same nodes in a world that obeys a seed.

A ``World`` gives the real ``mesh.Node`` (or your own program) a virtual clock, a network, disks and chance that all
follow from one number, and breaks them on request. ``@scenario`` makes a test of it that replays from its seed.
"""

from sim.checkers.convergence import check_clocks, converged
from sim.errors import Deadlock, Livelock, NotSimulated, SimError
from sim.faults import Fault
from sim.node import SimNode
from sim.scenario import scenario
from sim.world import NeverFired, NodeFailed, NotReached, World

__all__ = [
    "Deadlock",
    "Fault",
    "Livelock",
    "NeverFired",
    "NodeFailed",
    "NotReached",
    "NotSimulated",
    "SimError",
    "SimNode",
    "World",
    "check_clocks",
    "converged",
    "scenario",
]
