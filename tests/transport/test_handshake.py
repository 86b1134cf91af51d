"""The handshake under attack. One table of honest talk, then everything a man in the middle can do to it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fake_env import FastSuite
from transport.admission import SECRET_BITS, admission, new_secret
from transport.errors import (
    BadProof,
    Declined,
    HandshakeError,
    Malformed,
    Selfie,
    UnexpectedPeer,
    WrongMesh,
    WrongSecret,
    WrongVersion,
)
from transport.handshake import MESSAGE_BYTES_MAX, Answer, Core, Handshake, Hello, Welcome, refusal
from transport.identity import ED25519, Identity, Mesh, Suite


def cheap(secret: bytes, salt: bytes) -> bytes:
    return (secret + salt).ljust(32, b".")[:32]


def with_secret(secret: str, name: str = "m") -> Mesh:
    return admission(name, secret=secret, open=False, stretch=cheap)


OPEN = admission("m", secret=None, open=True)
SECRET = with_secret("right")
ALICE, BOB, MALLORY = (Identity(bytes([n]) * 32) for n in (1, 2, 3))


def side(
    who: Identity, *, dialed: bool, mesh: Mesh = SECRET, binding: bytes = b"b" * 32, nonce: int = 0,
    expected: Identity | None = None, versions: tuple[int, ...] = (1,), insist: bool = False,
) -> Handshake:  # fmt: skip
    return Handshake(
        who, mesh, dialed=dialed, binding=binding, nonce=bytes([nonce or (10 if dialed else 20)]) * 32,
        boot=who.id[:16], expected=None if expected is None else expected.id, versions=versions, insist=insist,
    )  # fmt: skip


def talk(one: Handshake, other: Handshake) -> list[bytes]:
    """Honest delivery until both are up; the messages."""
    wire = [one.open() or b""]
    wire.append(other.receive(wire[0]) or b"")
    assert one.receive(wire[1]) is None
    wire.append(one.commit())
    assert other.receive(wire[2]) is None
    wire.append(other.commit())
    assert one.receive(wire[3]) is None
    return wire


@pytest.mark.parametrize("mesh", [OPEN, SECRET])
def test_both_prove_themselves(mesh: Mesh) -> None:
    one, other = side(ALICE, dialed=True, mesh=mesh, expected=BOB, insist=True), side(BOB, dialed=False, mesh=mesh)
    wire = talk(one, other)
    assert one.is_up and other.is_up and one.proven and other.proven
    assert (one.proven.peer, other.proven.peer) == (BOB.id, ALICE.id)
    assert (one.proven.boot, other.proven.boot) == (BOB.id[:16], ALICE.id[:16])
    assert other.proven.insist and not one.proven.insist
    assert all(len(each) <= MESSAGE_BYTES_MAX // 3 for each in wire)


def test_nothing_is_up_before_both_proofs() -> None:
    one, other = side(ALICE, dialed=True), side(BOB, dialed=False)
    answer = other.receive(one.open() or b"") or b""
    assert not one.is_up and not other.is_up and one.proven is None and other.proven is None
    one.receive(answer)
    assert one.proven and not one.is_up
    proof = one.commit()
    assert not one.is_up and not other.is_up
    other.receive(proof)
    assert other.proven and not other.is_up


def refused_by_acceptor(one: Handshake, other: Handshake) -> type[HandshakeError]:
    with pytest.raises(HandshakeError) as caught:
        other.receive(one.open() or b"")
    told = refusal(caught.value)
    assert told is not None and len(told) < 40
    with pytest.raises(type(caught.value)) as heard:
        one.receive(told)
    assert heard.value.told and not caught.value.told and heard.value.reason == caught.value.reason
    assert refusal(heard.value) is None  # no ping-pong
    return type(caught.value)


def test_other_mesh_other_mode_other_version_oneself() -> None:
    def dial(who: Identity = ALICE, mesh: Mesh = SECRET, versions: tuple[int, ...] = (1,)) -> Handshake:
        return side(who, dialed=True, mesh=mesh, versions=versions)

    assert refused_by_acceptor(dial(mesh=with_secret("right", "n")), side(BOB, dialed=False)) is WrongMesh
    assert refused_by_acceptor(dial(mesh=OPEN), side(BOB, dialed=False)) is WrongSecret
    assert refused_by_acceptor(dial(), side(BOB, dialed=False, mesh=OPEN)) is WrongSecret
    assert refused_by_acceptor(dial(versions=(2, 3)), side(BOB, dialed=False)) is WrongVersion
    assert refused_by_acceptor(dial(who=BOB), side(BOB, dialed=False)) is Selfie


def fails(one: Handshake, other: Handshake, meddle: Callable[[int, bytes], bytes]) -> HandshakeError:
    """Carry messages through ``meddle`` until somebody objects; nobody may be up on both sides, nor one wrongly."""
    with pytest.raises(HandshakeError) as caught:
        hello = meddle(0, one.open() or b"")
        answer = meddle(1, other.receive(hello) or b"")
        one.receive(answer)
        other.receive(meddle(2, one.commit()))
        one.receive(meddle(3, other.commit()))
    assert not one.is_up
    return caught.value


def honest(at: int, message: bytes) -> bytes:
    return message


def test_a_wrong_secret_is_told_from_a_man_in_the_middle() -> None:
    wrong = fails(side(ALICE, dialed=True, mesh=with_secret("wrong")), side(BOB, dialed=False), honest)
    assert type(wrong) is WrongSecret and wrong.peer == BOB.id  # Bob is proven, his secret is not ours


def test_a_relay_with_another_certificate() -> None:
    error = fails(side(ALICE, dialed=True, binding=b"1" * 32), side(BOB, dialed=False, binding=b"2" * 32), honest)
    assert type(error) is BadProof
    error = fails(
        side(ALICE, dialed=True, binding=b"1" * 32, mesh=OPEN), side(BOB, dialed=False, binding=b"2" * 32, mesh=OPEN),
        honest,
    )  # fmt: skip
    assert type(error) is BadProof


def test_somebody_else_answers() -> None:
    error = fails(side(ALICE, dialed=True, expected=BOB), side(MALLORY, dialed=False), honest)
    assert type(error) is UnexpectedPeer and error.peer == MALLORY.id


def test_an_answer_under_a_key_that_is_not_ones_own() -> None:
    def forge(at: int, message: bytes) -> bytes:
        if at != 1:
            return message
        answer = msgspec.msgpack.decode(message, type=Answer)
        core = msgspec.structs.replace(msgspec.msgpack.decode(answer.core, type=Core), key=bytes(BOB.id))
        return msgspec.msgpack.encode(msgspec.structs.replace(answer, core=msgspec.msgpack.encode(core)))

    assert type(fails(side(ALICE, dialed=True, expected=BOB), side(MALLORY, dialed=False), forge)) is BadProof


def test_unknown_key_share() -> None:
    """Mallory passes Alice's dial on under his own name: neither may end up linked to the wrong one."""

    def rename(at: int, message: bytes) -> bytes:
        if at != 0:
            return message
        hello = msgspec.msgpack.decode(message, type=Hello)
        return msgspec.msgpack.encode(msgspec.structs.replace(hello, key=bytes(MALLORY.id)))

    assert type(fails(side(ALICE, dialed=True), side(BOB, dialed=False), rename)) is BadProof


@pytest.mark.parametrize("mesh", [OPEN, SECRET])
def test_reflection(mesh: Mesh) -> None:
    """Alice's own words come back to her, from one conversation or from two at once."""
    one, other = side(ALICE, dialed=True, mesh=mesh), side(ALICE, dialed=False, mesh=mesh, nonce=33)
    with pytest.raises(Selfie):
        other.receive(one.open() or b"")
    first, second = side(ALICE, dialed=True, mesh=mesh), side(BOB, dialed=False, mesh=mesh)
    answer = second.receive(first.open() or b"") or b""
    decoded = msgspec.msgpack.decode(answer, type=Answer)
    first.receive(answer)
    proof = first.commit()
    with pytest.raises(HandshakeError):  # Bob's own proof, sent back to him as if it were Alice's
        second.receive(b"\x93\x03" + msgspec.msgpack.encode(decoded.signature) + msgspec.msgpack.encode(decoded.mac))
    with pytest.raises(HandshakeError):
        first.receive(proof)


def test_downgrade() -> None:
    def strip(at: int, message: bytes) -> bytes:
        if at != 0:
            return message
        hello = msgspec.msgpack.decode(message, type=Hello)
        return msgspec.msgpack.encode(msgspec.structs.replace(hello, versions=[1]))

    one, other = side(ALICE, dialed=True, versions=(1, 2)), side(BOB, dialed=False, versions=(1, 2))
    assert type(fails(one, other, strip)) is BadProof
    one, other = side(ALICE, dialed=True, versions=(1, 2)), side(BOB, dialed=False, versions=(1, 2))
    talk(one, other)
    assert one.proven and one.proven.version == 2


def test_a_liar_who_picks_a_lower_version() -> None:
    one = side(ALICE, dialed=True, versions=(1, 2))
    liar = side(MALLORY, dialed=False, versions=(1, 2))
    hello = one.open() or b""
    liar.receive(hello)
    liar._core = msgspec.msgpack.encode(
        msgspec.structs.replace(msgspec.msgpack.decode(liar._core, type=Core), version=1)
    )
    with pytest.raises(BadProof):
        one.receive(msgspec.msgpack.encode(Answer(liar._core, *liar._prove(b"acceptor"))))


@pytest.mark.parametrize("mesh", [OPEN, SECRET])
def test_a_replayed_capture(mesh: Mesh) -> None:
    wire = talk(side(ALICE, dialed=True, mesh=mesh), side(BOB, dialed=False, mesh=mesh))
    fresh = side(BOB, dialed=False, mesh=mesh, nonce=99)
    fresh.receive(wire[0])
    with pytest.raises(BadProof):
        fresh.receive(wire[2])
    again = side(ALICE, dialed=True, mesh=mesh, nonce=98)
    again.open()
    with pytest.raises(BadProof):
        again.receive(wire[1])


def test_a_splice_of_two_conversations() -> None:
    """Two dials of Alice to Bob at the same moment, on one binding; their messages are swapped."""
    dials = [side(ALICE, dialed=True, nonce=n) for n in (41, 42)]
    ends = [side(BOB, dialed=False, nonce=n) for n in (51, 52)]
    answers = [end.receive(dial.open() or b"") or b"" for dial, end in zip(dials, ends, strict=True)]
    with pytest.raises(BadProof):
        dials[0].receive(answers[1])
    dials[1].receive(answers[1])
    with pytest.raises(BadProof):
        ends[0].receive(dials[1].commit())


@pytest.mark.parametrize("secret", [False, True])
@pytest.mark.parametrize("step", [0, 1, 2, 3])
def test_every_flipped_bit_ends_it(step: int, secret: bool) -> None:
    mesh = with_secret("right") if secret else OPEN
    alice, bob = (Identity(bytes([n]) * 32, FastSuite()) for n in (1, 2))
    wire = talk(side(alice, dialed=True, mesh=mesh), side(bob, dialed=False, mesh=mesh))
    for at in range(len(wire[step]) * 8):

        def flip(now: int, message: bytes, at: int = at) -> bytes:
            if now != step:
                return message
            place = at // 8
            return message[:place] + bytes((message[place] ^ 1 << at % 8,)) + message[place + 1 :]

        fails(side(alice, dialed=True, mesh=mesh), side(bob, dialed=False, mesh=mesh), flip)


@settings(max_examples=100, deadline=None)
@given(junk=st.binary(max_size=1100), dialed=st.booleans())
def test_any_bytes_end_in_one_typed_error(junk: bytes, dialed: bool) -> None:
    one = side(ALICE, dialed=dialed)
    one.open()
    with pytest.raises(HandshakeError):
        one.receive(junk)
    with pytest.raises(Malformed):
        one.receive(msgspec.msgpack.encode(Welcome()))  # and it stays ended


def test_messages_out_of_turn() -> None:
    hello = side(ALICE, dialed=True).open() or b""
    welcome = msgspec.msgpack.encode(Welcome())
    for early in (welcome, hello):
        one = side(BOB, dialed=True)
        one.open()
        with pytest.raises(Malformed):
            one.receive(early)
    twice = side(BOB, dialed=False)
    twice.receive(hello)
    with pytest.raises(Malformed):
        twice.receive(hello)
    skipped = side(ALICE, dialed=True)
    skipped.receive(side(BOB, dialed=False).receive(skipped.open() or b"") or b"")
    with pytest.raises(Malformed):  # a welcome before we committed
        skipped.receive(welcome)


def test_a_giant_message_is_not_even_looked_at() -> None:
    with pytest.raises(Malformed, match="bytes"):
        side(BOB, dialed=False).receive(b"\x98" + bytes(MESSAGE_BYTES_MAX))


def test_to_decline_says_one_word() -> None:
    one, other = side(ALICE, dialed=True), side(BOB, dialed=False)
    one.receive(other.receive(one.open() or b"") or b"")
    other.receive(one.commit())
    told = refusal(other.decline("crossed"))
    with pytest.raises(Declined) as caught:
        one.receive(told or b"")
    assert (caught.value.detail, caught.value.told) == ("crossed", True)
    with pytest.raises(Malformed):
        other.receive(one._hello)


def test_no_secret_shows_in_what_is_said_or_printed() -> None:
    mesh = with_secret("a-very-secret-phrase")
    one, other = side(ALICE, dialed=True, mesh=mesh), side(BOB, dialed=False, mesh=mesh)
    wire = b"".join(talk(one, other))
    assert mesh.proof_key and mesh.proof_key not in wire and b"very-secret" not in wire and mesh.id not in wire
    assert "very-secret" not in repr(mesh) + repr(one) + str(WrongSecret(BOB.id))
    assert mesh.proof_key.hex() not in repr(mesh)


def test_reasons_are_distinct_words() -> None:
    kinds = [WrongMesh, WrongSecret, WrongVersion, UnexpectedPeer, BadProof, Selfie, Malformed, Declined]
    assert len({each.reason for each in kinds}) == len(kinds)


# -- admission -----------------------------------------------------------------------------------------------------


def test_the_real_stretch_is_the_same_everywhere() -> None:
    """A golden value: nodes of all versions must agree on it."""
    mesh = admission("home", secret=" s3cret\n", open=False)
    assert mesh == admission("home", secret=b"s3cret", open=False)
    assert (mesh.tag.hex(), mesh.id.hex()) == ("0c4f116606a0b138", "93f4415087485b1c5c78ec7682de0aaf")


def test_meshes_differ_by_name_mode_and_secret() -> None:
    all_of_them = [OPEN, admission("n", secret=None, open=True), SECRET, with_secret("x"), with_secret("right", "n")]
    assert len({each.id for each in all_of_them}) == 5
    assert OPEN.tag == SECRET.tag != all_of_them[1].tag  # public: the name, and only the name


@pytest.mark.parametrize(
    ("secret", "is_open"), [(None, False), ("x", True), ("", False), (" \n", False), ("x" * 2000, False)]
)
def test_neither_both_or_an_empty_secret(secret: str | None, is_open: bool) -> None:
    with pytest.raises(ValueError, match=r"secret|open"):
        admission("m", secret=secret, open=is_open)


@pytest.mark.parametrize("name", ["", "x" * 65, "a\nb", "\x1b[2J"])
def test_unusable_names(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        admission(name, secret=None, open=True)


def test_a_made_secret_is_readable_and_whole() -> None:
    drawn = bytes(range(SECRET_BITS // 8))
    text = new_secret(lambda count: drawn[:count])
    assert set(text) <= set("abcdefghijklmnopqrstuvwxyz234567-")
    assert len(text.replace("-", "")) * 5 >= 128 and max(map(len, text.split("-"))) <= 5
    assert text != new_secret(lambda count: bytes(count))


@pytest.mark.parametrize("suite", [ED25519, FastSuite()])
def test_any_suite_will_do(suite: Suite) -> None:
    a, b = Identity(bytes(32), suite), Identity(bytes([1]) * 32, suite)
    talk(side(a, dialed=True), side(b, dialed=False))
