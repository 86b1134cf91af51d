"""A quota that several spend at once: what is shared out is never spent twice."""

from __future__ import annotations

from crdt import BoundExceeded
from sim.checkers.convergence import check_values
from sim.checkers.escrow import check_rights
from sim.checkers.rounds import demand_rounds
from sim.checkers.verdict import Violated
from sim.scenario import scenario
from sim.scenarios.split import everybody_sees_everybody
from sim.world import World

TICKETS, ROUNDS = 60, 40


@scenario(nodes=4, seeds=range(10))
def tickets(world: World) -> None:
    """Four box offices share sixty tickets, are cut off from each other, lose power, and pass tickets on: each ticket
    is sold once, and in the end all are."""
    world.run_until(everybody_sees_everybody, within=10.0)
    rng, sold = world.seed.stream("story"), 0
    world.nodes[0].node.bounded("left").increment(TICKETS)
    world.run(world.nodes[0].node.space().confirm("all", 10.0))

    def sell(rounds: int) -> int:
        done = 0
        for _ in range(rounds):
            office = rng.choice([each for each in world.nodes if each.answers])
            left, wanted = office.node.bounded("left"), rng.randrange(1, 4)
            try:
                left.decrement(wanted)
                done += wanted
            except BoundExceeded:
                if left.rights:
                    left.decrement()
                    done += 1
            if left.rights and rng.random() < 0.5:
                to = rng.choice([each for each in world.nodes if each is not office])
                if to.answers:
                    left.transfer(rng.randrange(1, left.rights + 1), to=to.node.space().actor)
            world.run(office.node.space().flush())  # so that no power cut takes a sale back
            world.run_for(rng.random() * 0.2)
            if check_rights(world, "left") > TICKETS - done - sold:
                raise Violated(f"more than {TICKETS - done - sold} tickets are left of {TICKETS}")
        return done

    sold += sell(10)
    names = rng.sample(world.nodes, 4)
    with world.partition(names[:2], names[2:]):
        sold += sell(ROUNDS // 2)
        names[0].crash()
        sold += sell(ROUNDS // 2)
    names[0].restart()
    demand_rounds(world, 2)
    check_values(world)
    if check_rights(world, "left") != TICKETS - sold:
        raise Violated(f"{sold} were sold of {TICKETS}, and {check_rights(world, 'left')} are left")
    for each in world.nodes:
        mine = each.node.bounded("left")
        mine.decrement(mine.rights)
    demand_rounds(world, 2)
    if any(each.node.bounded("left").value for each in world.nodes):
        raise Violated("some tickets belong to nobody")
