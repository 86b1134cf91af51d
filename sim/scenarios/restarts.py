"""Nodes that go and come: one after the other, last first, as newcomers, or after a long time."""

from __future__ import annotations

from mesh.config import NodeConfig
from mesh.state.config import StateConfig
from sim.checkers.bounds import check_quiet
from sim.checkers.convergence import check_values, converged
from sim.checkers.overlay import connected
from sim.checkers.stability import check_floors
from sim.scenario import scenario
from sim.scenarios.split import everybody_sees_everybody
from sim.world import World

FOLDING = NodeConfig(state=StateConfig(fold_frames=8, fold_bytes=2048, durable_every_s=0.5))


def _settled(world: World, total: int, within: float = 20.0) -> None:
    world.run_until(everybody_sees_everybody, within=within)
    world.run_until(converged, within=within)
    world.run_until(connected, within=within)
    check_values(world)
    check_floors(world)
    assert {each.node.counter("n").value for each in world.nodes} == {total}


def _restart_each(world: World, order: list[int]) -> None:
    total = 0
    for number in order:
        node = world.nodes[number]
        node.crash()
        for each in world.nodes:
            if each.alive:
                each.node.counter("n").increment()
                total += 1
        world.run_for(2.0)
        node.restart()  # nobody writes any more: what it missed reaches it by repair alone
        world.run_until(converged, within=10.0)
        world.run_until(everybody_sees_everybody, within=10.0)
    _settled(world, total)


@scenario(nodes=4, seeds=range(10))
def rolling_restart(world: World) -> None:
    """Each node loses its power once while the others write, and then has what they wrote."""
    world.run_until(everybody_sees_everybody, within=10.0)
    _restart_each(world, [0, 1, 2, 3])


@scenario(nodes=4, seeds=range(10))
def reverse_restart(world: World) -> None:
    """All are stopped in one order and started in the other: the first one up had seen least, and ends with all."""
    world.run_until(everybody_sees_everybody, within=10.0)
    for node in world.nodes:
        for each in world.nodes:
            if each.alive:
                each.node.counter("n").increment()
                world.run(each.node.space().flush())
        world.run_for(1.0)
        node.crash()
    for node in reversed(world.nodes):
        node.restart()
        node.node.counter("n").increment()
        world.run_for(0.5)
    _settled(world, 4 + 3 + 2 + 1 + 4)


@scenario(nodes=3, seeds=range(10), config=FOLDING)
def late_joiner(world: World) -> None:
    """Who comes after the logs were folded gets a snapshot, joins it with what it wrote alone, and removes nothing."""
    world.run_until(everybody_sees_everybody, within=10.0)
    a, b, c = world.nodes
    for number in range(30):
        for each in (a, b, c):
            each.node.counter("n").increment()
            each.node.set("s").add(f"{each.name}-{number % 10}")
            each.node.set("s").discard(f"{each.name}-{(number + 5) % 10}")
        world.run_for(0.2)
    world.run_for(5.0)
    assert any(log.floor.seq for log in a.node._runtime.spaces._replicas["main"].logs.values()), "nothing was folded"
    shown = set(a.node.set("s"))
    (d,) = world.spawn(1, config=FOLDING)
    d.node.counter("n").increment()
    d.node.set("s").add("d")
    _settled(world, 91)
    assert set(d.node.set("s")) == shown | {"d"}


@scenario(nodes=4, seeds=range(10), config=FOLDING)
def long_offline_writer(world: World) -> None:
    """Cut off for minutes, and written to all the while: its peers keep the logs it may still need, and both sides
    have everything soon after."""
    world.run_until(everybody_sees_everybody, within=10.0)
    away, *others = world.nodes
    total = 0
    for each in world.nodes:
        for _ in range(10):
            each.node.counter("n").increment()
            world.run_for(0.05)
            total += 1
    world.run_for(5.0)
    with world.partition([away], others):
        for number in range(60):
            for each in world.nodes:
                each.node.counter("n").increment()
                each.node.register("r").set(f"{each.name} {number}")
                total += 1
            world.run_for(2.0)
        check_floors(world)
    _settled(world, total)
    world.run_for(10.0)
    check_floors(world)


@scenario(nodes=4, seeds=range(10))
def churn(world: World) -> None:
    """Every few seconds somebody leaves, dies or comes: those who stay agree, and hold links to each other."""
    rng = world.seed.stream("story")
    world.run_until(everybody_sees_everybody, within=10.0)
    total = 0
    for _ in range(8):
        live = [each for each in world.nodes if each.answers]
        node = rng.choice(live)
        node.node.counter("n").increment()
        total += 1
        world.run(node.node.space().confirm("one", 10.0))  # so that it outlives its author
        draw = rng.random()
        if draw < 0.4 or len(live) <= 3:
            world.spawn(1)
        elif draw < 0.7:
            node.crash()
        else:
            node.stop()
        world.run_for(2.0)
    for each in world.nodes:
        if not each.alive:
            each.restart()
    _settled(world, total)


@scenario(nodes=9, seeds=range(5))
def thundering_heal(world: World) -> None:
    """Nine nodes, each cut off from all others and writing, are joined at one moment: soon nothing is left to send."""
    world.run_until(everybody_sees_everybody, within=10.0)
    cuts = [world.partition([each]) for each in world.nodes[:-1]]
    for _ in range(20):
        for each in world.nodes:
            each.node.counter("n").increment()
            each.node.map("m")[each.name] = world.now
        world.run_for(1.0)
    sent = world.network.frames["sent"]
    for cut in cuts:
        cut.remove()
    _settled(world, 180, within=20.0)
    world.run_for(3.0)
    check_quiet(world)
    assert world.network.frames["sent"] - sent < 20_000, "a storm"


@scenario(nodes=3, seeds=range(10), config=FOLDING)
def folded_backup(world: World) -> None:
    """A disk put back to a day whose logs the others have folded since: a snapshot on top of half a state counts
    nothing twice, and brings back nothing that was removed."""
    world.run_until(everybody_sees_everybody, within=10.0)
    a, b, c = world.nodes

    def write(rounds: int) -> None:
        for number in range(rounds):
            for each in (b, c):
                each.node.counter("n").increment()
                each.node.set("s").add(f"{each.name}-{number % 4}")
                each.node.set("s").discard(f"{each.name}-{(number + 2) % 4}")
            world.run_for(0.2)

    write(15)
    world.run_until(converged)
    backup = a.machine.disk.copy()
    write(30)
    world.run_for(5.0)
    assert any(log.floor.seq > 20 for log in b.node._runtime.spaces._replicas["main"].logs.values()), "nothing folded"
    a.crash()
    a.machine.disk.restore(backup)
    a.restart()
    assert a.node.counter("n").value == 30
    a.node.set("s").add("a")
    world.run_until(everybody_sees_everybody, within=20.0)
    world.run_until(converged, within=20.0)
    check_values(world)
    assert {each.node.counter("n").value for each in world.nodes} == {90}
    assert set(a.node.set("s")) == set(b.node.set("s")) >= {"a"}
