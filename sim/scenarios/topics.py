"""Topics while the network does its worst."""

from __future__ import annotations

import asyncio

from mesh.config import NodeConfig
from mesh.messaging.config import MessagingConfig
from sim.checkers.messages import Reader
from sim.node import SimNode
from sim.scenario import scenario
from sim.scenarios.split import everybody_sees_everybody
from sim.world import World

FAULTS_S, SETTLE_WITHIN_S = 40.0, 60.0


SMALL = NodeConfig(messaging=MessagingConfig(window_bytes=1 << 20))  # so that a long cut costs messages


@scenario(nodes=4, seeds=range(20), config=SMALL)
def topics(world: World) -> None:
    """Cut, slowed, paused and clogged, every reader gets each message once and in order, or counts it as dropped."""
    world.run_until(everybody_sees_everybody, within=10.0)
    world.run_for(3.0)  # everybody has joined: from now on what is published is for all
    readers = [Reader(world, each) for each in world.nodes]
    world.run_for(0.1)
    published: set[str] = set()
    is_over = False

    async def publish(node: SimNode) -> None:
        rng = world.seed.stream(f"client/{node.name}")
        number = 0
        while not is_over:
            for _ in range(rng.randrange(5)):
                number += 1
                body = f"{node.name}-{number}-{'x' * rng.randrange(20_000)}"
                published.add(body)
                await node.node.publish(f"from.{node.name}", body, priority=rng.choice(("high", "normal")))
            await asyncio.sleep(rng.random() * 0.5)

    for each in world.nodes:
        world.start_in(each, publish(each))
    rng = world.seed.stream("story")
    ends = world.now + FAULTS_S
    while world.now < ends:
        nodes = list(world.nodes)
        rng.shuffle(nodes)
        fault = (
            lambda nodes: world.partition(nodes[:1], nodes[1:]),
            lambda nodes: world.partition(nodes[:2], nodes[2:]),
            lambda nodes: world.clog(nodes[0], nodes[1]),
            lambda nodes: world.bandwidth(100_000),
            lambda nodes: nodes[0].pause(2.0),
        )[rng.randrange(5)](nodes)
        with fault:
            world.run_for(1.0 + rng.random() * 12.0)
        world.run_for(rng.random() * 4.0)
    is_over = True

    def arrived(world: World) -> bool:
        return all(len(each.bodies) + each.dropped >= len(published) for each in readers)

    world.run_until(arrived, within=SETTLE_WITHIN_S)
    world.run_for(5.0)  # what comes now came twice
    for reader in readers:
        reader.check(published)
    world.note(f"{len(published)} published; dropped {[each.dropped for each in readers]}")
