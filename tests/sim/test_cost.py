"""What a mesh of real nodes does when it has nothing to do: counts, so that no machine's speed matters."""

from __future__ import annotations

from sim import World


def dials(world: World) -> int:
    """Conversations begun so far."""
    network = world.network
    return sum(network.path(a, b).dials for a in network.machines.values() for b in network.machines.values())


def test_a_mesh_above_the_full_one_comes_to_rest() -> None:
    """Whoever was let go by a node with too many links dialled it again at once, was one too many again, and so for
    ever: 160 links a second in a mesh of 30, and no tree for broadcasts that lasted. (Found by bench.sim.)"""
    with World(seed=7) as world:
        nodes = world.spawn(18)
        world.run_for(5.0)
        before = dials(world)
        world.run_for(5.0)
        assert dials(world) == before
        nodes[0].node.counter("n").increment()  # makes its tree
        world.run_for(1.0)
        frames = world.network.frames["sent"]
        nodes[0].node.counter("n").increment()
        world.run_for(0.1)
        pushes = world.network.frames["sent"] - frames
        assert pushes < 6 * len(nodes), "a frame, an ihave or a probe a node, and not one a link"
        assert {each.node.counter("n").value for each in nodes} == {2}
