"""Things that are slow, full, late or wrong, and still work."""

from __future__ import annotations

from mesh.config import NodeConfig
from mesh.errors import MeshError
from sim.checkers.bounds import check_quiet
from sim.checkers.convergence import check_values, converged
from sim.checkers.verdict import Violated
from sim.checkers.winners import Winners
from sim.scenario import scenario
from sim.scenarios.split import everybody_sees_everybody
from sim.world import World
from transport.base import FRAME_BYTES_MAX
from transport.dialing import DialerConfig
from transport.lanes import LanesConfig

DETOUR_WITHIN_S = 0.4  # a graft waits three round trips; without it repair would take half a second and more
NARROW = NodeConfig(
    dialer=DialerConfig(lanes=LanesConfig(window_bytes=FRAME_BYTES_MAX, outbound_bytes_max=FRAME_BYTES_MAX))
)


@scenario(nodes=4, seeds=range(10))
def detour(world: World) -> None:
    """A cable between two is cut and nobody has noticed: a write takes the way round in a fraction of a second."""
    world.run_until(everybody_sees_everybody, within=10.0)
    world.run_for(2.0)
    a, b, *_ = world.nodes
    a.node.counter("n").increment()
    world.run_until(converged)
    with world.partition([a], [b]):
        a.node.counter("n").increment()
        world.run_until(lambda: b.node.counter("n").value == 2, within=DETOUR_WITHIN_S)
    world.run_until(everybody_sees_everybody, within=10.0)


@scenario(nodes=4, seeds=range(10))
def freeze(world: World) -> None:
    """A process stands still for eight seconds: it is declared down, comes back, and everybody believes it again."""
    world.run_until(everybody_sees_everybody, within=10.0)
    frozen, *others = world.nodes
    frozen.pause(8.0)
    world.run_for(7.5)
    others[0].node.counter("n").increment()
    states = {member.state for each in others for member in each.node.members() if member.name == frozen.name}
    assert states == {"down"}, f"a frozen node is {states}"
    world.run_until(everybody_sees_everybody, within=15.0)
    world.run_until(converged, within=10.0)


@scenario(nodes=4, seeds=range(10))
def hiccup(world: World) -> None:
    """Whoever is slow to answer for a second or two is doubted at most: it answers for itself, and nobody drops it."""
    world.run_until(everybody_sees_everybody, within=10.0)
    rng = world.seed.stream("story")
    for _ in range(4):
        node = rng.choice(world.nodes)
        pause = node.pause(0.9 + rng.random())
        world.run_for(4.0)
        pause.asked = False
    world.run_until(everybody_sees_everybody, within=5.0)


@scenario(nodes=3, seeds=range(3), config=NARROW)
def overload(world: World) -> None:
    """Ten times more is written than a link takes at once: it queues within its bounds, and all of it arrives."""
    world.run_until(everybody_sees_everybody, within=10.0)
    a, b, c = world.nodes
    with world.bandwidth(2_000_000):
        for number in range(40):
            try:
                a.node.register(f"r{number}").set("x" * 200_000)
            except MeshError:
                pass  # refused by name: that is the bound
            world.run_for(0.05)
        waits = max(link._lanes.queued(lane) for link in a.node._runtime.dialer.links.values() for lane in range(4))
        if waits > 2 * FRAME_BYTES_MAX:
            raise Violated(f"{waits} bytes wait in a lane that takes {FRAME_BYTES_MAX}")
        b.node.counter("n").increment()
        world.run_until(converged, within=60.0)
    world.run_for(3.0)
    check_quiet(world)
    assert c.node.register("r39").value is not None


@scenario(nodes=3, seeds=range(10))
def clock_strobe(world: World) -> None:
    """A wall clock jumps to and fro between a day ago and years ahead: no write loses to one its author had seen."""
    world.run_until(everybody_sees_everybody, within=10.0)
    rng, winners = world.seed.stream("story"), Winners()
    written = []
    for number in range(40):
        node = rng.choice(world.nodes)
        node.skew(rng.choice((-86_400.0, -3.0, 3.0, 3e7, 9e8))).asked = False
        register = node.node.register("r")
        saw, value = register.value, f"{node.name} {number}"
        register.set(value)
        winners.wrote("r", value, saw)
        written.append(value)
        world.run_for(rng.random() * 0.05)
        for each in world.nodes:
            clock = each.node.space().clock
            if all(clock == other.node.space().clock for other in world.nodes):
                winners.demand("r", each.node.register("r").value, set(written))
    world.run_until(converged)
    check_values(world)
    for each in world.nodes:
        winners.demand("r", each.node.register("r").value, set(written))


@scenario(nodes=3, seeds=range(10))
def slow_disk(world: World) -> None:
    """A disk that takes a second for each commit slows its own node's promises, and nobody else's."""
    world.run_until(everybody_sees_everybody, within=10.0)
    slow, *others = world.nodes
    with slow.slow_disk(1.0):
        for _ in range(20):
            for each in world.nodes:
                each.node.counter("n").increment()
            world.run_for(0.05)
        for each in others:
            world.run(each.node.space().flush(), within=0.2)
        world.run_for(0.2)
        assert all(each.node.counter("n").value >= 40 for each in world.nodes)
        world.run(slow.node.space().flush(), within=60.0)
    world.run_until(converged, within=20.0)
    assert {each.node.counter("n").value for each in world.nodes} == {60}


@scenario(nodes=3, seeds=range(10))
def torn_journal(world: World) -> None:
    """The power goes in the middle of a commit: whatever part of it is on disk, what was promised is there, and nobody
    has seen what its author forgot."""
    world.run_until(everybody_sees_everybody, within=10.0)
    a = world.nodes[0]
    for number in range(6):
        a.node.counter("n").increment()
        world.run(a.node.space().flush())
        promised = a.node.counter("n").value
        with a.slow_disk(0.05) as slow:
            slow.asked = False
            for _ in range(10):
                a.node.counter("n").increment()
            world.run_for(0.005)
            a.crash(disk=("lost", "torn")[number % 2])
        world.run_for(1.0)
        a.restart()
        assert a.node.counter("n").value >= promised
    world.run_until(everybody_sees_everybody, within=10.0)
    world.run_until(converged, within=20.0)
    if any(each.node.counter("n").value < promised for each in world.nodes):
        raise Violated(f"{promised} were promised: {[each.node.counter('n').value for each in world.nodes]}")
