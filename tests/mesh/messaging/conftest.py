"""A world with a seed, for the tests of this room."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sim.scenarios.split import everybody_sees_everybody
from sim.world import SimNode, World

Start = Callable[..., list[SimNode]]


@pytest.fixture
def world() -> Iterator[World]:
    with World(seed=11) as world:
        yield world


@pytest.fixture
def start(world: World) -> Start:
    """Spawn so many nodes, and let them find each other."""

    def spawn(count: int, **options: Any) -> list[SimNode]:
        nodes = list(world.spawn(count, **options))
        world.run_until(everybody_sees_everybody, within=10.0)
        return nodes

    return spawn
