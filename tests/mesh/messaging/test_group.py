"""Groups: who belongs, and who hears what."""

from __future__ import annotations

from typing import Any

import pytest

from sim.node import SimNode
from sim.world import World
from tests.mesh.messaging.conftest import Start


def test_who_belongs_is_known_and_hears(world: World, start: Start) -> None:
    a, b, c = start(3)
    got: dict[str, list[Any]] = {each.name: [] for each in (a, b, c)}

    async def belong(node: SimNode) -> None:
        async with node.node.group("cooks") as group:
            async for message in group:
                got[node.name].append((message.body, message.sender))
                if message.body == "home":
                    break

    tasks = [world.start_in(each, belong(each)) for each in (a, b)]
    world.run_for(1.0)
    cooks = c.node.group("cooks")
    assert cooks.members() == sorted([a.node.id, b.node.id])
    world.run(cooks.send("dinner"))
    world.run_for(1.0)
    assert got == {a.name: [("dinner", c.node.id)], b.name: [("dinner", c.node.id)], c.name: []}
    b.crash()
    world.run_for(20.0)
    assert cooks.members() == [a.node.id]
    world.run(cooks.send("home"))
    world.run_for(1.0)
    assert tasks[0].done() and cooks.members() == []


def test_a_name_that_is_no_level_is_refused(world: World, start: Start) -> None:
    (a,) = start(1)
    for wrong in ("", "a*", "a..b"):
        with pytest.raises(ValueError):
            a.node.group(wrong)
