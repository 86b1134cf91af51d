"""How a handler's failure travels: a word for the kind, and what became of the message at the other end."""

from __future__ import annotations

import logging
from typing import NamedTuple

from mesh.errors import (
    AnswerLost,
    BacklogFull,
    BodyInvalid,
    Busy,
    HandlerFailed,
    MeshError,
    NoHandler,
    SpaceReadOnly,
    StorageFailed,
)
from mesh.messaging.context import Context
from mesh.messaging.handler import BodyRefused, OutOfTime
from transport.codec import decode_value
from transport.errors import ValueRefused
from transport.identity import NodeId

log = logging.getLogger("gossamer")

NO_HANDLER, FAILED, BUSY, INVALID, BODY = "no-handler", "failed", "busy", "invalid", "body"
LATE, DISK, LOST = "late", "disk", "lost"
DROPPED = {  # how ``node.dropped`` counts a message that was not handled
    NO_HANDLER: "no handler", FAILED: "handler failed", INVALID: "not a value", BODY: "another body",
    LATE: "handler out of time", DISK: "handler failed",
}  # fmt: skip
WORDS_MAX = 1000


class Fault(NamedTuple):
    """What went wrong with one message: a word for its kind, and what to tell."""

    error: str
    words: str


def fault_of(wrong: Exception, what: str, context: Context) -> Fault:
    """What ``wrong`` means, raised by a handler at ``what``; logged, under its trace."""
    where = f" (trace {context.trace.id})" if context.trace else ""
    match wrong:
        case BodyRefused():
            log.warning("%s%s is not what the handler takes: %s", what, where, wrong)
            return Fault(BODY, str(wrong))
        case ValueRefused():
            log.warning("%s%s: %s", what, where, wrong)
            return Fault(INVALID, str(wrong))
        case OutOfTime():
            log.warning("%s%s: %s", what, where, wrong)
            return Fault(LATE, str(wrong))
        case SpaceReadOnly() | BacklogFull() | StorageFailed():  # this node's disk, not the message
            log.warning("the handler failed on %s%s: %s", what, where, wrong)
            return Fault(DISK, str(wrong))
    log.error("the handler failed on %s%s", what, where, exc_info=wrong)
    return Fault(FAILED, shortened(f"{type(wrong).__name__}: {wrong}"))


def shortened(words: str) -> str:
    """At most ``WORDS_MAX`` characters: the beginning, and the end, where the first cause of a chain of them stands."""
    if len(words) <= WORDS_MAX:
        return words
    return words[: WORDS_MAX // 2 - 2] + " … " + words[-(WORDS_MAX // 2 - 2) :]


def failure(peer: NodeId, name: str, error: str, body: bytes) -> MeshError:
    """The error that ``peer`` answered with when it was asked for ``name``; ``body`` is its text as a value."""
    match error:
        case "no-handler":
            return NoHandler(peer, name)
        case "busy":
            return Busy(peer, name)
        case "lost":
            return AnswerLost(peer, name)
    try:
        words = str(decode_value(body))
    except ValueRefused as wrong:
        words = f"in words that are no value: {wrong}"
    return BodyInvalid(peer, name, words) if error == BODY else HandlerFailed(peer, name, words)
