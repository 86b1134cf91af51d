"""Members that live and have no link to each other: what their disks hold is known all the same."""

from __future__ import annotations

from mesh.config import NodeConfig
from mesh.protocol.hyparview import HyParViewConfig
from mesh.protocol.stack import StackConfig
from mesh.state.config import StateConfig
from sim.checkers.convergence import converged
from sim.checkers.stability import check_floors
from sim.node import SimNode
from sim.scenario import scenario
from sim.scenarios.split import everybody_sees_everybody
from sim.world import World

FOLDING = NodeConfig(state=StateConfig(fold_frames=40, fold_bytes=1 << 20, durable_every_s=0.5))
FEW_LINKS = HyParViewConfig(full_members_max=4, active_min=3, active_max=4, links_max=5)


def _floor(node: SimNode) -> int:
    """Operations of the space that were folded here."""
    logs = node.node._runtime.spaces._replicas["main"].logs
    return sum(log.floor.seq for log in logs.values())


def _all_folded(world: World) -> bool:
    return all(_floor(each) > 0 for each in world.nodes)


def _write_and_confirm(world: World, writers: list[SimNode], rounds: int) -> None:
    for number in range(rounds):
        for each in writers:
            each.node.counter("n").increment()
            if number % 10 == 5:
                world.run(each.node.space("main").confirm("quorum", timeout=5.0))
                world.run(each.node.space("main").confirm("all", timeout=5.0))
        world.run_for(0.1)
    check_floors(world)


@scenario(nodes=5, seeds=range(10), config=FOLDING)
def missing_links(world: World) -> None:
    """Up to three pairs of five lose their link and stay alive: writes are confirmed by all, and logs are folded."""
    world.run_until(everybody_sees_everybody, within=10.0)
    rng = world.seed.stream("story")
    hub, *others = rng.sample(world.nodes, 5)  # whatever is cut, all stay one component around it
    pairs = [(a, b) for at, a in enumerate(others) for b in others[at + 1 :]]
    cuts = [world.partition([a], [b]) for a, b in rng.sample(pairs, rng.randint(1, 3))]
    world.run_for(5.0)  # until every cut link is given up
    assert everybody_sees_everybody(world), "who has one link is not down"
    _write_and_confirm(world, world.nodes, 40)
    world.run_until(_all_folded, within=10.0)
    for cut in cuts:
        cut.remove()
    world.run_until(converged, within=10.0)
    assert hub.node.counter("n").value == 200
    check_floors(world)


@scenario(nodes=10, seeds=range(10), config=NodeConfig(state=FOLDING.state, stack=StackConfig(hyparview=FEW_LINKS)))
def partial_views(world: World) -> None:
    """Ten members hold three or four links each: a write is confirmed by every disk, and logs are folded."""
    world.run_until(everybody_sees_everybody, within=20.0)
    world.run_for(5.0)
    assert all(len(each.node._runtime.dialer.links) < 6 for each in world.nodes)
    _write_and_confirm(world, world.nodes[:3], 20)
    world.run_until(_all_folded, within=20.0)
    world.run_until(converged, within=10.0)
    check_floors(world)
