"""Who somebody is: Ed25519 keys, node ids, origins, and the one place where bytes are signed.

A node *is* its key. What a node writes goes into its log; the pair (key, log id) is the *origin*, and the
text of an origin is the *actor* of the CRDTs.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import nacl.bindings as sodium
import nacl.exceptions

KEY_BYTES = 32
LOG_BYTES = 8
SIGNATURE_BYTES = 64
NODE_TEXT_CHARS = 52
ORIGIN_TEXT_CHARS = 64


@lru_cache(4096)  # the same members all day long, at 5 us each
def _base32(raw: bytes) -> str:
    return base64.b32encode(raw).decode("ascii").rstrip("=").lower()


class NodeId(bytes):
    """The 32-byte Ed25519 public key of a node. ``str()`` is its text form: base32, 52 characters."""

    __slots__ = ()

    def __new__(cls, raw: bytes) -> NodeId:
        if len(raw) != KEY_BYTES:
            raise ValueError(f"a node id has {KEY_BYTES} bytes, got {len(raw)}")
        return super().__new__(cls, raw)

    @classmethod
    def parse(cls, text: str) -> NodeId:
        """The id whose text form this is. Raises ``ValueError`` when it is none."""
        if len(text) != NODE_TEXT_CHARS:
            raise ValueError(f"a node id has {NODE_TEXT_CHARS} characters, got {len(text)}")
        return cls(base64.b32decode(text.upper() + "===="))

    @property
    def short(self) -> str:
        """The first 8 characters of the text form: what logs show."""
        return _base32(self[:5])

    def __str__(self) -> str:
        return _base32(self)

    def __repr__(self) -> str:
        return f"NodeId({self.short})"


class Origin(bytes):
    """One log of one node: its key and 64 random bits, 40 bytes. ``str()`` (64 characters) is the CRDTs' actor."""

    __slots__ = ()

    def __new__(cls, raw: bytes) -> Origin:
        if len(raw) != KEY_BYTES + LOG_BYTES:
            raise ValueError(f"an origin has {KEY_BYTES + LOG_BYTES} bytes, got {len(raw)}")
        return super().__new__(cls, raw)

    @classmethod
    def of(cls, node: bytes, log: bytes) -> Origin:
        """The origin of ``node``'s log ``log``."""
        return cls(node + log)

    @classmethod
    def parse(cls, text: str) -> Origin:
        """The origin whose text form this is. Raises ``ValueError`` when it is none."""
        if len(text) != ORIGIN_TEXT_CHARS:
            raise ValueError(f"an origin has {ORIGIN_TEXT_CHARS} characters, got {len(text)}")
        return cls(base64.b32decode(text.upper()))

    @property
    def node(self) -> NodeId:
        """Whose log it is."""
        return _node_of(self)

    @property
    def log(self) -> bytes:
        """The log id, 8 bytes."""
        return bytes(self[KEY_BYTES:])

    def __str__(self) -> str:
        return _base32(self)

    def __repr__(self) -> str:
        return f"Origin({_base32(self[:5])}/{self.log.hex()[:4]})"


@lru_cache(4096)
def _node_of(origin: bytes) -> NodeId:
    return NodeId(origin[:KEY_BYTES])


class Suite(Protocol):
    """How keys are made, and messages signed and checked. Ed25519 in production; the simulator may stand in."""

    def keypair(self, seed: bytes) -> tuple[bytes, bytes]:
        """Public key (32 bytes) and secret key (opaque) of a 32-byte seed. Always the same for one seed."""

    def sign(self, secret: bytes, message: bytes) -> bytes:
        """64 bytes that only the holder of ``secret`` can make for ``message``. Deterministic."""

    def verify(self, public: bytes, message: bytes, signature: bytes) -> bool:
        """Whether ``signature`` is ``public``'s for ``message``. Never raises, whatever the bytes."""

    def agree(self, secret: bytes, public: bytes) -> bytes | None:
        """32 bytes that the holders of the two secret keys can compute, and nobody else; None when ``public`` is no
        key at all."""


class Ed25519:
    """The real suite, on libsodium (strict verification, so signatures are not malleable)."""

    def keypair(self, seed: bytes) -> tuple[bytes, bytes]:
        public, secret = sodium.crypto_sign_seed_keypair(seed)
        return bytes(public), bytes(secret)

    def sign(self, secret: bytes, message: bytes) -> bytes:
        return bytes(sodium.crypto_sign(message, secret)[:SIGNATURE_BYTES])

    def verify(self, public: bytes, message: bytes, signature: bytes) -> bool:
        if len(public) != KEY_BYTES or len(signature) != SIGNATURE_BYTES:
            return False
        try:
            sodium.crypto_sign_open(signature + message, public)
        except (nacl.exceptions.BadSignatureError, nacl.exceptions.CryptoError, ValueError, TypeError):
            return False
        return True

    def agree(self, secret: bytes, public: bytes) -> bytes | None:
        try:
            ours = sodium.crypto_sign_ed25519_sk_to_curve25519(secret)
            theirs = sodium.crypto_sign_ed25519_pk_to_curve25519(public)
            return bytes(sodium.crypto_scalarmult(ours, theirs))
        except (nacl.exceptions.CryptoError, ValueError, TypeError):
            return None  # no point of the curve, or one of small order


ED25519 = Ed25519()


@dataclass(frozen=True, slots=True)
class Mesh:
    """Which mesh, and what proves that one belongs to it.

    ``tag`` is public (it only tells two meshes on one LAN apart); ``id`` goes under every signature and is bound to
    the secret; ``proof_key`` makes the handshake MAC and is ``None`` in an open mesh. Made by ``handshake.admission``.
    """

    name: str
    tag: bytes  # 8 bytes
    id: bytes  # 16 bytes
    proof_key: bytes | None

    def __repr__(self) -> str:  # never the secret
        return f"Mesh({self.name!r}, {'open' if self.proof_key is None else 'secret'})"


class Identity:
    """A node's own key: its id, and the signing of bytes for one stated purpose.

    Every signature covers ``purpose``, the mesh id and the message, so nothing signed for one purpose or mesh
    verifies for another. The seed is never shown, not even by ``repr``.
    """

    __slots__ = ("_secret", "_sign", "id", "suite")

    def __init__(self, seed: bytes, suite: Suite = ED25519) -> None:
        if len(seed) != KEY_BYTES:
            raise ValueError(f"a seed has {KEY_BYTES} bytes, got {len(seed)}")
        public, self._secret = suite.keypair(seed)
        self.id = NodeId(public)
        self.suite = suite
        self._sign: Callable[[bytes, bytes], bytes] = suite.sign

    def sign(self, purpose: bytes, mesh_id: bytes, message: bytes) -> bytes:
        """This node's signature of ``message`` for ``purpose`` in the mesh ``mesh_id``."""
        return self._sign(self._secret, signed_bytes(purpose, mesh_id, message))

    def agree(self, purpose: bytes, mesh_id: bytes, other: NodeId) -> bytes | None:
        """A key for ``purpose`` that this node and ``other`` alone can compute; None when ``other`` is no key."""
        shared = self.suite.agree(self._secret, other)
        if shared is None:
            return None
        ends = b"".join(sorted((bytes(self.id), bytes(other))))
        return hashlib.blake2b(signed_bytes(purpose, mesh_id, ends), key=shared, digest_size=32).digest()

    def __repr__(self) -> str:
        return f"Identity({self.id.short})"


def signed_bytes(purpose: bytes, mesh_id: bytes, message: bytes) -> bytes:
    """What a signature really covers: a domain prefix, unambiguous by its lengths, then the message."""
    return b"gossamer-1" + bytes((len(purpose), len(mesh_id))) + purpose + mesh_id + message


def verify(suite: Suite, node: bytes, purpose: bytes, mesh_id: bytes, message: bytes, signature: bytes) -> bool:
    """Whether ``node`` signed ``message`` for ``purpose`` in this mesh. Never raises."""
    return suite.verify(node, signed_bytes(purpose, mesh_id, message), signature)


def fingerprint(*parts: bytes) -> bytes:
    """16 bytes that stand for ``parts``; each part is framed by its length."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(4, "big"))
        digest.update(part)
    return digest.digest()
