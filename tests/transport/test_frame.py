"""Signed frames: every bit counts, the chain holds, bounds are kept."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transport.admission import admission
from transport.base import FRAME_BYTES_MAX
from transport.errors import FrameInvalid
from transport.frame import GENESIS, ITEMS_MAX, PURPOSE, SignedFrame, is_signed_frame, parse, seal
from transport.identity import ED25519, Identity, verify

MESH = admission("m", secret=None, open=True)
OTHER = admission("n", secret=None, open=True)
ALICE, BOB = Identity(b"a" * 32), Identity(b"b" * 32)
LOG = b"12345678"


def sealed(items: tuple[bytes, ...] = (b"\x01", b"\xa1x"), **fields: object) -> SignedFrame:
    usual: dict[str, object] = {"stream": "main", "log": LOG, "first": 1, "count": 5, "hlc": 9, "previous": GENESIS}
    return seal(ALICE, MESH, items=items, **{**usual, **fields})  # type: ignore[arg-type]


def test_what_is_sealed_is_read() -> None:
    frame = sealed()
    again = parse(frame.raw)
    assert (again.stream, again.first, again.last, again.items, again.hlc) == ("main", 1, 5, 2, 9)
    assert again.origin.node == ALICE.id and again.origin.log == LOG and again.mesh_tag == MESH.tag
    assert msgpack.unpackb(again.body) == [1, "x"]
    assert again.is_authentic(MESH, ED25519) and is_signed_frame(again.raw)
    assert all(getattr(again, field) == getattr(frame, field) for field in SignedFrame.__slots__)


def test_every_flipped_bit_is_rejected() -> None:
    raw = sealed().raw
    for at in range(len(raw) * 8):
        flipped = bytearray(raw)
        flipped[at // 8] ^= 1 << at % 8
        try:
            frame = parse(bytes(flipped))
        except FrameInvalid:
            continue
        assert not frame.is_authentic(MESH, ED25519), f"bit {at}"


@settings(max_examples=50, deadline=None)
@given(at=st.integers(0, 300), cut=st.integers(1, 300), more=st.binary(max_size=3))
def test_cut_or_grown_frames_are_rejected(at: int, cut: int, more: bytes) -> None:
    raw = sealed().raw
    changed = raw[: at % len(raw)] + more + raw[at % len(raw) + cut :]
    if changed == raw:
        return
    try:
        assert not parse(changed).is_authentic(MESH, ED25519)
    except FrameInvalid as fault:
        assert fault.peer is None


def test_a_frame_is_of_one_mesh_and_one_purpose() -> None:
    frame = sealed()
    assert not frame.is_authentic(OTHER, ED25519)
    secret = admission("m", secret="x", open=False, stretch=lambda secret, salt: secret.ljust(32)[:32])
    assert secret.tag == MESH.tag and not frame.is_authentic(secret, ED25519)  # same name, other mode
    for purpose in (b"link", b"scout", b"member", b"snapshot"):
        assert not verify(ED25519, ALICE.id, purpose, MESH.id, frame.signed_part(), frame.signature)
        forged = frame.raw[:-64] + ALICE.sign(purpose, MESH.id, frame.signed_part())
        assert not parse(forged).is_authentic(MESH, ED25519)
    assert verify(ED25519, ALICE.id, PURPOSE, MESH.id, frame.signed_part(), frame.signature)


def test_nobody_speaks_for_another() -> None:
    frame = sealed()
    stolen = frame.raw[:-64] + BOB.sign(PURPOSE, MESH.id, frame.signed_part())
    assert not parse(stolen).is_authentic(MESH, ED25519)


def test_the_chain_tells_two_histories_apart() -> None:
    first = sealed()
    fork = sealed(items=(b"\x02",), count=5)
    second = sealed(first=6, count=1, items=(b"\x03",), previous=first.digest)
    assert second.previous == first.digest != fork.digest
    assert first.last + 1 == second.first and first.first == fork.first  # provable: both are authentic
    assert first.is_authentic(MESH, ED25519) and fork.is_authentic(MESH, ED25519)


def test_the_same_content_seals_to_the_same_bytes() -> None:
    assert sealed().raw == sealed().raw


def test_bounds_at_sealing() -> None:
    for wrong in (
        {"items": ()}, {"items": (b"\x01",) * (ITEMS_MAX + 1)}, {"stream": ""}, {"stream": "x" * 129},
        {"items": (b"\xc6" + bytes(FRAME_BYTES_MAX),)},
    ):  # fmt: skip
        with pytest.raises(ValueError):
            sealed(**wrong)


@settings(max_examples=100, deadline=None)
@given(raw=st.binary(max_size=400))
def test_any_bytes_end_in_one_typed_error(raw: bytes) -> None:
    for bytes_ in (raw, b"\x01" + raw, sealed().raw[:83] + raw):
        try:
            frame = parse(bytes_)
        except FrameInvalid:
            continue
        assert not frame.is_authentic(MESH, ED25519)
