"""Questions, messages and streams while links are cut, machines fall, and two nodes never see each other directly."""

from __future__ import annotations

import asyncio

from sim.checkers.calls import Calls
from sim.node import SimNode
from sim.scenario import scenario
from sim.scenarios.split import everybody_sees_everybody
from sim.world import World

ROUNDS, ANSWERED_WITHIN_S = 3, 60.0


@scenario(nodes=4, seeds=range(20))
def calls(world: World) -> None:
    """Whatever is cut and whoever falls, a caller is told the truth; and afterwards everybody answers everybody, also
    those two that have no link to each other."""
    world.run_until(everybody_sees_everybody, within=10.0)
    checker = Calls(world)
    ids = {each.name: each.node.id for each in world.nodes}
    is_over = False

    async def call(node: SimNode, epoch: int) -> None:
        rng = world.seed.stream(f"client/{node.name}/{epoch}")
        while not is_over:
            to = ids[rng.choice([each.name for each in world.nodes if rng.random() < 0.1 or each is not node])]
            await rng.choice((checker.ask, checker.insist, checker.tell, checker.tell, checker.read))(node, to)
            await asyncio.sleep(rng.random())

    def begin(node: SimNode, epoch: int) -> None:
        checker.serve(node)
        for each in range(2):
            world.start_in(node, call(node, epoch * 2 + each))

    for each in world.nodes:
        begin(each, 0)
    rng = world.seed.stream("story")
    one, other = rng.sample(list(world.nodes), 2)
    with world.partition([one], [other]):
        for epoch in range(1, ROUNDS + 1):
            world.run_for(rng.random() * 10.0)
            fallen, *others = rng.sample(list(world.nodes), 4)
            if rng.random() < 0.5:
                with world.partition([fallen], others[:2]):
                    world.run_for(1.0 + rng.random() * 20.0)
                continue
            fallen.crash("drawn")
            world.run_for(rng.random() * 10.0)
            fallen.restart()
            begin(fallen, epoch)
        world.run_for(25.0)  # by now nothing is left of the link between the two
        is_over = True
        world.run_for(5.0)
        answered: set[tuple[str, str]] = set()

        async def ask_all(node: SimNode) -> None:
            for each in world.nodes:
                to = ids[each.name]
                while not (await checker.ask(node, to) and await checker.read(node, to)):  # noqa: ASYNC110
                    await asyncio.sleep(1.0)  # nothing tells when a way comes back
                answered.add((node.name, each.name))

        for each in world.nodes:
            world.start_in(each, ask_all(each))
        world.run_until(lambda: len(answered) == len(world.nodes) ** 2, within=ANSWERED_WITHIN_S)
    checker.check()
    world.note(f"{len(checker.answered)} answered, {len(checker.refused)} refused")
