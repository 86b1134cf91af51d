"""What is kept where on disk: tables, and keys whose order is the order in which records are read.

    own     stream                     log id of this node's current log (8 bytes), written with its first frame
    frames  stream, origin, last seq   a signed frame, the very bytes
    base    stream                     signed snapshot of everything below the floors (``folding.py``)
    forks   stream, origin             two stubs of frames that prove equivocation
    lost    stream, origin, last seq   a signed frame of our own that can be nobody's history any more (``lost.py``)
    counted node                       whether that member has a disk, one byte; it counts until it leaves
    meta    b"probe"                   written to learn whether the disk takes commits again

Frames are keyed by their *last* sequence, so that "what follows n" is one seek.
"""

from __future__ import annotations

from mesh.protocol.effects import Slot
from transport.base import Cut
from transport.identity import KEY_BYTES, LOG_BYTES, Origin

OWN, FRAMES, BASE, FORKS, LOST, COUNTED = "own", "frames", "base", "forks", "lost", "counted"
SEQ_BYTES = 8
ORIGIN_BYTES = KEY_BYTES + LOG_BYTES


def stream_key(stream: str) -> bytes:
    """The key of a stream, and the prefix of all its logs' keys; no stream's key is a prefix of another's."""
    name = stream.encode()
    return bytes((len(name),)) + name


def read_stream(key: bytes) -> str:
    """The stream a key of any table begins with."""
    return str(key[1 : 1 + key[0]], "utf-8")


def log_key(slot: Slot) -> bytes:
    return stream_key(slot.stream) + slot.origin


def frame_key(slot: Slot, seq: int) -> bytes:
    return stream_key(slot.stream) + slot.origin + seq.to_bytes(SEQ_BYTES, "big")


def read_origin(key: bytes) -> Origin:
    """The origin in a key of ``frames`` or ``forks``."""
    at = 1 + key[0]
    return Origin(key[at : at + ORIGIN_BYTES])


def after_prefix(prefix: bytes) -> bytes:
    """The first key after all that begin with ``prefix``."""
    return prefix + b"\xff" * (ORIGIN_BYTES + SEQ_BYTES + 1)


def cut_up_to(slot: Slot, seq: int) -> Cut:
    """Remove the frames of a log that end at or before ``seq``."""
    return FRAMES, frame_key(slot, 0), frame_key(slot, seq + 1)


def cut_from(slot: Slot, seq: int) -> Cut:
    """Remove the frames of a log that end at or after ``seq``."""
    return FRAMES, frame_key(slot, seq), after_prefix(log_key(slot))
