"""Cuts in three, at birth, one way, and links that come and go."""

from __future__ import annotations

from sim.checkers.convergence import check_clocks, converged
from sim.scenario import scenario
from sim.scenarios.split import everybody_sees_everybody
from sim.world import World


@scenario(nodes=6, seeds=range(10))
def three_way_heal(world: World) -> None:
    """Three islands of two are joined one after the other, and hold one state."""
    world.run_until(everybody_sees_everybody, within=10.0)
    islands = [world.nodes[:2], world.nodes[2:4], world.nodes[4:]]
    ab, bc, ac = (world.partition(islands[one], islands[other]) for one, other in ((0, 1), (1, 2), (0, 2)))
    for each in world.nodes:
        each.node.counter("n").increment()
        each.node.set("s").add(each.name)
    world.run_for(20.0)
    check_clocks(world)
    for cut in (bc, ac, ab):
        assert converged(world) == (cut is ab)  # with two cuts gone, the third island relays
        cut.remove()
        world.run_for(5.0)
    world.run_until(everybody_sees_everybody, within=20.0)
    world.run_until(converged, within=10.0)
    assert {each.node.counter("n").value for each in world.nodes} == {6}


@scenario(nodes=0, seeds=range(10))
def birth_split(world: World) -> None:
    """Nodes that are born cut off from each other find each other when the cut is gone."""
    left = world.spawn(2)
    first = left[0]
    with world.partition(["n1", "n2"], ["n3", "n4", "n5"]):
        right = world.spawn(3)
        first.node.counter("n").increment()
        right[0].node.counter("n").increment()
        world.run_for(15.0)
        assert not converged(world)
    world.run_until(everybody_sees_everybody, within=20.0)
    world.run_until(converged, within=10.0)
    assert first.node.counter("n").value == 2


@scenario(nodes=3, seeds=range(10))
def one_way(world: World) -> None:
    """A link that carries in one direction only: what the one says still reaches the other, over the third."""
    world.run_until(everybody_sees_everybody, within=10.0)
    a, b, _ = world.nodes
    with world.one_way(a, b):
        world.run_for(20.0)
        a.node.counter("n").increment()
        b.node.counter("n").increment()
        world.run_until(converged, within=20.0)
    world.run_until(everybody_sees_everybody, within=20.0)


@scenario(nodes=4, seeds=range(10))
def flapping_link(world: World) -> None:
    """A link that comes and goes every second never stops the mesh, and nobody stays declared dead."""
    world.run_until(everybody_sees_everybody, within=10.0)
    a, b, *_ = world.nodes
    rng = world.seed.stream("story")
    for _ in range(15):
        with world.partition([a], [b]) as cut:
            cut.asked = False  # it may be shorter than a beat
            a.node.counter("n").increment()
            world.run_for(rng.random())
        b.node.counter("n").increment()
        world.run_for(rng.random())
    world.run_until(everybody_sees_everybody, within=15.0)
    world.run_until(converged, within=10.0)
    assert a.node.counter("n").value == 30
