"""Power cuts while writing."""

from __future__ import annotations

from sim.checkers.convergence import converged
from sim.scenario import scenario
from sim.scenarios.split import everybody_sees_everybody
from sim.world import World

ROUNDS = 5


@scenario(nodes=3, seeds=range(20))
def crash(world: World) -> None:
    """Nothing that was flushed is lost, and nothing is counted twice, however often the power goes."""
    world.run_until(everybody_sees_everybody, within=10.0)
    rng = world.seed.stream("story")
    writer = world.nodes[0]
    flushed = written = 0

    async def write() -> None:
        nonlocal flushed, written
        for _ in range(100):
            writer.node.counter("n").increment()
            written += 1
            promised = written
            await writer.node.space("main").flush()
            flushed = promised

    for _ in range(ROUNDS):
        world.start_in(writer, write())
        world.run_for(rng.random() * 0.2)
        writer.crash()
        world.run_for(rng.random() * 20.0)
        writer.restart()
        assert flushed <= writer.node.counter("n").value <= written
        written = writer.node.counter("n").value  # what was not flushed may be gone for good
    world.run_until(converged, within=30.0)
    assert {each.node.counter("n").value for each in world.nodes} == {written}
