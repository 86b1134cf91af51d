"""Signed frames: the unit that is sealed once, journaled, gossiped and relayed as the very bytes that were received.

    header     version u8, kind u8, mesh tag 8, node key 32, log id 8, first u64, items u16, count u32, hlc u64,
               previous frame's hash 16, stream length u8, stream (UTF-8)
    body       MessagePack: an array of ``items`` entries, each encoded when it was made
    signature  Ed25519 over purpose "frame", mesh id, header, hash(body); 64 bytes, last

All integers are big-endian. ``first`` is the sequence of the first operation (from 1), ``count`` how many follow in
all. The chain (``previous``) makes a log one history: two frames at one sequence are equivocation, and provable.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

from transport.base import FRAME_BYTES_MAX
from transport.errors import FrameInvalid
from transport.identity import SIGNATURE_BYTES, Identity, Mesh, Origin, Suite, verify

VERSION = 1
ITEMS_MAX = 4096
STREAM_BYTES_MAX = 128
HASH_BYTES = 16
GENESIS = bytes(HASH_BYTES)  # what the first frame of a log has for its previous
PURPOSE = b"frame"

_HEADER = struct.Struct(">BB8s40sQHIQ16sB")
_SPAN, _SPAN_AT = struct.Struct(">QHI"), struct.calcsize(">BB8s40s")
KIND_CHANGES = 1  # a space's log: journaled, repaired for ever
KIND_TOPIC = 2  # messages on topics: a log that lives as long as its node, kept in memory for a moment
BODY_HASH_BYTES = 32
STUB_BYTES_MIN = _HEADER.size + 1 + BODY_HASH_BYTES + SIGNATURE_BYTES
STUB_BYTES_MAX = _HEADER.size + STREAM_BYTES_MAX + BODY_HASH_BYTES + SIGNATURE_BYTES


def is_signed_frame(raw: bytes) -> bool:
    """Whether link bytes claim to be a signed frame; link messages are MessagePack arrays and start otherwise."""
    return raw[:1] == bytes((VERSION,))


def kind_of(raw: bytes) -> int:
    """What kind of log a signed frame claims to be of; 0 when it is too short to say."""
    return raw[1] if len(raw) > 1 else 0


def array_header(items: int) -> bytes:
    """MessagePack's opening of an array of ``items`` entries."""
    if items < 16:
        return bytes((0x90 | items,))
    return b"\xdc" + items.to_bytes(2, "big")


class SignedFrame:
    """A frame as it travels: ``raw`` is the truth, the fields are read from it. Never re-encoded."""

    __slots__ = (
        "_body_at", "_signed", "count", "digest", "first", "hlc", "items", "kind", "mesh_tag", "origin", "previous",
        "raw", "stream",
    )  # fmt: skip

    _body_at: int
    _signed: bytes
    raw: bytes
    kind: int
    mesh_tag: bytes
    origin: Origin
    stream: str
    first: int
    items: int
    count: int
    hlc: int
    previous: bytes
    digest: bytes  # hash of its stub: the next frame's ``previous``, and the chain head

    @property
    def last(self) -> int:
        """Sequence of the last operation in it."""
        return self.first + self.count - 1

    @property
    def body(self) -> bytes:
        """The MessagePack array of items."""
        return self.raw[self._body_at : -SIGNATURE_BYTES]

    @property
    def signature(self) -> bytes:
        return self.raw[-SIGNATURE_BYTES:]

    def signed_part(self) -> bytes:
        """What the signature covers: the header and the body's hash."""
        return self._signed

    def stub(self) -> bytes:
        """The frame without its body: header, the body's hash, signature. It still proves who signed what, and its
        hash is the chain head, so a log can go on after its frames were folded away."""
        return self._signed + self.signature

    def is_authentic(self, mesh: Mesh, suite: Suite) -> bool:
        """Whether it is of this mesh and its origin's node signed it. About 40 us; pure, so any thread may."""
        return self.mesh_tag == mesh.tag and verify(
            suite, self.origin[:32], PURPOSE, mesh.id, self.signed_part(), self.signature
        )

    def __repr__(self) -> str:
        return f"SignedFrame({self.stream!r}, {self.origin!r}, {self.first}..{self.last}, {len(self.raw)} B)"


def seal(
    identity: Identity, mesh: Mesh, *, stream: str, log: bytes, first: int, count: int, hlc: int, previous: bytes,
    items: Sequence[bytes], kind: int = KIND_CHANGES,
) -> SignedFrame:  # fmt: skip
    """Sign ``items`` (each encoded already) as the frame that follows ``previous`` in this node's log ``log``.

    Raises ``ValueError`` past ``FRAME_BYTES_MAX``, ``ITEMS_MAX`` or ``STREAM_BYTES_MAX``, and ``FrameInvalid`` for
    counts that are out of bounds; nothing is kept.
    """
    name = stream.encode()
    if not 0 < len(name) <= STREAM_BYTES_MAX or not 0 < len(items) <= ITEMS_MAX:
        raise ValueError(f"a frame has 1 to {ITEMS_MAX} items and a stream name of 1 to {STREAM_BYTES_MAX} bytes")
    _check_counts(first, len(items), count, hlc)
    origin = Origin.of(identity.id, log)
    header = _HEADER.pack(
        VERSION, kind, mesh.tag, origin, first, len(items), count, hlc, previous, len(name)
    )  # fmt: skip
    body = array_header(len(items)) + b"".join(items)
    head = header + name
    if len(head) + len(body) + SIGNATURE_BYTES > FRAME_BYTES_MAX:
        raise ValueError(f"a frame has at most {FRAME_BYTES_MAX} bytes")
    signed = head + hashlib.sha256(body).digest()
    signature = identity.sign(PURPOSE, mesh.id, signed)
    frame = SignedFrame()
    frame.raw, frame.kind, frame.mesh_tag, frame.origin = head + body + signature, kind, mesh.tag, origin
    frame.stream, frame.first, frame.items, frame.count = stream, first, len(items), count
    frame.hlc, frame.previous, frame._body_at, frame._signed = hlc, previous, len(head), signed
    frame.digest = hashlib.sha256(signed + signature).digest()[:HASH_BYTES]
    return frame


def span_of(raw: bytes) -> tuple[int, int]:
    """The first and the last sequence of a frame whose bytes were parsed before: ten times cheaper than ``parse``."""
    first, _, count = _SPAN.unpack_from(raw, _SPAN_AT)
    return first, first + count - 1


def parse(raw: bytes) -> SignedFrame:
    """Read the header; check bounds and shape, not the signature. Raises ``FrameInvalid``; nothing is kept."""
    if not _HEADER.size + 1 + SIGNATURE_BYTES < len(raw) <= FRAME_BYTES_MAX:
        raise FrameInvalid(None, f"a frame of {len(raw)} bytes")
    version, kind, tag, origin, first, items, count, hlc, previous, name_len = _HEADER.unpack_from(raw)
    body_at = _HEADER.size + name_len
    if version != VERSION or not 0 < name_len <= STREAM_BYTES_MAX or len(raw) <= body_at + SIGNATURE_BYTES:
        raise FrameInvalid(None, "a frame of another version or shape")
    _check_counts(first, items, count, hlc)
    frame = SignedFrame()
    try:
        frame.stream = str(raw[_HEADER.size : body_at], "utf-8")
    except UnicodeDecodeError:
        raise FrameInvalid(None, "a stream name that is not UTF-8") from None
    frame.raw, frame.kind, frame.mesh_tag, frame.origin = raw, kind, tag, Origin(origin)
    frame.first, frame.items, frame.count, frame.hlc, frame.previous = first, items, count, hlc, previous
    frame._body_at = body_at
    frame._signed = raw[:body_at] + hashlib.sha256(raw[body_at:-SIGNATURE_BYTES]).digest()
    frame.digest = hashlib.sha256(frame._signed + raw[-SIGNATURE_BYTES:]).digest()[:HASH_BYTES]
    return frame


def _check_counts(first: int, items: int, count: int, hlc: int) -> None:
    if not 0 < items <= ITEMS_MAX or not items <= count or first < 1 or first + count > 1 << 42 or hlc >= 1 << 63:
        raise FrameInvalid(None, "a frame whose counts or clock are out of bounds")


def parse_stub(raw: bytes) -> SignedFrame:
    """Read what ``SignedFrame.stub`` made: a frame whose ``body`` is empty and whose ``digest``, ``signature`` and
    ``is_authentic`` are those of the whole. Raises ``FrameInvalid``; nothing is kept."""
    if not STUB_BYTES_MIN <= len(raw) <= STUB_BYTES_MAX:
        raise FrameInvalid(None, f"a frame's stub of {len(raw)} bytes")
    split = len(raw) - SIGNATURE_BYTES - BODY_HASH_BYTES
    if _HEADER.size + raw[_HEADER.size - 1] != split:
        raise FrameInvalid(None, "a frame's stub of another shape")
    frame = parse(raw[:split] + b"\xc0" + raw[-SIGNATURE_BYTES:])  # the header has the same bounds; the body is gone
    frame._signed = raw[:-SIGNATURE_BYTES]
    frame.digest = hashlib.sha256(raw).digest()[:HASH_BYTES]
    return frame
