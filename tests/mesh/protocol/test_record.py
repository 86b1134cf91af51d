"""A member's own word: only its member can make it, and what is not understood is kept."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.protocol.record import ADDRESSES_MAX, RECORD_BYTES_MAX, MemberRecord, decode, is_name, sign
from transport.errors import PeerFault
from transport.identity import ED25519, Identity, Mesh, NodeId

MESH = Mesh("one", b"one-tag.", b"one-mesh-id-16-b", None)
OTHER = Mesh("two", b"two-tag.", b"two-mesh-id-16-b", None)
ME = Identity(bytes(32))
PEER = NodeId(b"p" * 32)

names = st.text(alphabet="aä漢-_ .🜂", min_size=1, max_size=12).filter(is_name)


def made(name: str = "hall", incarnation: int = 3, left: bool = False) -> MemberRecord:
    return sign(ME, MESH, name=name, incarnation=incarnation, left=left, addresses=("10.0.0.1:7000",), durable=True)


@given(name=names, incarnation=st.integers(0, 1 << 62), left=st.booleans())
def test_what_is_signed_is_what_is_read(name: str, incarnation: int, left: bool) -> None:
    record = decode(PEER, made(name, incarnation, left).raw)
    assert (record.node, record.name, record.incarnation, record.left) == (ME.id, name, incarnation, left)
    assert record.addresses == ("10.0.0.1:7000",) and record.durable
    assert record.is_authentic(MESH, ED25519) and not record.is_authentic(OTHER, ED25519)


@settings(max_examples=60)
@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_no_bit_can_be_turned(at: int, bit: int) -> None:
    raw = bytearray(made().raw)
    raw[at % len(raw)] ^= 1 << bit
    try:
        record = decode(PEER, bytes(raw))
    except PeerFault:
        return
    assert not record.is_authentic(MESH, ED25519)


@given(raw=st.binary(max_size=300))
def test_any_bytes_end_in_a_record_or_the_peers_fault(raw: bytes) -> None:
    try:
        assert decode(PEER, raw).raw == raw
    except PeerFault as fault:
        assert fault.peer == PEER


def test_fields_of_a_newer_version_are_covered_and_kept() -> None:
    body = msgspec.msgpack.encode([bytes(ME.id), "hall", 4, False, [], 2, True, {"colour": "green"}, 7])
    raw = body + ME.sign(b"member", MESH.id, body)
    record = decode(PEER, raw)
    assert record.raw == raw and record.version == 2 and record.is_authentic(MESH, ED25519)


@pytest.mark.parametrize("name", ["", " ", "a\n", "a\x1b[31m", "x" * 65, "\ud800", "é" * 33, " lead"])
def test_a_name_that_would_not_print_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        made(name)


def test_bounds_hold() -> None:
    many = tuple(f"10.0.0.{at}:7000" for at in range(100))
    assert len(sign(ME, MESH, name="n", incarnation=1, left=False, addresses=many, durable=False).addresses) == (
        ADDRESSES_MAX
    )
    with pytest.raises(ValueError, match="incarnation"):
        made(incarnation=1 << 63)
    with pytest.raises(PeerFault):
        decode(PEER, bytes(RECORD_BYTES_MAX + 1))
