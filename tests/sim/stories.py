"""Scenarios over the toy program, for the tests of scenarios, the command line and the determinism check."""

from __future__ import annotations

import os
import random
import uuid

from sim import World, scenario
from tests.sim.toy import Toy


@scenario(nodes=2, program=Toy)
def holds(world: World) -> None:
    """A word said in a cut arrives after it."""
    a, b = world.nodes
    a.node.dial("10.0.0.2:7000")
    world.run_for(0.5)
    with world.partition([a], [b]):
        a.node.say(b"word")
        world.run_for(3.0)
        assert b"word" not in b.node.got
    world.run_until(lambda: b"word" in b.node.got)


@scenario(nodes=2, program=Toy, seeds=range(20))
def breaks_sometimes(world: World) -> None:
    """Whoever is quick enough: breaks for some seeds."""
    a, b = world.nodes
    a.node.dial("10.0.0.2:7000")
    world.run_for(0.5)
    with world.latency(0.05):
        a.node.say(b"quick")
        world.run_for(0.05)
        assert b"quick" in b.node.got, "too slow"


def _say(world: World, word: bytes) -> None:
    """A story whose only fault is what it says."""
    a, _ = world.nodes
    a.node.dial("10.0.0.2:7000")
    world.run_for(0.5)
    a.node.say(word)
    world.run_for(1.0)


@scenario(nodes=2, program=Toy)
def leaks_set_order(world: World) -> None:
    """Says a set of words in the order of their hashes."""
    _say(world, "".join({"alpha", "beta", "gamma", "delta", "epsilon", "zeta"}).encode())


@scenario(nodes=2, program=Toy)
def leaks_identity(world: World) -> None:
    """Says objects in the order of their addresses."""
    things = [object() for _ in range(50)]
    _say(world, bytes(things.index(each) for each in set(things)))


@scenario(nodes=2, program=Toy)
def leaks_entropy(world: World) -> None:
    """Says what the system drew, outside any node."""
    _say(world, uuid.uuid4().bytes + os.urandom(4) + random.randbytes(4))
