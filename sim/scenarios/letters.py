"""Durable messages while machines fall and links are cut."""

from __future__ import annotations

import asyncio

from sim.checkers.messages import Letters
from sim.node import SimNode
from sim.scenario import scenario
from sim.scenarios.split import everybody_sees_everybody
from sim.world import World

ROUNDS, SETTLE_WITHIN_S = 6, 180.0


@scenario(nodes=3, seeds=range(20))
def letters(world: World) -> None:
    """Whoever falls and whatever is cut: what was promised is handled, in a space that counts it exactly once."""
    world.run_until(everybody_sees_everybody, within=10.0)
    post = Letters(world)
    ids = {each.name: each.node.id for each in world.nodes}
    is_over = False

    async def write(node: SimNode, epoch: int) -> None:
        rng = world.seed.stream(f"client/{node.name}/{epoch}")
        number = 0
        while not is_over:
            number += 1
            to = rng.choice([each for each in world.nodes if each is not node])
            await post.send(node, to, ids[to.name], f"{node.name}-{epoch}-{number}")
            await asyncio.sleep(rng.random())

    def begin(node: SimNode, epoch: int) -> None:
        post.listen(node)
        world.start_in(node, write(node, epoch))

    for each in world.nodes:
        begin(each, 0)
    rng = world.seed.stream("story")
    for epoch in range(1, ROUNDS + 1):
        world.run_for(rng.random() * 4.0)
        fallen, *others = rng.sample(list(world.nodes), 3)
        if rng.random() < 0.3:
            with world.partition([fallen], others):
                world.run_for(1.0 + rng.random() * 20.0)  # long enough to bite: nodes probe more often than that
            continue
        fallen.crash("kept" if rng.random() < 0.5 else "lost")
        world.run_for(rng.random() * 10.0)
        fallen.restart()
        begin(fallen, epoch)
    world.run_for(2.0)
    is_over = True
    world.run_until(everybody_sees_everybody, within=60.0)
    world.run_until(post.delivered, within=SETTLE_WITHIN_S)
    world.run_for(5.0)
    post.check()
    world.note(f"{sum(map(len, post.promised.values()))} promised")
