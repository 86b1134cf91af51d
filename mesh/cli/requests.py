"""What may be asked of a running node through its control socket: one structure a request, decoded with bounds."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

Key: TypeAlias = Annotated[str, Meta(min_length=1, max_length=512)]
Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=256)]
Amount: TypeAlias = Annotated[int, Meta(ge=-(1 << 62), le=1 << 62)]
Seconds: TypeAlias = Annotated[float, Meta(gt=0, le=86_400)]
Level: TypeAlias = Literal["one", "quorum", "all"]


class Request(msgspec.Struct, frozen=True, tag_field="do", kw_only=True):
    """Root of them all; ``do`` on the wire is the name of the request."""


class Status(Request, frozen=True, tag="status"):
    """Who the node is, and how it fares."""


class Members(Request, frozen=True, tag="members"):
    """Everybody it knows, itself included."""


class Explain(Request, frozen=True, tag="explain"):
    """Why it reached whom, or did not."""


class Leave(Request, frozen=True, tag="leave"):
    """Tell the others, then end the process."""


class Retire(Request, frozen=True, tag="retire"):
    """A member does not come back: close what it wrote."""

    member: Name


class Get(Request, frozen=True, tag="get"):
    """The value under ``key``."""

    key: Key
    space: Name = "main"


class Keys(Request, frozen=True, tag="keys"):
    """The keys of a space that begin with ``prefix``, at most a thousand: for a shell that completes."""

    prefix: Annotated[str, Meta(max_length=512)] = ""
    space: Name = "main"


class Write(Request, frozen=True, kw_only=True):
    """A change of one key. Answered once it is durable here and, with ``confirm``, held by others."""

    key: Key
    space: Name = "main"
    confirm: Level | None = None
    timeout: Seconds = 10.0


class Put(Write, frozen=True, tag="put"):
    """Set a register."""

    value: Any


class Increment(Write, frozen=True, tag="incr"):
    """Add to a counter; a negative amount is taken from it."""

    amount: Amount = 1


class Add(Write, frozen=True, tag="add"):
    """Put into a set."""

    value: Any


class Remove(Write, frozen=True, tag="remove"):
    """Take out of a set."""

    value: Any


class Field(Write, frozen=True, tag="field"):
    """Set one entry of a map."""

    field: Key
    value: Any


class Text(Request, frozen=True, tag="text"):
    """The text under ``key``, "" if nothing is there."""

    key: Key
    space: Name = "main"


class Edit(Write, frozen=True, tag="edit"):
    """Make the changes to a text that lead from ``base`` to ``new``."""

    base: str
    new: str


class Delete(Write, frozen=True, tag="delete"):
    """Remove a key and what is under it."""


class Dump(Request, frozen=True, tag="dump"):
    """All of a space: value, clock and digest."""

    space: Name = "main"


class Digest(Request, frozen=True, tag="digest"):
    """The digest of a space."""

    space: Name = "main"


class Watch(Request, frozen=True, tag="watch"):
    """Changes from now on: a stream."""

    key: Key | None = None
    space: Name = "main"


class Send(Request, frozen=True, tag="send"):
    """A message to one node; ``durable``: answered with its id once it is on disk, else with an empty one."""

    to: Name
    body: Any
    durable: bool = False
    ttl: Annotated[float, Meta(gt=0, le=10**9)] | None = None
    priority: Literal["high", "normal", "low"] = "normal"
    key: Annotated[str, Meta(max_length=128)] = ""


class Ask(Request, frozen=True, tag="request"):
    """A question to a handler of one node, and its answer."""

    to: Name
    name: Name
    body: Any
    timeout: Seconds = 10.0
    key: Annotated[str, Meta(max_length=128)] = ""


class Publish(Request, frozen=True, tag="publish"):
    """A message to whoever subscribed."""

    topic: Name
    body: Any


class Subscribe(Request, frozen=True, tag="subscribe"):
    """Messages on topics from now on: a stream, in which ``{"dropped": n}`` counts what did not arrive."""

    pattern: Name


class DeadLetters(Request, frozen=True, tag="dead-letters"):
    """Durable messages that were given up."""


class Redeliver(Request, frozen=True, tag="redeliver"):
    """Send one of them again; answered with its new id."""

    letter: Name


class Cut(Request, frozen=True, tag="cut"):
    """Hear and tell these nodes nothing more (``up --chaos`` only)."""

    nodes: Annotated[list[Name], Meta(max_length=1024)]


class Heal(Request, frozen=True, tag="heal"):
    """End what ``Cut`` began (``up --chaos`` only)."""


AnyRequest: TypeAlias = (
    Status | Members | Explain | Leave | Retire
    | Get | Keys | Put | Increment | Add | Remove | Field | Text | Edit | Delete | Dump | Digest | Watch
    | Send | Ask | Publish | Subscribe | DeadLetters | Redeliver | Cut | Heal
)  # fmt: skip

_decoder: msgspec.msgpack.Decoder[AnyRequest] = msgspec.msgpack.Decoder(AnyRequest)


def decode(raw: bytes) -> AnyRequest:
    """The request in ``raw``. Raises ``msgspec.MsgspecError`` when it is none."""
    return _decoder.decode(raw)
