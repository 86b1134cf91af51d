"""The stable cut: nobody folds what somebody who counts does not have on disk.

What was folded is no longer a sequence of signed frames, so a fork below it can never be judged again. The oracle looks
into every node at one moment, which no node can; what was true then was so before, since logs on disk only grow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sim.checkers.verdict import Violated

if TYPE_CHECKING:
    from sim.world import World


def check_floors(world: World, space: str = "main") -> None:
    """Raise ``Violated`` when a node folded a log beyond what another one, whose disk is honest, has of it.

    Who has a commit under way is left out: a newcomer writes down just now what the others folded before it came. And a
    node on whose disk a record rotted may fold its space as it stands, to bridge the hole (``mesh.state.bridge``); who
    joined that snapshot stands as high. (A false alarm of chaos, seed 10004.)
    """
    logs: dict[str, Any] = {}
    for each in world.nodes:
        if not each.answers:
            continue
        spaces = each.node._runtime.spaces
        replica = spaces._replicas.get(space)
        if each.name in world.forgetful:
            for origin, log in ({} if replica is None else replica.logs).items():
                world.bridged[space, origin] = max(log.floor.seq, world.bridged.get((space, origin), 0))
        elif spaces.journal.is_idle:
            logs[each.name] = {} if replica is None else replica.logs
    for name, mine in logs.items():
        for origin, log in mine.items():
            if log.floor.seq <= world.bridged.get((space, origin), 0):
                continue
            for other, theirs in logs.items():
                held = theirs[origin].saved.seq if origin in theirs else 0
                if held < log.floor.seq:
                    raise Violated(
                        f"{name} folded {log.actor[:8]} up to {log.floor.seq}; {other} has {held} of it on disk"
                    )
