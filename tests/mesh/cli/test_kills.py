"""``kill -9`` at random moments, while three real processes write as fast as they can."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

from mesh.cli.errors import ControlError
from mesh.cli.stage import Player, Stage, eventually

KILLS = 4  # one costs about 2 s; a hundred were tried by hand


async def test_nothing_acknowledged_is_lost_and_nothing_counted_twice() -> None:
    rng = Random(7)
    acknowledged = unsure = 0
    async with Stage() as stage:
        players = [stage.player(name) for name in ("a", "b", "c")]
        await asyncio.gather(*(each.start() for each in players))
        for _ in range(KILLS):
            victim = rng.choice(players)
            others = [each for each in players if each is not victim]
            over = asyncio.Event()
            writing = [asyncio.create_task(write(each, over)) for each in players]
            await asyncio.sleep(rng.uniform(0.0, 0.2))  # the random moment
            await victim.kill()
            assert await eventually(lambda others=others, victim=victim: sees_down(others, victim), 1.0)
            over.set()
            for count, was_cut in await asyncio.gather(*writing):
                acknowledged, unsure = acknowledged + count, unsure + was_cut
            await victim.start()
            value = await eventually(lambda: agreed(players), 10.0)
            assert acknowledged <= value <= acknowledged + unsure


async def write(player: Player, over: asyncio.Event) -> tuple[int, int]:
    """How many increments were acknowledged, and whether one was cut off unanswered: it may count or not."""
    count = 0
    while not over.is_set():
        try:
            await player.ask("incr", key="n", amount=1)
        except ControlError:
            return count, 1
        count += 1
    return count, 0


async def sees_down(others: list[Player], victim: Player) -> bool:
    return all([(await each.states()).get(victim.name) == "down" for each in others])


async def agreed(players: list[Player]) -> Any:
    """The count, once all have the same digest."""
    dumps = [await each.ask("dump") for each in players]
    return dumps[0]["value"].get("n") if len({each["digest"] for each in dumps}) == 1 else None
