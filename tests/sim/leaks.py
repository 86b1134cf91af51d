"""Ten programs that do not obey the seed, each by one leak, for the tests of ``check-determinism``."""

from __future__ import annotations

import asyncio
import threading
import uuid
from asyncio import as_completed  # bound before any world could replace it
from collections.abc import Callable
from datetime import datetime
from random import random
from time import time
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sim import World, scenario
from tests.sim.toy import Toy

TOLD: list[int] = []


class Thing:
    """Hashes by its address, as objects do."""


def set_order() -> bytes:
    return "".join({"alpha", "beta", "gamma", "delta", "epsilon", "zeta"}).encode()


def identity_order() -> bytes:
    things = [Thing() for _ in range(50)]
    return bytes(things.index(each) for each in set(things))


def wall_time() -> bytes:
    return str(time()).encode()


def chance() -> bytes:
    return str(random()).encode()


def now() -> bytes:
    return str(datetime.now()).encode()


def key() -> bytes:
    return Ed25519PrivateKey.generate().public_key().public_bytes_raw()


def thread() -> bytes:
    threading.Thread(target=lambda: None).start()
    return b"never said"


def module_global() -> bytes:
    TOLD.append(1)
    return f"told {len(TOLD)} times".encode()


def _said_by(leak: Callable[[], bytes]) -> Any:
    """A story of two toys, one of which says what leaks, from its own code."""

    @scenario(nodes=2, program=Toy)
    def story(world: World) -> None:
        """Says what no seed decides."""
        a, _ = world.nodes
        a.node.dial("10.0.0.2:7000")
        world.run_for(0.5)

        async def say() -> None:
            a.node.say(leak())

        world.start_in(a, say())
        world.run_for(1.0)

    story.name = leak.__name__.replace("_", "-")
    return story


leaks_set_order = _said_by(set_order)
leaks_identity_order = _said_by(identity_order)
leaks_time = _said_by(wall_time)
leaks_chance = _said_by(chance)
leaks_now = _said_by(now)
leaks_key = _said_by(key)
leaks_thread = _said_by(thread)
leaks_module_global = _said_by(module_global)


@scenario(nodes=2, program=Toy)
def uuid4(world: World) -> None:
    """Says what the system drew, outside any node."""
    a, _ = world.nodes
    a.node.dial("10.0.0.2:7000")
    world.run_for(0.5)
    a.node.say(uuid.uuid4().bytes)
    world.run_for(1.0)


@scenario(nodes=2, program=Toy)
def completed(world: World) -> None:
    """Says in which order the addresses of coroutines let them end."""
    a, _ = world.nodes
    a.node.dial("10.0.0.2:7000")
    world.run_for(0.5)

    async def one(number: int) -> int:
        return number

    async def say() -> None:
        order = [await each for each in as_completed([one(number) for number in range(40)])]
        a.node.say(bytes(order))

    world.start_in(a, say())
    world.run_for(1.0)


assert asyncio.as_completed is as_completed
