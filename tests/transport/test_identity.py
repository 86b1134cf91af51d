"""Keys, ids, and signatures that hold for one purpose in one mesh."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.identity import ED25519, Identity, NodeId, Origin, fingerprint, signed_bytes, verify

PURPOSES = (b"frame", b"link", b"scout", b"member", b"snapshot", b"")
MESHES = (bytes(16), bytes(15) + b"\x01", bytes(8))
ALICE, BOB = Identity(b"a" * 32), Identity(b"b" * 32)


def test_nothing_signed_for_one_purpose_or_mesh_verifies_for_another() -> None:
    for purpose, mesh in itertools.product(PURPOSES, MESHES):
        signature = ALICE.sign(purpose, mesh, b"message")
        for node, other, elsewhere in itertools.product((ALICE, BOB), PURPOSES, MESHES):
            same = (node, other, elsewhere) == (ALICE, purpose, mesh)
            assert verify(ED25519, node.id, other, elsewhere, b"message", signature) == same


@given(
    one=st.tuples(st.binary(max_size=9), st.binary(max_size=17), st.binary(max_size=40)),
    other=st.tuples(st.binary(max_size=9), st.binary(max_size=17), st.binary(max_size=40)),
)
def test_what_is_signed_can_be_read_in_one_way_only(
    one: tuple[bytes, bytes, bytes], other: tuple[bytes, bytes, bytes]
) -> None:
    assert (signed_bytes(*one) == signed_bytes(*other)) == (one == other)


def test_every_flipped_bit_of_signature_and_key_is_noticed() -> None:
    signature = ALICE.sign(b"frame", bytes(16), b"m")
    for at in range(64 * 8):
        flipped = bytearray(signature)
        flipped[at // 8] ^= 1 << at % 8
        assert not verify(ED25519, ALICE.id, b"frame", bytes(16), b"m", bytes(flipped))
    for at in range(32 * 8):
        key = bytearray(ALICE.id)
        key[at // 8] ^= 1 << at % 8
        assert not verify(ED25519, bytes(key), b"frame", bytes(16), b"m", signature)


@given(key=st.binary(max_size=40), signature=st.binary(max_size=70), message=st.binary(max_size=10))
def test_verify_never_raises(key: bytes, signature: bytes, message: bytes) -> None:
    assert not verify(ED25519, key, b"p", bytes(16), message, signature)


def test_a_point_of_small_order_signs_nothing() -> None:
    """Keys for which anyone can make signatures (RFC 8032, 8.9): strict verification knows them."""
    for key in (bytes(32), b"\x01" + bytes(31), bytes(31) + b"\x80"):
        assert not verify(ED25519, key, b"p", bytes(16), b"m", key + bytes(32))


@given(raw=st.binary(min_size=40, max_size=40))
def test_text_forms_go_there_and_back(raw: bytes) -> None:
    node, origin = NodeId(raw[:32]), Origin(raw)
    assert NodeId.parse(str(node)) == node and len(str(node)) == 52
    assert Origin.parse(str(origin)) == origin and len(str(origin)) == 64
    assert origin.node == node and origin.log == raw[32:] and Origin.of(node, raw[32:]) == origin
    assert str(node).startswith(node.short)


@pytest.mark.parametrize("text", ["", "a" * 51, "a" * 53, "1" * 52, "é" * 52, "=" * 52])
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        NodeId.parse(text)


def test_lengths_are_checked() -> None:
    for wrong in (b"", bytes(31), bytes(33)):
        with pytest.raises(ValueError):
            NodeId(wrong)
        with pytest.raises(ValueError):
            Identity(wrong)
    with pytest.raises(ValueError):
        Origin(bytes(39))


def test_the_seed_is_in_no_text() -> None:
    identity = Identity(b"0123456789abcdef0123456789abcdef")
    assert "0123456789" not in repr(identity) + str(identity)


@given(parts=st.lists(st.binary(max_size=5), max_size=4), others=st.lists(st.binary(max_size=5), max_size=4))
def test_a_fingerprint_knows_where_a_part_ends(parts: list[bytes], others: list[bytes]) -> None:
    assert (fingerprint(*parts) == fingerprint(*others)) == (parts == others)
