"""What can go wrong on the mesh: who, what became of the state, what to do. Fields first, the text is made of them."""

from __future__ import annotations

from collections.abc import Sequence

from transport.base import StorageFault, StorageInUse
from transport.identity import NodeId

StorageFailed = StorageFault  # the seam's word, under the name applications catch


def _names(nodes: Sequence[NodeId]) -> str:
    return ", ".join(node.short for node in nodes) or "nobody"


class MeshError(Exception):
    """Root of this package. State is unchanged unless a subclass says otherwise."""


# -- state -----------------------------------------------------------------------------------------------------------


class SpaceReadOnly(MeshError):
    """The disk refused writes of ``space``: operations ``first`` to ``last`` (0: none) of this node were taken back.

    What others wrote is still received and readable. Writing works again by itself once the disk takes commits.
    """

    def __init__(self, space: str, reason: str, first: int = 0, last: int = 0) -> None:
        lost = f"; its own operations {first} to {last} were taken back" if last else ""
        super().__init__(
            f"space {space!r} takes no writes, its disk refused: {reason}{lost}. "
            "Make room or fix the directory; the space tries again by itself"
        )
        self.space, self.reason, self.first, self.last = space, reason, first, last


class BacklogFull(MeshError):
    """``pending`` bytes already wait for the disk. Nothing was written; ``await space.flush()`` and write again."""

    def __init__(self, space: str, pending: int, pending_max: int) -> None:
        super().__init__(
            f"space {space!r}: {pending} bytes wait for the disk, {pending_max} are allowed. "
            "Nothing was written; `await space.flush()`, then write again"
        )
        self.space, self.pending, self.pending_max = space, pending, pending_max


class TransactionSpansAwait(MeshError):
    """Other code ran while a transaction of ``space`` was open. Nothing of the transaction was kept."""

    def __init__(self, space: str) -> None:
        super().__init__(
            f"a transaction of space {space!r} spans an await; nothing of it was kept. "
            "Await first, then write inside `with space.transaction():` without any await"
        )
        self.space = space


class TooManySpaces(MeshError):
    """This node replicates ``spaces_max`` spaces already. ``space`` was not opened."""

    def __init__(self, space: str, spaces_max: int) -> None:
        super().__init__(f"space {space!r} was not opened: a node holds at most {spaces_max} spaces. Reuse one")
        self.space, self.spaces_max = space, spaces_max


class NotConfirmed(MeshError):
    """Not enough members said in time that their disk has the writes. They are durable here, and keep spreading.

    ``having``: who said so. ``missing``: who counts and did not. ``needed``: how many, this node included.
    """

    def __init__(
        self, space: str, level: str, needed: int, having: Sequence[NodeId], missing: Sequence[NodeId]
    ) -> None:
        super().__init__(
            f"space {space!r} is not confirmed by {level!r}: {len(having)} of {needed} members have it "
            f"({_names(having)}); not heard of: {_names(missing)}. "
            "The writes are durable here and keep spreading; confirm again, or settle for less"
        )
        self.space, self.level, self.needed = space, level, needed
        self.having, self.missing = tuple(having), tuple(missing)


class Closed(MeshError):
    """The node ended. What was durable is on disk; start a node again to go on."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} belongs to a node that has ended; start one again to go on")
        self.what = what


# -- messages --------------------------------------------------------------------------------------------------------


class AmbiguousName(MeshError):
    """``name`` is the name of several members. Nothing was sent; use one's id."""

    def __init__(self, name: str, nodes: Sequence[NodeId]) -> None:
        super().__init__(f"{name!r} is the name of {_names(nodes)}; nothing was sent. Use the id of the one you mean")
        self.name, self.nodes = name, tuple(nodes)


class UnknownMember(MeshError):
    """Nobody of that name or id is known. Nothing was sent."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no member {name!r} is known; nothing was sent. `node.members()` lists who is")
        self.name = name


class ChainTooLong(MeshError):
    """A handler called on, and so did the next, on behalf of ``nodes`` so far. Nothing was sent; look for a circle."""

    def __init__(self, nodes: Sequence[NodeId]) -> None:
        super().__init__(
            f"a call on behalf of {len(nodes)} nodes, one after the other ({_names(nodes)}), was not sent: "
            "most likely handlers that ask each other in a circle"
        )
        self.nodes = tuple(nodes)


class NotReached(MeshError):
    """``node`` is known but there is no way to it at present. Nothing was sent; safe to retry."""

    def __init__(self, node: NodeId, reason: str) -> None:
        super().__init__(f"{node.short} was not reached ({reason}); nothing was sent, it is safe to try again")
        self.node, self.reason = node, reason


class RequestTimeout(MeshError):
    """No reply of ``node`` to ``request`` in ``timeout_s``. Its handler may or may not have run."""

    def __init__(self, node: NodeId, request: str, timeout_s: float) -> None:
        super().__init__(
            f"no reply of {node.short} to {request!r} in {timeout_s:g} s; it may or may not have been handled. "
            "Repeat it only if repeating is harmless"
        )
        self.node, self.request, self.timeout_s = node, request, timeout_s


class NoHandler(MeshError):
    """``node`` has no handler for ``request``. Nothing ran."""

    def __init__(self, node: NodeId, request: str) -> None:
        super().__init__(f"{node.short} has no handler for {request!r}; nothing ran. Register it there with @node.on")
        self.node, self.request = node, request


class AnswerLost(MeshError):
    """The link to ``node`` ended before it answered ``request``. It may or may not have been handled."""

    def __init__(self, node: NodeId, request: str) -> None:
        super().__init__(
            f"the link to {node.short} ended before it answered {request!r}; it may or may not have been handled. "
            "Repeat it only if repeating is harmless"
        )
        self.node, self.request = node, request


class Busy(MeshError):
    """``node`` runs as many handlers as it may. ``request`` was not handled; safe to try again later."""

    def __init__(self, node: NodeId, request: str) -> None:
        super().__init__(f"{node.short} is too busy for {request!r}; nothing ran, it is safe to try again later")
        self.node, self.request = node, request


class BodyInvalid(MeshError):
    """The body is not what the handler ``request`` at ``node`` takes; ``error`` names the field. Nothing ran."""

    def __init__(self, node: NodeId, request: str, error: str) -> None:
        super().__init__(f"{request!r} at {node.short} takes another body: {error}. Nothing ran")
        self.node, self.request, self.error = node, request, error


class Expired(MeshError):
    """There was no room on the link to ``node`` for ``ttl_s``. Nothing was sent."""

    def __init__(self, node: NodeId, ttl_s: float) -> None:
        super().__init__(f"the message to {node.short} was not sent within {ttl_s:g} s, its time to live; nothing was")
        self.node, self.ttl_s = node, ttl_s


class OutboxFull(MeshError):
    """``pending`` bytes of durable messages already wait for their receivers. This one was not taken."""

    def __init__(self, pending: int, pending_max: int) -> None:
        super().__init__(
            f"{pending} bytes of durable messages wait for their receivers, {pending_max} are allowed; "
            "this one was not taken. Send it when some have been handled, or give messages a ttl"
        )
        self.pending, self.pending_max = pending, pending_max


class NoSuchLetter(MeshError):
    """There is no dead letter ``letter_id``. Nothing was sent."""

    def __init__(self, letter_id: str) -> None:
        super().__init__(f"there is no dead letter {letter_id!r}; nothing was sent. `node.dead_letters()` lists them")
        self.letter_id = letter_id


class PublishFull(MeshError):
    """``pending`` bytes already wait to be published. Nothing was; the caller asked for an error rather than a wait."""

    def __init__(self, pending: int, pending_max: int) -> None:
        super().__init__(
            f"{pending} bytes wait to be published, {pending_max} are allowed; nothing was published. "
            "Publish more slowly, or with on_full='wait' or 'drop_oldest'"
        )
        self.pending, self.pending_max = pending, pending_max


class HandlerFailed(MeshError):
    """The handler of ``request`` at ``node`` raised; ``error`` is what it said. Its effects so far stay."""

    def __init__(self, node: NodeId, request: str, error: str) -> None:
        super().__init__(f"the handler of {request!r} at {node.short} failed: {error}")
        self.node, self.request, self.error = node, request, error


__all__ = [
    "AmbiguousName",
    "AnswerLost",
    "BacklogFull",
    "BodyInvalid",
    "Busy",
    "ChainTooLong",
    "Closed",
    "Expired",
    "HandlerFailed",
    "MeshError",
    "NoHandler",
    "NoSuchLetter",
    "NotConfirmed",
    "NotReached",
    "OutboxFull",
    "PublishFull",
    "RequestTimeout",
    "SpaceReadOnly",
    "StorageFailed",
    "StorageFault",
    "StorageInUse",
    "TooManySpaces",
    "TransactionSpansAwait",
    "UnknownMember",
]
