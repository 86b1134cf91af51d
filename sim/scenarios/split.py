"""A cut down the middle, writes on both sides, a heal."""

from __future__ import annotations

from sim.checkers.convergence import check_clocks, converged
from sim.checkers.rounds import demand_rounds
from sim.scenario import scenario
from sim.world import World


@scenario(nodes=5, seeds=range(20))
def split(world: World) -> None:
    """Counts made on each side of a 3|2 split add up after the heal."""
    world.run_until(everybody_sees_everybody, within=10.0)
    left, right = world.nodes[:3], world.nodes[3:]
    with world.partition(left, right):
        for each in (left[0], right[0]):
            each.node.counter("n").increment()
            each.node.set("s").add(each.name)
        world.run_for(30.0)
        assert not converged(world)  # the fault did bite
        check_clocks(world)
    demand_rounds(world, 1, links_within=10.0)
    for each in world.nodes:
        assert each.node.counter("n").value == 2
        assert sorted(each.node.set("s")) == [left[0].name, right[0].name]


def everybody_sees_everybody(world: World) -> bool:
    """Every live node holds every other live node to be alive."""
    live = [each for each in world.nodes if each.answers]
    ids = {each.node.id for each in live}
    return all(ids <= {member.id for member in each.node.members() if member.state == "alive"} for each in live)
