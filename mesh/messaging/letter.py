"""A durable message: what is kept of it on disk, and what is told of one that died.

    outbox   receiver (32 bytes), position    a letter that is not acknowledged
    dead     position                         one that was given up
    inbox    sender (32 bytes), life, 0 or 1  the last number handled, and when (wall ms): the window against repeats;
                                              by turns, so that a torn record leaves the one before it

A *life* is one run of the sending node, 8 random bytes; numbers rise within it. (sender, life, number) is the identity
of a letter for ever: a node that starts from an old backup begins a new life, and never uses a number twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from transport.identity import KEY_BYTES, NodeId

OUTBOX, DEAD, INBOX = "outbox", "dead", "inbox"
LIFE_BYTES = 8
NUMBER_BYTES = 8
LETTER_EXTRA = 256  # bytes of memory a letter costs beside what it says


class Letter(msgspec.Struct, array_like=True):
    """One letter as it lies on disk. Times are wall milliseconds; ``expires`` 0: never."""

    to: bytes
    life: bytes
    number: int
    position: int
    body: bytes
    made: int
    expires: int = 0
    tries: int = 0
    reason: str = ""
    about: bytes = b""  # what travels beside the body

    @property
    def id(self) -> str:
        """Its name for people and for ``redeliver``."""
        return letter_id(self.life, self.number)

    @property
    def size(self) -> int:
        """What it counts for in the outbox's bound."""
        return len(self.body) + len(self.about) + LETTER_EXTRA

    @property
    def key(self) -> bytes:
        """Where it lies in the outbox: letters to one receiver side by side, in order."""
        return self.to + number_bytes(self.position)

    def encode(self) -> bytes:
        return _encode(self)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A durable message that was given up. ``redeliver(id)`` sends it again, as a new message."""

    id: str
    to: NodeId
    body: Any
    reason: str  # "expired", or what the handler said the last time
    tries: int
    made_ms: int  # wall time


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Letter).decode


def decode_letter(raw: bytes) -> Letter:
    """What ``Letter.encode`` made; storage has checked that the bytes are ours."""
    return _decode(raw)


def letter_id(life: bytes, number: int) -> str:
    return f"{life.hex()}-{number}"


def number_bytes(number: int) -> bytes:
    """A number as bytes that sort as it does."""
    return number.to_bytes(NUMBER_BYTES, "big")


def inbox_key(sender: bytes, life: bytes, turn: int) -> bytes:
    return sender + life + bytes((turn & 1,))


def read_inbox_key(key: bytes) -> tuple[NodeId, bytes]:
    """Sender and life of a row of the inbox."""
    return NodeId(key[:KEY_BYTES]), key[KEY_BYTES : KEY_BYTES + LIFE_BYTES]
