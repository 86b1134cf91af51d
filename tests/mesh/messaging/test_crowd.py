"""Twenty nodes, three hundred messages a second, each in a frame of its own: everybody reads all, hardly twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any
from unittest.mock import patch

from mesh.messaging.topic import Topics
from sim import World
from transport.identity import NodeId

NODES, RATE, MESSAGES = 20, 300, 40  # thirty and thousands are for `python -m bench relay`


def test_everybody_reads_each_message_and_receives_it_twice_at_most() -> None:
    """Beyond 12 members a frame goes along a tree; what a node receives beyond one copy is the price of its trust."""
    received: Counter[NodeId] = Counter()
    receive = Topics.receive

    def counted(self: Topics, *frame: Any) -> None:
        received[self._identity.id] += 1
        receive(self, *frame)

    with World(seed=3) as world, patch.object(Topics, "receive", counted):
        nodes = world.spawn(NODES)
        world.run_until(lambda _: all(len(each.node.members()) == NODES for each in nodes), within=30.0)
        world.run_for(1.0)
        got: Counter[str] = Counter()

        async def read(name: str, node: Any) -> None:
            async with node.subscribe("**") as messages:
                async for _ in messages:
                    got[name] += 1

        async def publish(count: int) -> None:
            for number in range(count):
                await nodes[0].node.publish("crowd", number, priority="high")
                await asyncio.sleep(1 / RATE)

        for each in nodes:
            world.start_in(each, read(each.name, each.node))
        world.run_for(0.1)
        world.run(publish(MESSAGES))  # the tree finds itself
        world.run_for(0.5)
        received.clear()
        world.run(publish(MESSAGES))
        world.run_for(0.5)
        assert set(got.values()) == {2 * MESSAGES} and len(got) == NODES
        copies = [received[each.node.id] / MESSAGES for each in nodes[1:]]
        print(f"copies: at most {max(copies):.2f}, {sum(copies) / len(copies):.2f} on average")
        assert max(copies) <= 2.0
