"""A nemesis draws shapes that are what they say, carries out each fault until it has bitten, and leaves the dead."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim import World, shapes
from sim.draws import CLASSES, draw_plan
from sim.nemesis import Nemesis
from sim.plan import Plan, Planned
from sim.trouble import NeverFired
from tests.sim.toy import Toy
from transport.base import SECOND

NAMES = [f"n{number}" for number in range(1, 13)]


def hears(shape: shapes.Shape, names: Sequence[str]) -> dict[str, set[str]]:
    """Whom each one hears, itself included."""
    return {each: {other for other in names if (other, each) not in shape.pairs} for each in names}


@given(count=st.integers(shapes.RING_MIN, 12))
def test_in_a_ring_everybody_hears_a_majority_and_no_two_the_same(count: int) -> None:
    names = NAMES[:count]
    heard = hears(shapes.ring(names), names)
    assert all(len(each) > count // 2 for each in heard.values())
    assert len({frozenset(each) for each in heard.values()}) == count
    assert all(a in heard[b] for b in names for a in names if b in heard[a])
    if count % 2:
        assert all(len(each) <= count // 2 + 2 for each in heard.values())  # as few as can be on both hands alike


def test_three_in_a_ring_would_hear_each_other() -> None:
    with pytest.raises(ValueError, match="4 nodes or more"):
        shapes.ring(NAMES[:3])


@given(seed=st.integers(0, 2**32), count=st.integers(2, 12))
def test_a_drawn_shape_is_what_it_says(seed: int, count: int) -> None:
    names = NAMES[:count]
    kind, *sides = shapes.draw(Random(seed), names)
    shape = shapes.planned((kind, *sides))
    heard = hears(shape, names)
    assert shape.pairs and all(a != b for a, b in shape.pairs)
    if kind == "ring":
        return
    assert sorted(name for side in sides for name in side) == sorted(names) and all(sides)
    match kind:
        case "halves":
            assert abs(len(sides[0]) - len(sides[1])) <= 1
        case "isolate":
            assert heard[sides[0][0]] == set(sides[0])
        case "uneven":
            assert 2 <= len(sides) <= 3
        case "bridge":
            assert heard[sides[0][0]] == set(names)
            assert all(not heard[each] & set(sides[2]) for each in sides[1])
    if kind != "bridge":
        assert all(heard[name] == set(side) for side in sides for name in side)


def test_every_shape_is_drawn() -> None:
    assert {shapes.draw(Random(seed), NAMES[:5])[0] for seed in range(60)} == set(shapes.SHAPES)


@pytest.mark.parametrize("kind", shapes.SHAPES)
def test_a_shape_bites_where_it_says_and_nowhere_else(kind: str) -> None:
    """Everybody says a word to everybody: it arrives exactly where the shape lets it."""
    with World(3, latency=(0.001, 0.001)) as world:
        nodes = world.spawn(5, program=Toy, beat_s=1e6)
        for number, each in enumerate(nodes):
            for other in nodes[number + 1 :]:
                each.node.dial(f"{other.machine.address}:7000")
        world.run_for(0.5)
        names = [each.name for each in nodes]
        parameters: tuple[Any, ...] = next(
            drawn for seed in range(99) if (drawn := shapes.draw(Random(seed), names))[0] == kind
        )
        shape = shapes.planned(parameters)
        with world.partition(shape) as cut:
            for each in nodes:
                each.node.say(each.name.encode())
            world.run_for(0.1)
            got = {each.name: {raw.decode() for raw in each.node.got} | {each.name} for each in nodes}
        assert got == hears(shape, names)
        assert cut.fired >= len(shape.pairs) and len(parameters) >= 2


def test_a_swizzle_clogs_one_after_the_other_and_lets_go_in_another_order() -> None:
    with World(5, keep_trace=True) as world:
        nodes = world.spawn(4, program=Toy, beat_s=0.1)
        for each in nodes[1:]:
            nodes[0].node.dial(f"{each.machine.address}:7000")
        world.run_for(0.5)
        with world.swizzle(8.0, nodes) as fault:
            world.run_for(8.0)
        assert fault.fired
        began, ended = (
            [line.split("/")[1] for line in world.trace.lines() if f"world {what} swizzle/" in line]
            for what in ("begin", "end")
        )
        assert sorted(began) == sorted(ended) == [each.name for each in nodes] and began != ended
        assert not world.network.holding and not world.network.rules


def test_links_flap_and_lose_in_bursts_and_queues_overflow() -> None:
    with World(6) as world:
        a, b = world.spawn(2, program=Toy, beat_s=1e6)
        a.node.dial("10.0.0.2:7000")
        world.run_for(0.2)
        with world.flapping(a, b, down=0.5, up=1.0) as link:
            assert all(world.network.path(a.machine, b.machine).severed() for _ in range(2))
            world.run_for(0.75)
            assert not world.network.path(a.machine, b.machine).severed()
            world.run_for(0.75)
            assert world.network.path(a.machine, b.machine).severed()
        assert link.fired >= 3
        with world.loss(0.05, burst=0.75):
            path, outcomes = world.network.path(a.machine, b.machine), []
            for _ in range(4000):
                outcomes.append(path.judge(100, dict.fromkeys(("lost", "cut", "delayed", "held"), 0)) < 0)
        after = [now for before, now in pairwise(outcomes) if before]
        assert 0.70 < sum(after) / len(after) < 0.80
        with world.bandwidth(10_000, queue_bytes=20_000) as narrow:
            for _ in range(8):
                a.node.say(bytes(10_000))
            world.run_for(0.01)
            assert world.network.frames["lost"] >= 1 and narrow.fired
            world.run_for(30.0)
        assert len(b.node.got) == 8  # lost, and sent again


def test_the_latest_of_two_faults_rules_and_the_first_comes_back() -> None:
    with World(7) as world:
        (a,) = world.spawn(1)
        with a.skew(60.0):
            second = a.skew(3600.0)
            world.run_for(1.0)
            assert a.machine.clock.error(world.loop.now) == 3600 * SECOND
            second.remove()
            assert a.machine.clock.error(world.loop.now) == 60 * SECOND
            world.run_for(1.0)
        assert a.machine.clock.error(world.loop.now) == 0
        first, other = a.pause(2.0), a.pause(4.0)
        world.run_for(3.0)
        assert not first.active and not a.answers
        world.run_for(2.0)
        assert a.answers and other.fired


def test_a_stutter_holds_up_a_part_of_the_time() -> None:
    with World(8) as world:
        a, _ = world.spawn(2, program=Toy, beat_s=0.01)
        with a.stutter(0.4, 1.0) as fault:
            held = 0
            for _ in range(100):
                world.run_for(0.05)
                held += not a.answers
        assert 35 <= held <= 45 and fault.fired > 10 and a.answers


def quiet_world(seed: int) -> World:
    world = World(seed)
    world.spawn(3)
    return world


def test_what_was_drawn_waits_for_its_node_and_until_it_has_bitten() -> None:
    """A pause of a node that is down, and a cut too short for anybody to notice."""
    with quiet_world(1) as world:
        world.planned += [
            Planned(0, 2 * SECOND + 1, "crash", ("n1",), "crash.1"),
            Planned(SECOND, SECOND // 1000, "pause", ("n1",), "pause.1"),
            Planned(SECOND, 1, "partition", ("isolate", ["n2"], ["n3"]), "partition.1"),
        ]
        nemesis = Nemesis(world, world.planned)
        nemesis.run(3.0)
        nemesis.end()
        assert all(each.fired for each in world.faults) and len(world.faults) == 3
        pause, cut = (next(each for each in world.planned if each.name == name) for name in ("pause.1", "partition.1"))
        assert pause.begin >= 2 * SECOND and cut.length > 1  # the plan tells what happened
        again = world.planned[:]
    with quiet_world(1) as other:
        nemesis = Nemesis(other, again)  # as a replay has it
        other.plan = Plan(waits=world.stretched)
        nemesis.run(3.0)
        nemesis.end()
        assert [(each.key, each.fired) for each in other.faults] == [(each.key, each.fired) for each in world.faults]


def test_what_was_drawn_and_cannot_bite_fails_the_run_by_name() -> None:
    with pytest.raises(NeverFired, match=r"drawn and never fired: clog\.1\n"), quiet_world(2) as world:
        world.spawn(1, names=["idle"], program=Toy)
        world.planned += [Planned(0, SECOND, "clog", ("idle", "idle"), "clog.1")]
        nemesis = Nemesis(world, world.planned)
        nemesis.run(1.0)
        nemesis.end()


def test_who_died_for_good_stays_down_and_nothing_is_planned_for_it() -> None:
    classes = ("death", "crash", "clog")
    plans = ((seed, draw_plan(quiet_world(seed), 5.0, classes)) for seed in range(99))
    seed, plan = next(each for each in plans if any(planned.kind == "death" for planned in each[1]))
    death = next(each for each in plan if each.kind == "death")
    (name,) = death.parameters
    assert not [each for each in plan if each.begin > death.begin and name in each.parameters]
    with quiet_world(seed) as world:
        nemesis = Nemesis(world, draw_plan(world, 5.0, classes))
        nemesis.run(5.0)
        nemesis.end()
        assert [each.name for each in world.nodes if not each.alive] == [name]


@pytest.mark.parametrize("kind", CLASSES)
def test_each_class_can_be_carried_out_and_is_undone(kind: str) -> None:
    with quiet_world(4) as world:
        plan = Planned(0, SECOND, kind, CLASSES[kind][2](Random(1), ["n1", "n2", "n3"]), f"{kind}.1")
        nemesis = Nemesis(world, [plan])
        nemesis.run(0.5)
        assert [each for each in world.faults if each.key == plan.name]
        nemesis.end()
        assert not world.network.rules and all(each.machine.disk.refusal() is None for each in world.nodes)
        assert [each.alive for each in world.nodes].count(False) == (kind == "death")
