"""Signed frames, link messages, member records and handshakes: one typed error, or a whole thing read."""

from __future__ import annotations

import functools
from typing import Any

from mesh.messages import Contact, Have, IHave, KindUnknown, Post, Rumour, Send, Shuffle, SnapshotPart
from mesh.messages import decode as decode_message
from mesh.messages import encode as encode_message
from mesh.protocol import record
from mesh.state.folding import Snapshot
from transport.admission import admission
from transport.errors import FrameInvalid, HandshakeError, PeerFault
from transport.frame import GENESIS, SignedFrame, is_signed_frame, parse, parse_stub, seal
from transport.handshake import Handshake
from transport.identity import ED25519, Identity

MESH = admission("fuzz", secret=None, open=True)
ALICE, BOB = Identity(b"a" * 32), Identity(b"b" * 32)


@functools.cache
def sealed() -> SignedFrame:
    return seal(
        ALICE, MESH, stream="main", log=b"12345678", first=3, count=5, hlc=9, previous=GENESIS,
        items=[b"\x01", b"\xa1x"],
    )  # fmt: skip


def frame(raw: bytes) -> None:
    """A signed frame: what is read is what was sent, and only what was sealed is authentic."""
    try:
        read = parse(raw)
    except FrameInvalid:
        return
    assert is_signed_frame(raw) and read.raw == raw and 1 <= read.first <= read.last < 1 << 42
    assert 0 < read.items <= read.count and read.hlc < 1 << 63 and len(read.digest) == 16
    assert raw.endswith(read.body + read.signature) and read.stream
    short = parse_stub(read.stub())
    assert (short.digest, short.signed_part(), short.last) == (read.digest, read.signed_part(), read.last)
    assert read.is_authentic(MESH, ED25519) == short.is_authentic(MESH, ED25519) == (raw == sealed().raw)


def stub(raw: bytes) -> None:
    """A frame without its body."""
    try:
        read = parse_stub(raw)
    except FrameInvalid:
        return
    assert read.stub() == raw
    assert read.is_authentic(MESH, ED25519) == (raw == sealed().stub())


def message(raw: bytes) -> None:
    """A link message. What was read says the same when it is told on."""
    try:
        read = decode_message(BOB.id, raw)
    except (PeerFault, KindUnknown):
        return
    assert decode_message(BOB.id, encode_message(read)) == read


def member(raw: bytes) -> None:
    """A member's record."""
    try:
        read = record.decode(BOB.id, raw)
    except PeerFault:
        return
    assert read.raw == raw and record.is_name(read.name)
    assert read.is_authentic(MESH, ED25519) == (raw in records())


def folded(raw: bytes) -> None:
    """A space's snapshot, before its signature is looked at."""
    try:
        Snapshot.parse(raw)
    except PeerFault:
        pass


def handshake(raw: bytes) -> None:
    """Both sides, in every state that waits for bytes. Nobody is up, or proven who is not."""
    for dialed, heard in ((True, 0), (False, 0), (True, 1), (False, 1)):
        one, honest = _side(dialed), _talk()
        try:
            opening = one.open()
            assert (opening is not None) == dialed
            for each in honest[1 - dialed :: 2][:heard]:
                one.receive(each)
                if one.proven is not None:
                    one.commit()
            one.receive(raw)
        except HandshakeError:
            assert not one.is_up
            continue
        assert not one.is_up or raw == honest[3]
        signature = honest[1 if dialed else 2][-66:-2]
        assert one.proven is None or heard == 1 or signature in raw, "proven without the signature"


def _side(dialed: bool) -> Handshake:
    return Handshake(
        ALICE if dialed else BOB, MESH, dialed=dialed, binding=b"c" * 32, nonce=bytes([dialed]) * 32,
        boot=b"b" * 16,
    )  # fmt: skip


@functools.cache
def _talk() -> tuple[bytes, ...]:
    """Four messages of honest sides: the first and third are the dialler's."""
    one, other = _side(True), _side(False)
    said: list[Any] = [one.open()]
    said.append(other.receive(said[0]))
    one.receive(said[1])
    said.append(one.commit())
    other.receive(said[2])
    said.append(other.commit())
    return tuple(said)


@functools.cache
def records() -> tuple[bytes, ...]:
    return tuple(
        record.sign(ALICE, MESH, name=name, incarnation=3, left=False, addresses=addresses, durable=True).raw
        for name, addresses in (("kitchen", ("10.0.0.1:7",)), ("küche", ()))
    )


def messages() -> list[bytes]:
    node, origin = bytes(ALICE.id), bytes(sealed().origin)
    said = [
        Rumour(node, 3, True, node, "timeout"), Shuffle([Contact(node, ["10.0.0.1:7", "[::1]:8"])], True),
        IHave([Have("main", origin, 9, bytes(16)), Have("x", origin, 1, bytes(16))]),
        SnapshotPart("main", 1, 0, 2, b"data"), Send(b"\x01"), Post(b"lifelife", 1, 2, b"\xc0"),
    ]  # fmt: skip
    return [encode_message(each) for each in said]


def snapshots() -> list[bytes]:
    return [Snapshot("main", {sealed().origin: sealed()}, b"state").seal(ALICE, MESH)]
