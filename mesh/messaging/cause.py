"""What goes beside the calls of one node: begun by what its program does, or following from what it handles."""

from __future__ import annotations

from random import Random
from typing import Any, Protocol, TypeAlias

from mesh.messaging.context import NOTHING, Context, Trace, check_key
from mesh.messaging.handler import handling
from transport.identity import NodeId


class Arrived(Protocol):
    """A message or request that came from somebody."""

    @property
    def sender(self) -> NodeId: ...

    @property
    def context(self) -> Context: ...


Cause: TypeAlias = Arrived | str | None


class Causes:
    """Makes what travels beside each call. ``rng`` draws the ids of traces and spans."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng

    def about(self, cause: Cause, key: str = "") -> bytes:
        """The encoded context of a call that follows from ``cause``, or from what is handled here and now; without
        either a new trace begins. Raises ``ChainTooLong``, and ``ValueError`` for a key."""
        context = self._context(cause)
        trace = context.trace or Trace.begin(self._rng)
        return Context(trace, context.on_behalf_of, check_key(key), context.more).about

    def about_topic(self, cause: Cause) -> bytes:
        """The same for a message to many: nothing where it follows from nothing, since 25 bytes are much there."""
        if cause is None and handling.get() is None:
            return b""
        return self._context(cause).about

    def _context(self, cause: Any) -> Context:
        if isinstance(cause, str):
            trace = Trace.parse(cause)
            return NOTHING if trace is None else Context(trace.follow(self._rng))
        arrived = handling.get() if cause is None else cause
        return NOTHING if arrived is None else arrived.context.handed_on(arrived.sender, self._rng)
