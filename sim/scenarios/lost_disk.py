"""Disks that are gone, or older than they say: a key that lives on with another past."""

from __future__ import annotations

from sim.checkers.convergence import converged
from sim.scenario import scenario
from sim.scenarios.split import everybody_sees_everybody
from sim.world import World


@scenario(nodes=3, seeds=range(10))
def lost_disk(world: World) -> None:
    """A node that lost its disk and kept its key gets its own writes back from others, and counts on, once each."""
    world.run_until(everybody_sees_everybody, within=10.0)
    a, b, _ = world.nodes
    for _ in range(20):
        a.node.counter("n").increment()
        b.node.counter("n").increment()
    world.run_until(converged)
    key = a.node.id
    a.crash(disk="wiped")
    world.run_for(3.0)
    a.restart()
    assert a.node.id == key
    a.node.counter("n").increment()
    world.run_until(everybody_sees_everybody, within=10.0)
    world.run_until(converged)
    assert {each.node.counter("n").value for each in world.nodes} == {41}


@scenario(nodes=3, seeds=range(10))
def restored_backup(world: World) -> None:
    """A disk put back to an older day: nothing is counted twice, no sequence used twice, later writes are kept."""
    world.run_until(everybody_sees_everybody, within=10.0)
    a, b, c = world.nodes
    for _ in range(5):
        a.node.counter("n").increment()
    world.run(a.node.space("main").flush())
    backup = a.machine.disk.copy()
    for _ in range(5):
        a.node.counter("n").increment()
    world.run_until(converged)
    a.crash()
    a.machine.disk.restore(backup)
    a.restart()
    assert a.node.counter("n").value == 5
    a.node.counter("n").increment(100)  # written before anybody could tell it what it has forgotten
    world.run_until(everybody_sees_everybody, within=10.0)
    world.run_until(converged)
    a.node.counter("n").increment(1000)
    world.run_until(converged)
    values = {each.node.counter("n").value for each in (a, b, c)}
    # The 100 was written under a sequence that others had seen used. It is taken back, or it is proof that this log
    # has two histories, and then both are dropped from the fork on, everywhere.
    assert values in ({1110}, {1010}, {1005}), f"counted {values}"


@scenario(nodes=3, seeds=range(10))
def lying_disk(world: World) -> None:
    """A disk that says durable and forgets: what others had seen comes back, and no sequence stands for two writes."""
    world.run_until(everybody_sees_everybody, within=10.0)
    a = world.nodes[0]
    a.node.counter("n").increment(1)
    world.run_until(converged)
    with a.lying_disk():
        for _ in range(10):
            a.node.counter("n").increment(1)
            world.run_for(0.05)
        world.run_until(converged)
        a.crash()
    a.restart()
    a.node.counter("n").increment(100)
    world.run_until(everybody_sees_everybody, within=10.0)
    world.run_until(converged)
    a.node.counter("n").increment(1000)
    world.run_until(converged)
    values = {each.node.counter("n").value for each in world.nodes}
    assert values in ({1111}, {1011}, {1001}), f"counted {values}"  # as after a restored backup
