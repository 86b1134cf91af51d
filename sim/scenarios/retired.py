"""Logs that are closed: of a member that was away for too long, and while both sides of a cut still write."""

from __future__ import annotations

from typing import TypeVar

from mesh.config import NodeConfig
from mesh.protocol.facts import Fact, LogRenewed, WritesLost, WritesRefused
from mesh.state.config import StateConfig
from sim.checkers.convergence import check_clocks, converged
from sim.node import SimNode
from sim.scenario import scenario
from sim.scenarios.split import everybody_sees_everybody
from sim.world import World

Kind = TypeVar("Kind", bound=Fact)


def kept(each: SimNode) -> int:
    """How many removed things a node keeps for those who may return."""
    return sum(key["removed"] for key in each.node.space("main").stats()["keys"].values())


def hear(each: SimNode, kind: type[Kind]) -> list[Kind]:
    """A list that gets the facts of that kind which a node tells from now on."""
    heard: list[Kind] = []
    each.node.observe(lambda fact: heard.append(fact) if isinstance(fact, kind) else None)
    return heard


TENDING = NodeConfig(state=StateConfig(tend_every_s=5.0, fold_frames=8, fold_bytes=2048, durable_every_s=0.5))


@scenario(nodes=4, seeds=range(200), config=TENDING)
def retired_while_away(world: World) -> None:
    """Retired while cut off and writing: the others forget what was kept for it, and it comes back under a new log."""
    world.run_until(everybody_sees_everybody, within=10.0)
    *others, away = world.nodes
    away.node.counter("n").increment()
    others[0].node.set("s", remove_wins=True).add("x")
    world.run_until(converged)
    with world.partition([away], others):
        for _ in range(3):
            away.node.counter("n").increment(100)  # nobody hears of these
        away.node.set("s", remove_wins=True).add("x")
        others[1].node.set("s", remove_wins=True).discard("x")
        others[1].node.text("t").append("gone")
        others[1].node.text("t").delete(0, 4)
        world.run_for(20.0)
        assert kept(others[0]) > 0  # away may still need it
        others[0].node.retire(away.node.id)
        world.run_until(lambda world: all(kept(each) == 0 for each in others), within=60.0)
        check_clocks(world)
        lost, refused = hear(away, WritesLost), [hear(each, WritesRefused) for each in others]
        renewed = hear(away, LogRenewed)
    world.run_until(everybody_sees_everybody, within=20.0)
    world.run_until(lambda world: bool(renewed) and converged(world), within=60.0)
    assert [each.last - each.first + 1 for each in lost] == [4]
    world.run_for(2.0)  # until that is on disk
    handed_back = away.node.space("main").lost()  # to be written again, if they still matter
    assert [each.fields for each in handed_back[:3]] == [{"amount": 100}] * 3 and len(handed_back) == 4
    assert all(fact.origin.node == away.node.id for facts in refused for fact in facts)
    away.node.counter("n").increment(10)
    world.run_until(converged, within=20.0)
    assert {repr(each.node.space("main").value) for each in world.nodes} == {"{'n': 11}"}


@scenario(nodes=5, seeds=range(200), config=TENDING)
def retired_in_a_split(world: World) -> None:
    """Closed on one side of a cut while its writes are taken in on the other: all end with those, and with one end."""
    world.run_until(everybody_sees_everybody, within=10.0)
    left, (friend, writer) = world.nodes[:3], world.nodes[3:]
    writer.node.counter("n").increment()
    world.run_until(converged)
    with world.partition(left, [friend, writer]):
        writer.node.counter("n").increment(100)
        left[0].node.retire(writer.node.id)
        world.run_for(3.0)
        friend.node.register("seen").set(friend.node.counter("n").value)  # rests on what was written beyond the end
        world.run_for(3.0)
        assert not converged(world)  # the fault did bite
        check_clocks(world)
    world.run_until(everybody_sees_everybody, within=20.0)
    world.run_until(
        lambda world: converged(world) and writer.node.space("main").actor not in friend.node.space("main").retired,
        within=60.0,
    )
    world.run_for(2.0)
    assert writer.node.space("main").lost() == []  # it was handed back, and then taken in after all
    writer.node.counter("n").increment(1000)
    world.run_until(converged, within=30.0)
    assert {each.node.counter("n").value for each in world.nodes} == {1101}
    assert {repr(sorted(each.node.space("main").retired.values())) for each in world.nodes} == {
        repr(sorted(friend.node.space("main").retired.values()))
    }
