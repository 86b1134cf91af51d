"""Maelstrom's workloads, under partitions and power cuts: accepted by its rules."""

from __future__ import annotations

from sim.checkers.convergence import Converged
from sim.draws import draw_plan
from sim.maelstrom import SPACE, Clients, Workload
from sim.nemesis import Nemesis
from sim.scenario import scenario
from sim.scenarios.split import everybody_sees_everybody
from sim.world import World

FAULTS_S = 10.0
CLASSES = ("partition", "one_way", "clog", "loss", "latency", "crash", "kill", "pause", "slow_disk")


def _told(world: World, workload: Workload) -> None:
    world.run_until(everybody_sees_everybody, within=10.0)
    clients = Clients(world, workload)
    clients.start()
    nemesis = Nemesis(world, draw_plan(world, FAULTS_S, CLASSES))
    nemesis.run(FAULTS_S)
    clients.stop()
    nemesis.end()
    world.run_until(Converged(SPACE), within=30.0)
    world.run_for(1.0)
    clients.check()


@scenario(nodes=3, seeds=range(5))
def maelstrom_echo(world: World) -> None:
    """What is said comes back."""
    _told(world, "echo")


@scenario(nodes=3, seeds=range(5))
def maelstrom_unique_ids(world: World) -> None:
    """No id is given twice, also not by a node that lost its power."""
    _told(world, "unique-ids")


@scenario(nodes=5, seeds=range(5))
def maelstrom_broadcast(world: World) -> None:
    """What was acknowledged reaches everybody, once."""
    _told(world, "broadcast")


@scenario(nodes=5, seeds=range(5))
def maelstrom_g_set(world: World) -> None:
    """No acknowledged element is lost."""
    _told(world, "g-set")


@scenario(nodes=5, seeds=range(5))
def maelstrom_g_counter(world: World) -> None:
    """The final sum is that of the acknowledged additions, and of some whose fate nobody knows."""
    _told(world, "g-counter")


@scenario(nodes=5, seeds=range(5))
def maelstrom_pn_counter(world: World) -> None:
    """The same with subtractions."""
    _told(world, "pn-counter")
