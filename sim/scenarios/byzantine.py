"""Members that lie: what honest nodes hold is true all the same, and reaches every honest node."""

from __future__ import annotations

from sim.byzantine import corrupt
from sim.checkers.convergence import Converged, converged
from sim.checkers.verdict import Violated
from sim.clock import EPOCH
from sim.scenario import scenario
from sim.scenarios.split import everybody_sees_everybody
from sim.world import World
from transport.base import SECOND

HOUR_NS = 3600 * SECOND


def _honest_agree(world: World, liar: str, total: int, within: float = 20.0) -> None:
    agree = Converged(but=(liar,), strict=False)
    honest = [each for each in world.nodes if each.name != liar]
    world.run_until(lambda: all(each.node.counter("n").value >= total for each in honest), within=within)
    world.run_until(agree, within=within)
    for each in honest:
        if each.node.counter("n").value != total:
            raise Violated(f"{each.name} counts {each.node.counter('n').value} where {total} were written")


def _write(world: World, rounds: int, pause_s: float = 0.1) -> int:
    """Every node but the last counts, so many times: how many in all."""
    for _ in range(rounds):
        for each in world.nodes[:-1]:
            each.node.counter("n").increment()
        world.run_for(pause_s)
    return rounds * (len(world.nodes) - 1)


@scenario(nodes=4, seeds=range(10))
def byzantine_relay(world: World) -> None:
    """A relay between two that are cut off from each other changes what it passes on: nobody takes it in."""
    world.run_until(everybody_sees_everybody, within=10.0)
    a, b, c, liar = world.nodes
    with corrupt(world, liar, "mutate"), world.partition([a], [b, c]):
        total = _write(world, 20)
        world.run_for(2.0)
        for each in (a, b, c):
            if each.node.counter("n").value > total:
                raise Violated(f"{each.name} counts {each.node.counter('n').value} where {total} were written")
    _honest_agree(world, liar.name, total)


@scenario(nodes=4, seeds=range(10))
def forgery(world: World) -> None:
    """Frames in others' names are refused, and the forger is cut off; the true frames arrive all the same."""
    world.run_until(everybody_sees_everybody, within=10.0)
    liar = world.nodes[-1]
    with corrupt(world, liar, "forge"):
        total = _write(world, 40)
    _honest_agree(world, liar.name, total)


@scenario(nodes=4, seeds=range(10))
def withholding(world: World) -> None:
    """A relay claims everything and serves nothing: it is passed over, and others are asked."""
    world.run_until(everybody_sees_everybody, within=10.0)
    a, b, c, liar = world.nodes
    slow = world.latency(0.02, between=(c, b))  # so that the liar is heard of first
    with slow, corrupt(world, liar, "withhold"), world.partition([a], [b]):
        total = _write(world, 30)
        _honest_agree(world, liar.name, total, within=20.0)  # the third node relays


@scenario(nodes=5, seeds=range(10))
def equivocation(world: World) -> None:
    """Two histories of one log, each told to half: all honest nodes find out, and drop the same part."""
    world.run_until(everybody_sees_everybody, within=10.0)
    *honest, liar = world.nodes
    liar.node.register("before").set("kept")
    total = _write(world, 5)
    _honest_agree(world, liar.name, total)
    with corrupt(world, liar, "equivocate"):
        for number in range(5):
            liar.node.register("lie").set(number)
            world.run_for(0.3)
        total += _write(world, 5)
    _honest_agree(world, liar.name, total)
    for each in honest:
        shown = each.node.space().value
        if "lie" in shown or "forked" in shown or shown["before"] != "kept":
            raise Violated(f"{each.name} kept a part of two histories: {shown}")


@scenario(nodes=4, seeds=range(10))
def replay_storm(world: World) -> None:
    """Old frames, sent again and again, to nodes that have them and to one that is new: each counts once."""
    world.run_until(everybody_sees_everybody, within=10.0)
    liar = world.nodes[-1]
    with corrupt(world, liar, "replay"):
        total = _write(world, 30)
        world.nodes[0].crash()
        world.run_for(1.0)
        world.nodes[0].restart()
        world.run_for(3.0)
    _honest_agree(world, liar.name, total)


@scenario(nodes=4, seeds=range(5))
def flooding(world: World) -> None:
    """One member begins two hundred logs a second: the others still get each other's writes within seconds."""
    world.run_until(everybody_sees_everybody, within=10.0)
    liar = world.nodes[-1]
    with corrupt(world, liar, "flood"):
        total = _write(world, 10)
        _honest_agree(world, liar.name, total, within=5.0)


@scenario(nodes=3, seeds=range(10))
def quarrel(world: World) -> None:
    """Two that fall out at every new link try again at leisure, and the others hear nothing of it.

    Found by a mutant: each link was up for a moment, which counted as success, so 600 a second were made."""
    world.run_until(everybody_sees_everybody, within=10.0)
    world.run_for(6.0)
    a, _, liar = world.nodes
    dials = world.network.path(a.machine, liar.machine), world.network.path(liar.machine, a.machine)
    before = sum(each.dials for each in dials)
    with corrupt(world, liar, "insult"):
        total = _write(world, 20, pause_s=1.0)
        made = sum(each.dials for each in dials) - before
        if made > 80:
            raise Violated(f"{made} links in 20 s between two that disagree")
        a_and_b = [each.node.counter("n").value for each in world.nodes[:-1]]
        assert a_and_b == [total, total]
    _honest_agree(world, liar.name, total)


@scenario(nodes=4, seeds=range(10))
def end_of_time(world: World) -> None:
    """Writes stamped near the end of time win among concurrent ones, and against nothing that saw them: the honest
    ones' clocks do not follow, and they write on."""
    world.run_until(everybody_sees_everybody, within=10.0)
    a, b, c, liar = world.nodes
    liar.node.register("r").set("before")
    world.run_until(converged)
    with corrupt(world, liar, "future"), world.partition([liar]):
        liar.node.register("r").set("late")
        a.node.register("r").set("beside")
        world.run_for(1.0)
    world.run_until(everybody_sees_everybody, within=20.0)
    world.run_until(converged, within=20.0)
    assert {each.node.register("r").value for each in world.nodes} == {"late"}
    for each in (a, b, c):
        each.node.register("r").set(f"answer of {each.name}")
        world.run_until(converged)
        if (shown := liar.node.register("r").value) != f"answer of {each.name}":
            raise Violated(f"{shown!r} is shown, and the author of the answer had seen that")
    ahead = (a.node.space()._doc.hlc.now >> 16) - world.now * 1000
    if ahead * 1e6 > EPOCH + HOUR_NS:
        raise Violated("an honest clock followed a stamp that is far ahead of its wall clock")
    total = _write(world, 10)
    b.crash()
    b.restart()
    _honest_agree(world, liar.name, total)
