"""A member that is away for hours, and what was written to it meanwhile."""

from __future__ import annotations

from sim.checkers.messages import Letters
from sim.scenario import scenario
from sim.scenarios.split import everybody_sees_everybody
from sim.world import World

AWAY_S, LETTERS, TTL_S, SETTLE_WITHIN_S = 1800.0, 200, 60.0, 120.0


@scenario(nodes=2, seeds=range(20))
def away(world: World) -> None:
    """Who comes back gets what was promised, in order, once; what had less time than that is told to its sender as
    dead, and only what is sent again after that arrives."""
    world.run_until(everybody_sees_everybody, within=10.0)
    here, gone = world.nodes
    post, to, rng = Letters(world), gone.node.id, world.seed.stream("story")
    post.listen(here)
    gone.crash("kept")
    mortal: list[str] = []
    for part in range(4):
        for each in range(LETTERS // 4):
            name = f"{here.name}-{part}-{each}"
            ttl = TTL_S * (0.5 + rng.random()) if each % 5 == 0 else None
            mortal += [name] if ttl else []
            world.run(post.send(here, gone, to, name, ttl))
        world.run_for(AWAY_S / 4)
        if part == 1:  # the sender falls too: what it promised is on its disk
            here.crash("lost")
            world.run_for(1.0)
            here.restart()
            post.listen(here)
    dead = here.node.dead_letters()
    assert sorted(each.body for each in dead) == sorted(mortal), f"{len(dead)} told as dead, {len(mortal)} were due"
    assert {each.reason for each in dead} == {"expired"} and {each.tries for each in dead} == {0}
    gone.restart()
    post.listen(gone)
    world.run_until(post.delivered, within=SETTLE_WITHIN_S)
    world.run_for(5.0)
    post.check()
    seen = set(gone.node.space(f"letters-{gone.name}").value["seen"])
    assert not seen & set(mortal), "what was told as dead arrived"
    again = dead[0]
    world.run(here.node.redeliver(again.id))
    world.run_until(lambda: again.body in gone.node.space(f"letters-{gone.name}").set("seen"), within=30.0)
    assert len(here.node.dead_letters()) == len(dead) - 1
