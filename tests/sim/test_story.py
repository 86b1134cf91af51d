"""The thin thread: three real nodes, one cut, one power cut, from a seed, and the same trace in every process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sim import SimNode, World
from sim.checkers import check_clocks, converged
from sim.scenarios.split import everybody_sees_everybody

ROOT = Path(__file__).parents[2]


def story(seed: int, signatures: str = "stand-in") -> tuple[str, dict[str, object]]:
    """Discover, share, cut, write on both sides, heal, agree; crash while writing, restart, agree. Its trace hash."""
    with World(seed, signatures=signatures) as world:  # type: ignore[arg-type]
        a, b, c = world.spawn(3)
        world.run_until(everybody_sees_everybody, within=3.0)

        a.node.counter("hits").increment(3)
        b.node.set("names").add("b")
        c.node.map("lights")["hall"] = "on"
        world.run_until(converged, within=1.0)
        assert c.node.counter("hits").value == 3 and "b" in a.node.set("names") and b.node.map("lights")["hall"] == "on"

        with world.partition([a], [b, c]):
            a.node.counter("hits").increment(10)
            b.node.counter("hits").increment(100)
            a.node.map("lights")["attic"] = "on"
            c.node.set("names").discard("b")
            world.run_for(15.0)
            assert a.node.counter("hits").value == 13 and c.node.counter("hits").value == 103
            assert not converged(world)
            assert [each.state for each in a.node.members()].count("down") == 2
        world.run_until(everybody_sees_everybody, within=5.0)
        world.run_until(converged, within=5.0)
        assert {each.node.counter("hits").value for each in world.nodes} == {113}
        assert a.node.map("lights").value == {"hall": "on", "attic": "on"} and "b" not in a.node.set("names")

        flushed = crash_while_writing(world, b)
        b.restart()
        assert flushed <= b.node.counter("writes").value <= flushed + 2
        world.run_until(everybody_sees_everybody, within=10.0)
        world.run_until(converged, within=10.0)
        check_clocks(world)
        assert len({each.node.counter("writes").value for each in world.nodes}) == 1
        return world.trace_hash, {each.name: each.node.space("main").value for each in world.nodes}


def crash_while_writing(world: World, node: SimNode) -> int:
    """Cut its power in the middle of flushed increments; how many were promised to be durable."""
    flushed = 0

    async def write() -> None:
        nonlocal flushed
        while True:
            node.node.counter("writes").increment()
            await node.node.space("main").flush()
            flushed += 1

    world.start_in(node, write())
    world.run_for(0.05 + world.seed.stream("story").random() * 0.05)
    node.crash()
    assert flushed > 0
    world.run_for(5.0)
    return flushed


@pytest.mark.parametrize("seed", range(5))
def test_three_nodes_survive_a_cut_and_a_crash(seed: int) -> None:
    trace, values = story(seed)
    assert trace and len({str(each) for each in values.values()}) == 1


def test_real_signatures_tell_the_same_story() -> None:
    _, real = story(3, "ed25519")
    assert real["n1"]["hits"] == 113  # type: ignore[index]


def test_one_seed_is_one_trace_in_unlike_processes() -> None:
    program = "from tests.sim.test_story import story; print(story(7)[0])"
    interpreters = [sys.executable, *os.environ.get("GOSSAMER_PYTHONS", "").split()]
    hashes = {
        subprocess.run(
            [python, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONMALLOC": allocator},
            capture_output=True,
            check=True,
            text=True,
            cwd=ROOT,
        ).stdout.strip()
        for python in interpreters
        for hash_seed, allocator in (("1", "malloc"), ("2", "pymalloc"))
    }
    assert hashes == {story(7)[0]}
