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
    """Whoever falls and whatever is cut: what was promised is handled in order, in a space that counts it exactly once,
    or its time was up and its sender is told."""
    world.run_until(everybody_sees_everybody, within=10.0)
    post = Letters(world)
    ids = {each.name: each.node.id for each in world.nodes}
    is_over = False

    async def write(node: SimNode, epoch: int) -> None:
        rng = world.seed.stream(f"client/{node.name}/{epoch}")
        number = 0
        while not is_over:
            to = rng.choice([each for each in world.nodes if each is not node])
            for _ in range(rng.randrange(1, 12)):  # many at once, so that whoever falls has some of them half done
                number += 1
                ttl = rng.uniform(2.0, 20.0) if rng.random() < 0.1 else None
                await post.send(node, to, ids[to.name], f"{node.name}-{epoch}-{number}", ttl)
            await asyncio.sleep(rng.random())

    def begin(node: SimNode, epoch: int) -> None:
        post.listen(node)
        world.start_in(node, write(node, epoch))

    for each in world.nodes:
        begin(each, 0)
    rng = world.seed.stream("story")
    world.latency(0.02)  # so long a receipt is on its way
    for each in world.nodes:
        each.slow_disk(0.02)
    for epoch in range(1, ROUNDS + 1):
        world.run_for(rng.random() * 4.0)
        fallen, *others = rng.sample(list(world.nodes), 3)
        if rng.random() < 0.3:
            with world.partition([fallen], others):
                world.run_for(1.0 + rng.random() * 20.0)  # long enough to bite: nodes probe more often than that
            continue
        before, ends = post.handled(fallen), world.now + 2.0
        while post.handled(fallen) == before and world.now < ends:
            world.run_for(0.01)
        fallen.crash("kept" if rng.random() < 0.5 else "lost")  # just then: its receipt is not there yet
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
