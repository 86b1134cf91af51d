"""Named points in the code of a node at which its power may go: between an append and its commit, in mid-snapshot, …

They cost nothing in production, because they are not there: the simulator hooks into the live objects of one node. A
bug such as *vote not persisted* was found in 0 of 300 seeds by crashes at random times, and in 4 by crashes at points
(FoundationDB's BUGGIFY; measured on a toy, research/sim.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sim.faults import Fault
from sim.seed import chance

if TYPE_CHECKING:
    from sim.node import SimNode
    from sim.world import World

FIRES = 0.25  # how often an armed point bites when it is passed: FoundationDB's figure


def _writer(node: SimNode) -> Any:
    return node.node._runtime.spaces._replica("main").writer


def _replica(node: SimNode) -> Any:
    return node.node._runtime.spaces._replica("main")


def _folder(node: SimNode) -> Any:
    return node.node._runtime.spaces._replica("main").folder


def _journal(node: SimNode) -> Any:
    return node.node._runtime.spaces.journal


def _transfers(node: SimNode) -> Any:
    return node.node._runtime.spaces._transfers


# name: (whose, which of its methods has just returned)
POINTS: dict[str, tuple[Callable[[SimNode], Any], str]] = {
    "signed, not on disk": (_writer, "seal"),
    "on disk, and being pushed": (_writer, "_on_own_saved"),
    "another's applied, not on disk": (_replica, "_apply"),
    "another's on disk": (_replica, "_on_saved"),
    "a commit begun": (_journal, "_commit"),
    "a fold begun": (_folder, "fold"),
    "a fold in the journal": (_folder, "_rebase"),
    "a snapshot joined, not on disk": (_folder, "join"),
    "in the middle of a snapshot": (_transfers, "take"),
}


def arm(world: World, node: SimNode, point: str, probability: float = FIRES) -> Fault:
    """Cut ``node``'s power the next time it passes ``point``, with this probability each time; once. ``fired`` says
    whether it happened. Only for the present life of the node; ``remove`` disarms."""
    owner_of, name = POINTS[point]
    owner, process = owner_of(node), node.process
    passed, had = getattr(owner, name), vars(owner).get(name)
    fault = world.fault("point", f"{node.name}: {point}")
    fault.asked = False
    if fault.muted:
        return fault
    rng = world.seed.stream(f"point/{node.name}/{fault.key}")

    def hooked(*args: Any, **options: Any) -> Any:
        result = passed(*args, **options)
        if fault.active and not fault.fired and chance(rng, probability):
            fault.fire()
            world.note(f"at the point: {point}", node.name)
            world.loop.at(world.loop.now, crash, world.source)
        return result

    def crash() -> None:
        if node.process is process and node.alive:
            node.crash()

    def unhook() -> None:
        if vars(owner).get(name) is hooked:  # else another point was armed on top of it, and passes it by
            delattr(owner, name) if had is None else setattr(owner, name, had)

    setattr(owner, name, hooked)
    fault.undo_with(unhook)
    return fault
