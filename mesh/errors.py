"""What can go wrong for a node's user. Every error says who, what became of the state, and what to do."""

from __future__ import annotations

from collections.abc import Sequence

from transport.identity import NodeId


class MeshError(Exception):
    """Root of this package. State is unchanged unless a subclass says otherwise."""


class NodeClosed(MeshError):
    """The node is not running: use it inside ``async with``, or start it. Nothing was done."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}: this node is not running; use it inside 'async with Node(…) as node'")


class UnknownMember(MeshError):
    """No member has this id or name. Nothing was sent."""

    def __init__(self, to: str) -> None:
        super().__init__(f"nobody is called {to!r} here; node.members() lists who is known. Nothing was sent")
        self.to = to


class AmbiguousName(MeshError):
    """Several members have this name: address one of them by id. Nothing was sent."""

    def __init__(self, to: str, candidates: Sequence[NodeId]) -> None:
        ids = ", ".join(str(each) for each in candidates)
        super().__init__(f"{len(candidates)} members are called {to!r}: use one of their ids ({ids}). Nothing was sent")
        self.to, self.candidates = to, tuple(candidates)


class NotReached(MeshError):
    """There is no link to ``peer``. Before anything left: safe to retry. ``sent`` tells whether it may have arrived."""

    def __init__(self, peer: NodeId, *, sent: bool) -> None:
        state = (
            "the link ended before an answer; it may or may not have been handled"
            if sent
            else "not linked; nothing was sent"
        )
        super().__init__(f"{peer.short}: {state}. node.explain() says why it is not reached")
        self.peer, self.sent = peer, sent


class RequestTimeout(MeshError, TimeoutError):
    """No answer in time. It may or may not have been handled; its handler was told to stop."""

    def __init__(self, peer: NodeId, name: str, timeout_s: float) -> None:
        super().__init__(f"{peer.short} did not answer {name!r} within {timeout_s} s; it may or may not have been done")
        self.peer, self.name, self.timeout_s = peer, name, timeout_s


class NoHandler(MeshError):
    """``peer`` has no handler of this name. Nothing was done there."""

    def __init__(self, peer: NodeId, name: str) -> None:
        super().__init__(f"{peer.short} has no handler for {name!r}: register one there with @node.on({name!r})")
        self.peer, self.name = peer, name


class HandlerFailed(MeshError):
    """The handler on ``peer`` raised; its node lives. What it did before that stays done."""

    def __init__(self, peer: NodeId, name: str, detail: str) -> None:
        super().__init__(f"the handler {name!r} on {peer.short} failed: {detail}")
        self.peer, self.name, self.detail = peer, name, detail


class Busy(MeshError):
    """``peer`` runs as many handlers as it may. Nothing was done there; try again later."""

    def __init__(self, peer: NodeId, name: str) -> None:
        super().__init__(f"{peer.short} is too busy for {name!r} now; nothing was done there, try again later")
        self.peer, self.name = peer, name
