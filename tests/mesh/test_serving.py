"""What peers pull, end to end: snapshots larger than what may be on its way at once."""

from __future__ import annotations

from mesh.config import NodeConfig
from mesh.messages import CHUNK_BYTES_MAX, PARTS_AHEAD, SnapshotPart
from mesh.serving import STILL_NS
from mesh.state.config import StateConfig
from sim.checkers.convergence import converged
from sim.world import World
from transport.base import SECOND

FOLDING = NodeConfig(state=StateConfig(fold_frames=8, durable_every_s=0.3))


def large(world: World) -> int:
    """One node with a folded space of more than two windows; its snapshot's size."""
    (a,) = world.spawn(1, config=FOLDING)
    for number in range(3 * PARTS_AHEAD):
        a.node.register(f"r{number}").set(bytes(200 << 10))
        world.run_for(0.2)
    world.run_for(3.0)
    return len(a.node._runtime.spaces.snapshot("main"))


def test_a_large_snapshot_comes_part_by_part_as_it_is_pulled() -> None:
    with World(1) as world:
        size = large(world)
        assert size > 2 * PARTS_AHEAD * CHUNK_BYTES_MAX
        b, c = world.spawn(2, config=FOLDING)
        world.run_until(converged, within=20.0)
        assert b.node.space("main").digest() == c.node.space("main").digest()
        serving = world.nodes[0].node._runtime.serving
        assert all(queue.sending is None for queue in serving._queues.values())


def test_a_receiver_that_does_not_pull_is_let_go_and_may_ask_again() -> None:
    with World(2) as world:
        large(world)
        a = world.nodes[0]
        (b,) = world.spawn(1, config=FOLDING)
        transfers, deaf = b.node._runtime.spaces._transfers, True
        take = transfers.take

        def maybe(peer: object, part: SnapshotPart) -> None:
            if not deaf:
                take(peer, part)  # type: ignore[arg-type]

        transfers.take = maybe  # type: ignore[assignment]
        world.run_for(0.2)
        world.run_for(3 * STILL_NS / SECOND)
        deaf = False
        world.run_until(converged, within=60.0)
        assert a.node._runtime.serving.waiting == 0
