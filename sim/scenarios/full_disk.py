"""A disk that takes nothing: writes are refused by name, nothing half-written is shown, and it goes on by itself."""

from __future__ import annotations

from mesh.errors import MeshError
from sim.checkers.convergence import converged
from sim.scenario import scenario
from sim.scenarios.split import everybody_sees_everybody
from sim.world import World


@scenario(nodes=3, seeds=range(10))
def full_disk(world: World) -> None:
    """While its disk is full a node refuses writes and says so; what it lost nobody saw; later it writes again."""
    world.run_until(everybody_sees_everybody, within=10.0)
    full, *others = world.nodes
    full.node.counter("n").increment()
    world.run(full.node.space("main").flush())
    refused = False
    with full.failing_disk():
        for _ in range(20):
            try:
                full.node.counter("n").increment()
                world.run(full.node.space("main").flush(), within=5.0)
            except MeshError:
                refused = True
            others[0].node.counter("n").increment()
            world.run_for(0.1)
        assert refused, "a full disk took writes"
    world.run_for(10.0)
    full.node.counter("n").increment()  # the disk has room again
    world.run(full.node.space("main").flush(), within=5.0)
    world.run_until(converged, within=20.0)
    assert {each.node.counter("n").value for each in world.nodes} == {22}
