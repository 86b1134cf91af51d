"""A member's own word about itself: signed once, stored and relayed as the very bytes.

    record     MessagePack array (node key, name, incarnation, left, addresses, protocol version, durable, …)
    signature  Ed25519 over purpose "member", mesh id, record; 64 bytes, last

Only the member can make one, so nobody else can raise its incarnation, move its address or say that it left. Fields
that a newer version appended are covered by the signature, kept and forwarded; this version does not read them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta

from mesh.messages import KEY, NUMBER
from transport.errors import PeerFault
from transport.identity import SIGNATURE_BYTES, Identity, Mesh, NodeId, Suite, verify

PURPOSE = b"member"
PROTOCOL_VERSION = 1
RECORD_BYTES_MAX = 4096  # as in ``messages.Records``
NAME_BYTES_MAX = 64
ADDRESSES_MAX = 32  # interfaces of one host: more are not advertised
INCARNATION_MAX = 1 << 62  # leaves room to refute; nobody lives that often


class _Body(msgspec.Struct, frozen=True, array_like=True, gc=False):
    node: KEY
    name: Annotated[str, Meta(min_length=1, max_length=NAME_BYTES_MAX)]
    incarnation: NUMBER
    left: bool
    addresses: Annotated[list[Annotated[str, Meta(max_length=280)]], Meta(max_length=ADDRESSES_MAX)]
    version: Annotated[int, Meta(ge=1, lt=1 << 16)]
    durable: bool


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Body)


@dataclass(frozen=True, slots=True)
class MemberRecord:
    """What ``node`` says of itself at ``incarnation``. ``raw`` is the truth, the fields are read from it."""

    node: NodeId
    name: str
    incarnation: int
    left: bool
    addresses: tuple[str, ...]
    version: int
    durable: bool  # it has a disk: it counts for quorum and all even while it is down
    raw: bytes

    @property
    def rank(self) -> tuple[int, bool]:
        """Later words rank higher."""
        return self.incarnation, self.left

    def is_authentic(self, mesh: Mesh, suite: Suite) -> bool:
        """Whether ``node`` itself signed these bytes for this mesh. About 40 us."""
        return verify(
            suite, self.node, PURPOSE, mesh.id, self.raw[:-SIGNATURE_BYTES], self.raw[-SIGNATURE_BYTES:]
        )  # fmt: skip


def is_name(name: str) -> bool:
    """Whether a node may be called so: 1 to 64 UTF-8 bytes, no control characters, no surrounding whitespace."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:  # a lone surrogate has no bytes
        return False
    return 0 < size <= NAME_BYTES_MAX and name.isprintable() and name == name.strip()


def sign(
    identity: Identity, mesh: Mesh, *, name: str, incarnation: int, left: bool, addresses: tuple[str, ...],
    durable: bool,
) -> MemberRecord:  # fmt: skip
    """This node's record. Raises ``ValueError`` on a name or an incarnation out of bounds; addresses past
    ``ADDRESSES_MAX`` are left out (the most useful come first)."""
    if not is_name(name):
        raise ValueError(f"a node's name has 1 to {NAME_BYTES_MAX} printable UTF-8 bytes, got {name!r}")
    if not 0 <= incarnation <= INCARNATION_MAX:
        raise ValueError(f"an incarnation is within 0..{INCARNATION_MAX}, got {incarnation}")
    kept = list(addresses[:ADDRESSES_MAX])
    body = _encoder.encode(_Body(bytes(identity.id), name, incarnation, left, kept, PROTOCOL_VERSION, durable))
    return decode(identity.id, body + identity.sign(PURPOSE, mesh.id, body))


def decode(peer: NodeId, raw: bytes) -> MemberRecord:
    """Read a record that ``peer`` sent; shape and bounds only, the signature is ``is_authentic``'s.

    Raises ``PeerFault``; nothing is kept.
    """
    if not SIGNATURE_BYTES < len(raw) <= RECORD_BYTES_MAX:
        raise PeerFault(peer, f"a member record has at most {RECORD_BYTES_MAX} bytes, got {len(raw)}")
    try:
        body = _decoder.decode(raw[:-SIGNATURE_BYTES])
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, ValueError) as wrong:
        raise PeerFault(peer, f"a member record must be well formed ({wrong})") from None
    if not is_name(body.name) or body.incarnation > INCARNATION_MAX:
        raise PeerFault(peer, "a member record has a printable name and a sane incarnation")
    if not all(address.isascii() and address.isprintable() for address in body.addresses):
        raise PeerFault(peer, "a member record has printable addresses")
    return MemberRecord(
        NodeId(body.node),
        body.name,
        body.incarnation,
        body.left,
        tuple(body.addresses),
        body.version,
        body.durable,
        raw,
    )
