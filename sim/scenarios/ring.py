"""Four nodes in a ring, each shouting to the one across: every way goes through a neighbour that has the same to do."""

from __future__ import annotations

import asyncio

from mesh.config import NodeConfig
from mesh.errors import MeshError
from sim.node import SimNode
from sim.scenario import scenario
from sim.scenarios.split import everybody_sees_everybody
from sim.world import World
from transport.dialing import DialerConfig
from transport.lanes import LanesConfig

BODY_BYTES, FLOOD_S, ANSWERED_WITHIN_S = 200_000, 10.0, 40.0
SMALL = NodeConfig(dialer=DialerConfig(lanes=LanesConfig(window_bytes=1 << 20, outbound_bytes_max=1 << 20)))


@scenario(nodes=4, seeds=range(20), config=SMALL)
def ring(world: World) -> None:
    """Relays whose lanes are full do not wait for each other: what has no room is dropped and counted, and the flood
    over, everybody answers. If taking in waited on handing on, each would wait for the next, all around, for ever."""
    world.run_until(everybody_sees_everybody, within=10.0)
    a, b, c, d = world.nodes
    across = {a: c, b: d, c: a, d: b}
    for each in world.nodes:

        @each.node.on("alive")  # type: ignore[untyped-decorator, unused-ignore]
        async def alive(request: object) -> bool:
            return True

        @each.node.on_message  # type: ignore[untyped-decorator, unused-ignore]
        async def take(message: object) -> None:
            """It came; how many did is not the point."""

    sent = 0

    async def flood(node: SimNode) -> None:
        nonlocal sent
        ends = world.now + FLOOD_S
        while world.now < ends:
            try:
                await node.node.send(across[node].node.id, bytes(BODY_BYTES))
                sent += 1
            except MeshError:
                await asyncio.sleep(0.02)  # full: its own messages take what room there is

    with world.partition([a], [c]), world.partition([b], [d]):
        world.run_for(25.0)
        for each, nearer in ((a, b), (b, c), (c, d), (d, a)):  # all the same way round: the worst that can be
            relay = each.node._runtime.relay
            relay._paths = {across[each].node.id: nearer.node.id}
            relay.heard = lambda member, neighbour: None
        with world.bandwidth(500_000):
            for each in world.nodes:
                world.start_in(each, flood(each))
            world.run_for(FLOOD_S)
        answered: set[str] = set()

        async def ask(node: SimNode) -> None:
            while not await _answers(node, across[node]):  # noqa: ASYNC110
                await asyncio.sleep(0.5)  # nothing tells when a way has room again
            answered.add(node.name)

        for each in world.nodes:
            world.start_in(each, ask(each))
        world.run_until(lambda: len(answered) == 4, within=ANSWERED_WITHIN_S)
    dropped = sum(each.node.dropped.get("no way on", 0) for each in world.nodes)
    assert dropped > 0, "no lane was ever full: nothing was tried"
    world.note(f"{sent} sent, {dropped} dropped by relays")


async def _answers(node: SimNode, other: SimNode) -> bool:
    try:
        return bool(await node.node.request(other.node.id, "alive", timeout=5.0))
    except MeshError:
        return False
