"""Bounded memory and messages: in a quiet, converged mesh nothing waits any more, and what was said was worth it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sim.checkers.verdict import Violated

if TYPE_CHECKING:
    from sim.world import World

FRAMES_PER_WRITE_MAX = 60.0  # conduit messages of all nodes, acknowledgements and probes included (measured: 10 to 25)


def waiting(node: Any) -> dict[str, int]:
    """What still waits in a node, by queue: all zero when it is quiet."""
    runtime = node._runtime
    stack, spaces = runtime.stack, runtime.spaces
    return {
        "frames to verify": len(spaces._intake._queue) + len(spaces._intake._checked),
        "frames set aside": sum(len(each.aside) for each in spaces._replicas.values()),
        "frames not on disk": sum(len(log.unsaved) for each in spaces._replicas.values() for log in each.logs.values()),
        "bytes for the disk": spaces.journal.backlog,
        "snapshots half here": len(spaces._transfers),
        "logs lacking": len(stack.logs.lacking),
        "logs asked for": len(stack.logs.asked),
        "logs to ask for": len(stack.repair._queue),
        "grafts due": len(stack.tree._waits),
        "frames to send": sum(len(each.ready) + len(each.wanted) for each in runtime._serving.values()),
    }


def check_quiet(world: World) -> None:
    """After convergence and a moment of silence: raise ``Violated`` when something still waits somewhere."""
    for each in world.nodes:
        if each.answers and (left := {what: count for what, count in waiting(each.node).items() if count}):
            raise Violated(f"{each.name} is quiet, and there wait: {left}")


def check_messages(world: World, writes: int, allowed: float = FRAMES_PER_WRITE_MAX) -> None:
    """Raise ``Violated`` when the world sent more than ``allowed`` messages a write."""
    sent = world.network.frames["sent"]
    if writes and sent > allowed * writes:
        raise Violated(f"{sent} messages for {writes} writes: {sent / writes:.1f} each, {allowed:g} are allowed")
