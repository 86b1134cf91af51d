"""What travels beside a body: the trace it belongs to, on whose behalf it was sent, and under which key.

    trace   25 bytes: trace id (16), the sender's span (8), flags (1)
    state   W3C tracestate, as it came
    by      keys of the nodes on whose behalf the sender acts, the first one first
    key     idempotency key

On the wire a MessagePack map of those; entries of a newer version are kept and handed on. Claims, not proofs: each node
vouches for the one before it. Source: W3C Trace Context, level 1 (2021), sections 3.2 and 3.3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from mesh.errors import ChainTooLong
from mesh.messages import ABOUT_BYTES_MAX
from transport.errors import ValueRefused
from transport.identity import KEY_BYTES, NodeId

CHAIN_MAX = 16  # nodes on whose behalf: beyond it is most likely a circle of handlers that ask each other
KEY_CHARS_MAX = 128
STATE_CHARS_MAX = 512  # the standard asks for 512 at least
MORE_BYTES_MAX = 512  # what this version does not know
TRACE_BYTES, ID_BYTES, SPAN_BYTES = 25, 16, 8

_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Trace:
    """One chain of calls across nodes. ``id`` (32 hex digits) is the same for all that follows from one call, ``span``
    (16) names the call that brought this message. ``str(trace)`` is the W3C ``traceparent``."""

    id: str
    span: str
    flags: int = 0
    state: str = ""  # W3C tracestate: vendors' own, handed on as it is

    def __str__(self) -> str:
        return f"00-{self.id}-{self.span}-{self.flags:02x}"

    @classmethod
    def parse(cls, traceparent: str, state: str = "") -> Trace | None:
        """The trace a ``traceparent`` header names; None when it is not valid: then, says the standard, a new trace
        begins. A tracestate that is too long is left out, as the standard allows."""
        found = _PARENT.fullmatch(traceparent.strip())
        if found is None:
            return None
        version, trace, span, flags, more = found.groups()
        if version == "ff" or (version == "00" and more) or not int(trace, 16) or not int(span, 16):
            return None
        return cls(trace, span, int(flags, 16), state if _is_state(state) else "")

    @classmethod
    def begin(cls, rng: Random) -> Trace:
        """A new one."""
        return cls(f"{rng.getrandbits(128) or 1:032x}", f"{rng.getrandbits(64) or 1:016x}")

    def follow(self, rng: Random) -> Trace:
        """The same trace, one call further."""
        return Trace(self.id, f"{rng.getrandbits(64) or 1:016x}", self.flags, self.state)


@dataclass(frozen=True, slots=True)
class Context:
    """What travelled beside one body. Immutable; ``about`` is its encoding, empty for an empty one."""

    trace: Trace | None = None
    on_behalf_of: tuple[NodeId, ...] = ()
    key: str = ""
    more: tuple[tuple[str, bytes], ...] = ()  # entries this version does not know, encoded

    @property
    def about(self) -> bytes:
        fields: dict[str, Any] = {}
        if (trace := self.trace) is not None:
            fields["trace"] = bytes.fromhex(trace.id + trace.span) + bytes((trace.flags,))
            if trace.state:
                fields["state"] = trace.state
        if self.on_behalf_of:
            fields["by"] = [bytes(each) for each in self.on_behalf_of]
        if self.key:
            fields["key"] = self.key
        fields.update((name, msgspec.Raw(raw)) for name, raw in self.more)
        return msgspec.msgpack.encode(fields) if fields else b""

    def handed_on(self, sender: NodeId, rng: Random) -> Context:
        """What goes beside a call that follows from a message of ``sender`` which came with this. Raises
        ``ChainTooLong``."""
        chain = (*self.on_behalf_of, sender)
        if len(chain) > CHAIN_MAX:
            raise ChainTooLong(chain)
        return Context(self.trace.follow(rng) if self.trace else None, chain, "", self.more)


NOTHING = Context()

_Chain = Annotated[list[Annotated[bytes, Meta(min_length=KEY_BYTES, max_length=KEY_BYTES)]], Meta(max_length=CHAIN_MAX)]
_map = msgspec.msgpack.Decoder(dict[Annotated[str, Meta(max_length=32)], msgspec.Raw])
_trace = msgspec.msgpack.Decoder(Annotated[bytes, Meta(min_length=TRACE_BYTES, max_length=TRACE_BYTES)])
_state = msgspec.msgpack.Decoder(Annotated[str, Meta(max_length=STATE_CHARS_MAX)])
_key = msgspec.msgpack.Decoder(Annotated[str, Meta(max_length=KEY_CHARS_MAX)])
_by = msgspec.msgpack.Decoder(_Chain)


def read_about(about: bytes) -> Context:
    """What ``Context.about`` made. Raises ``ValueRefused`` for other bytes."""
    if not about:
        return NOTHING
    if len(about) > ABOUT_BYTES_MAX:
        raise ValueRefused(f"what travels beside a body has at most {ABOUT_BYTES_MAX} bytes, this {len(about)}")
    try:
        fields = _map.decode(about)
        trace = None
        if (raw := fields.pop("trace", None)) is not None:
            whole = _trace.decode(raw)
            state = fields.pop("state", None)
            ids = whole[:-1].hex()
            trace = Trace(
                ids[: 2 * ID_BYTES], ids[2 * ID_BYTES :], whole[-1], "" if state is None else _state.decode(state)
            )  # fmt: skip
        by = _by.decode(fields.pop("by")) if "by" in fields else []
        key = _key.decode(fields.pop("key")) if "key" in fields else ""
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, ValueError) as wrong:
        raise ValueRefused(f"what travels beside a body is not well formed ({wrong})") from None
    more = tuple((name, bytes(raw)) for name, raw in sorted(fields.items()))
    if sum(len(raw) for _, raw in more) > MORE_BYTES_MAX:
        raise ValueRefused(f"unknown entries beside a body have at most {MORE_BYTES_MAX} bytes")
    return Context(trace, tuple(NodeId(each) for each in by), key, more)


def _is_state(text: str) -> bool:
    return len(text) <= STATE_CHARS_MAX and text.isascii()


def check_key(key: str) -> str:
    """``key``, if it may be an idempotency key. Raises ``ValueError``."""
    if len(key) > KEY_CHARS_MAX:
        raise ValueError(f"an idempotency key has at most {KEY_CHARS_MAX} characters, this one {len(key)}")
    return key
