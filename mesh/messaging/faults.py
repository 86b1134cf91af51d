"""How a handler's failure travels: a word for the kind, and what became of the question at the other end."""

from __future__ import annotations

from mesh.errors import BodyInvalid, Busy, HandlerFailed, MeshError, NoHandler
from transport.codec import decode_value
from transport.errors import ValueRefused
from transport.identity import NodeId

NO_HANDLER, FAILED, BUSY, INVALID, BODY = "no-handler", "failed", "busy", "invalid", "body"


def failure(peer: NodeId, name: str, error: str, body: bytes) -> MeshError:
    """The error that ``peer`` answered with when it was asked for ``name``; ``body`` is its text as a value."""
    match error:
        case "no-handler":
            return NoHandler(peer, name)
        case "busy":
            return Busy(peer, name)
    try:
        words = str(decode_value(body))
    except ValueRefused as wrong:
        words = f"in words that are no value: {wrong}"
    return BodyInvalid(peer, name, words) if error == BODY else HandlerFailed(peer, name, words)
