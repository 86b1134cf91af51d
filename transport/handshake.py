"""Who is at the other end: mutual proof inside a conduit, before a single byte of state. Bytes in, bytes out.

    dialler   Hello    versions, mesh tag, mode, key, nonce, boot, insist
    acceptor  Answer   core (version, versions, key, nonce, boot), signature, mac
    dialler   Proof    signature, mac
    acceptor  Welcome
    either    Refused  a reason word, instead of any of these; then the conduit ends

Both sign role || transcript, where the transcript is the hash of both openings as sent and of the conduit's binding
(the server certificate). So a relay with another certificate, a splice of two conversations, a reflection, a replay
and a downgrade all end in ``BadProof`` or ``Selfie``. In a mesh with a secret, a keyed BLAKE2b over the same bytes
proves its knowledge. The signature is made over the public mesh tag and only the MAC over the secret: so somebody
with the wrong secret is told apart from a man in the middle. After libp2p's TLS and Noise specs, and SIGMA.

The acceptor answers first, so an active prober may try weak secrets offline against its MAC; `gossamer secret` makes
strong ones. A dialler proves itself only when it has decided for this conduit (``commit``): of several dials to one
peer only one is ever finished.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from transport.admission import admission as admission
from transport.admission import new_secret as new_secret
from transport.errors import (
    BadProof,
    Declined,
    HandshakeError,
    HandshakeTimeout,
    Malformed,
    Selfie,
    UnexpectedPeer,
    WrongMesh,
    WrongSecret,
    WrongVersion,
)  # fmt: skip
from transport.identity import Identity, Mesh, NodeId, verify

VERSIONS: tuple[int, ...] = (1,)  # of the link protocol, that this code speaks
MESSAGE_BYTES_MAX = 1024  # of one handshake message; checked before anything is decoded
NONCE_BYTES = 32
BOOT_BYTES = 16
PURPOSE = b"link"

_KEY = Annotated[bytes, Meta(min_length=32, max_length=32)]
_NONCE = Annotated[bytes, Meta(min_length=NONCE_BYTES, max_length=NONCE_BYTES)]
_BOOT = Annotated[bytes, Meta(min_length=BOOT_BYTES, max_length=BOOT_BYTES)]
_VERSIONS = Annotated[list[Annotated[int, Meta(ge=1, le=65535)]], Meta(min_length=1, max_length=16)]
_SIGNATURE = Annotated[bytes, Meta(min_length=64, max_length=64)]
_MAC = Annotated[bytes, Meta(max_length=32)]
_WORD = Annotated[str, Meta(pattern="^[a-z-]{1,24}$")]


class _Message(msgspec.Struct, frozen=True, array_like=True):
    pass


class Hello(_Message, frozen=True, tag=1):
    """The dialler's opening. Its shape is the same in all versions to come; fields may be added behind."""

    versions: _VERSIONS
    mesh_tag: Annotated[bytes, Meta(min_length=8, max_length=8)]
    has_secret: bool
    key: _KEY
    nonce: _NONCE
    boot: _BOOT
    insist: bool


class Core(_Message, frozen=True, tag=5):
    """What the acceptor opens with, under its proof."""

    version: int
    versions: _VERSIONS
    key: _KEY
    nonce: _NONCE
    boot: _BOOT


class Answer(_Message, frozen=True, tag=2):
    core: Annotated[bytes, Meta(max_length=512)]
    signature: _SIGNATURE
    mac: _MAC


class Proof(_Message, frozen=True, tag=3):
    signature: _SIGNATURE
    mac: _MAC


class Welcome(_Message, frozen=True, tag=4):
    pass


class Refused(_Message, frozen=True, tag=6):
    """``detail`` is a word too, only ever set for "declined". Not authenticated: it ends a conversation, no more."""

    reason: _WORD
    detail: Annotated[str, Meta(pattern="^[a-z-]{0,24}$")] = ""


_Any: TypeAlias = Hello | Answer | Proof | Welcome | Refused
_encode = msgspec.msgpack.Encoder(enc_hook=bytes).encode  # a NodeId is no plain bytes to it
_decode = msgspec.msgpack.Decoder[_Any](_Any).decode
_decode_core = msgspec.msgpack.Decoder(Core).decode

_TOLD: dict[str, type[HandshakeError]] = {
    each.reason: each
    for each in (
        WrongMesh, WrongSecret, WrongVersion, UnexpectedPeer, BadProof, Selfie, Malformed, HandshakeTimeout, Declined,
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Proven:
    """Who the other end is, beyond doubt."""

    peer: NodeId
    boot: bytes  # drawn once per start of that node: another one means it restarted
    insist: bool  # a dialler that was told "crossed" before, and still has no link: our old one must be dead
    version: int  # the highest that both speak


class _State(enum.Enum):
    HELLO = enum.auto()  # the acceptor waits for it
    ANSWER = enum.auto()  # the dialler waits for it
    PROOF = enum.auto()  # the acceptor waits for it
    COMMIT = enum.auto()  # the other side is proven; our owner decides
    WELCOME = enum.auto()  # the dialler waits for it
    UP = enum.auto()
    ENDED = enum.auto()


class Handshake:
    """One side of one handshake. Feed ``receive``; when ``proven`` is set, ``commit`` or ``decline``.

    ``nonce`` must be fresh and unguessable, ``binding`` what both ends of the conduit compute alike. ``expected`` pins
    the key of whoever answers our dial. Bounded: five messages of at most 1 KiB, two signatures, two checks.
    """

    __slots__ = ("_binding", "_boot", "_core", "_dialed", "_expected", "_hello", "_identity", "_mesh", "_nonce",
                 "_pending", "_state", "_versions", "claimed", "insist", "proven")  # fmt: skip

    def __init__(
        self, identity: Identity, mesh: Mesh, *, dialed: bool, binding: bytes, nonce: bytes, boot: bytes,
        expected: NodeId | None = None, insist: bool = False, versions: Sequence[int] = VERSIONS,
    ) -> None:  # fmt: skip
        self._identity, self._mesh, self._dialed = identity, mesh, dialed
        self._binding, self._nonce, self._boot = binding, nonce, boot
        self._expected, self._versions, self.insist = expected, list(versions), insist
        self._state = _State.ANSWER if dialed else _State.HELLO
        self._hello = self._core = b""
        self.claimed: NodeId | None = expected  # whom it says it is; not proven
        self.proven: Proven | None = None
        self._pending: Proven | None = None  # as claimed

    @property
    def is_up(self) -> bool:
        """Both sides are proven and have committed: what follows on the conduit is the link's."""
        return self._state is _State.UP

    def open(self) -> bytes | None:
        """What is sent first, if it is ours to begin."""
        if not self._dialed:
            return None
        self._hello = _encode(
            Hello(
                self._versions, self._mesh.tag, self._mesh.proof_key is not None, self._identity.id, self._nonce,
                self._boot, self.insist,
            )
        )  # fmt: skip
        return self._hello

    def receive(self, raw: bytes) -> bytes | None:
        """Take one message; what to send in return, if anything. Raises a ``HandshakeError``, and all is over."""
        try:
            return self._receive(raw)
        except HandshakeError:
            self._state = _State.ENDED
            raise

    def commit(self) -> bytes:
        """Go on with the proven peer: the message that says so. The acceptor is then up."""
        if self._state is not _State.COMMIT:
            raise RuntimeError("commit before the peer is proven")
        if self._dialed:
            self._state = _State.WELCOME
            return _encode(Proof(*self._prove(b"dialler")))
        self._state = _State.UP
        return _encode(Welcome())

    def decline(self, detail: str) -> Declined:
        """Do not go on with the proven peer. ``detail`` is one word: "crossed", "busy", "closing"."""
        self._state = _State.ENDED
        return Declined(self.claimed, detail)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _receive(self, raw: bytes) -> bytes | None:
        if len(raw) > MESSAGE_BYTES_MAX:
            raise Malformed(self.claimed, f"a handshake message of {len(raw)} bytes")
        try:
            message = _decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError):
            raise Malformed(self.claimed, "not a handshake message") from None
        match self._state, message:
            case _State.UP | _State.ENDED, _:
                raise Malformed(self.claimed, "a message after the end of the handshake")
            case _, Refused(reason, detail):
                raise _TOLD.get(reason, Declined)(
                    self.claimed, detail or ("" if reason in _TOLD else reason), told=True
                )
            case _State.HELLO, Hello():
                return self._on_hello(raw, message)
            case _State.ANSWER, Answer():
                self._on_answer(message)
            case _State.PROOF, Proof():
                self._check(b"dialler", message.signature, message.mac)
                self._state = _State.COMMIT
            case _State.WELCOME, Welcome():
                self._state = _State.UP
            case _:
                raise Malformed(self.claimed, f"{type(message).__name__} in state {self._state.name}")
        return None

    def _on_hello(self, raw: bytes, hello: Hello) -> bytes:
        self._hello, self.claimed = raw, NodeId(hello.key)
        common = set(hello.versions) & set(self._versions)
        if not common:
            raise WrongVersion(self.claimed, f"it speaks {_list(hello.versions)}, we {_list(self._versions)}")
        if hello.mesh_tag != self._mesh.tag:
            raise WrongMesh(self.claimed)
        if hello.has_secret != (self._mesh.proof_key is not None):
            raise WrongSecret(self.claimed, "it has a secret, we are open" if hello.has_secret else "it has none")
        if hello.key == self._identity.id:
            raise Selfie(self.claimed)
        self.insist, version = hello.insist, max(common)
        self._core = _encode(Core(version, self._versions, self._identity.id, self._nonce, self._boot))
        self._state = _State.PROOF
        self._pending = Proven(self.claimed, hello.boot, hello.insist, version)
        return _encode(Answer(self._core, *self._prove(b"acceptor")))

    def _on_answer(self, answer: Answer) -> None:
        try:
            core = _decode_core(answer.core)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError):
            raise Malformed(self.claimed, "not an answer") from None
        self._core, self.claimed = answer.core, NodeId(core.key)
        if core.key == self._identity.id:
            raise Selfie(self.claimed)
        self._pending = Proven(self.claimed, core.boot, False, core.version)
        self._check(b"acceptor", answer.signature, answer.mac)
        if core.version != max(set(core.versions) & set(self._versions), default=0):
            raise BadProof(self.claimed, "it chose a version that is not the highest of both")
        if self._expected is not None and self.claimed != self._expected:
            self.proven = None
            raise UnexpectedPeer(self.claimed, f"{self._expected.short} was expected here")
        self._state = _State.COMMIT

    def _transcript(self, role: bytes) -> bytes:
        digest = hashlib.blake2b(digest_size=64, person=b"gossamer-link")
        for part in (self._hello, self._core, self._binding):
            digest.update(len(part).to_bytes(4, "big"))
            digest.update(part)
        return role + digest.digest()

    def _prove(self, role: bytes) -> tuple[bytes, bytes]:
        said = self._transcript(role)
        return self._identity.sign(PURPOSE, self._mesh.tag, said), self._mac(said)

    def _check(self, role: bytes, signature: bytes, mac: bytes) -> None:
        """The other side's proof. The signature first: only who it is decides what a wrong MAC means."""
        said, pending = self._transcript(role), self._pending
        assert pending is not None  # the states before this one set it
        if not verify(self._identity.suite, pending.peer, PURPOSE, self._mesh.tag, said, signature):
            raise BadProof(pending.peer)
        if not hmac.compare_digest(mac, self._mac(said)):
            raise WrongSecret(pending.peer)
        self.proven = pending

    def _mac(self, said: bytes) -> bytes:
        if self._mesh.proof_key is None:
            return b""
        return hashlib.blake2b(said, digest_size=32, key=self._mesh.proof_key, person=b"gossamer-proof").digest()


def refusal(error: HandshakeError) -> bytes | None:
    """What to tell the other side before the conduit ends; nothing, if it was they who told us."""
    if error.told or error.reason not in _TOLD:
        return None
    return _encode(Refused(error.reason, error.detail if isinstance(error, Declined) else ""))


def _list(versions: Sequence[int]) -> str:
    return ", ".join(map(str, sorted(versions)))
