"""Bounded memory and messages: in a quiet, converged mesh nothing waits any more, and what was said was worth it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sim.checkers.verdict import Violated

if TYPE_CHECKING:
    from sim.world import World

IDLE_PER_LINK_S = 5.0  # conduit messages a second each way on a quiet link: probes, reports (measured: 3.8)
PER_WRITE_AND_PAIR = 1.0  # and for each write: a push, and an ihave between any two (measured: 0.3 to 0.5)


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
        "frames to send": runtime.serving.waiting,
    }


def check_quiet(world: World) -> None:
    """After convergence and a moment of silence: raise ``Violated`` when something still waits somewhere."""
    for each in world.nodes:
        if each.answers and (left := {what: count for what, count in waiting(each.node).items() if count}):
            raise Violated(f"{each.name} is quiet, and there wait: {left}")


def quiet(world: World) -> bool:
    """For ``world.run_until``: a disk that refused is tried again after 15 s at the latest, and then nothing waits."""
    try:
        check_quiet(world)
    except Violated:
        return False
    return True


def check_messages(world: World, writes: int, factor: float = 1.0) -> None:
    """Raise ``Violated`` when the world sent more messages than so many writes and so much time are worth."""
    nodes, sent = len(world.nodes), world.network.frames["sent"]
    allowed = factor * (IDLE_PER_LINK_S * nodes * (nodes - 1) * world.now + PER_WRITE_AND_PAIR * nodes * nodes * writes)
    if sent > allowed:
        raise Violated(f"{sent} messages for {writes} writes in {world.now:.0f} s: {allowed:.0f} are allowed")
