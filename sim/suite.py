"""Signatures inside a world: a keyed hash that stands in for Ed25519, or the real one with a memory.

Real Ed25519 costs 94 us a signed hop, ten times everything else in a simulated message. The stand-in costs about 1 us
and keeps what protocols rely on: only who has the secret can sign, and a changed byte does not verify.
"""

from __future__ import annotations

import hashlib

from sim.seed import Seed
from transport.identity import ED25519, KEY_BYTES, SIGNATURE_BYTES

MEMO_MAX = 200_000  # signatures remembered; then it starts afresh


class StandIn:
    """The world knows every key made in it, so it can check a keyed hash. A key made elsewhere signs nothing here."""

    def __init__(self, seed: Seed) -> None:
        self._world = seed.digest("suite", 32)
        self._secrets: dict[bytes, bytes] = {}
        self._publics: dict[bytes, bytes] = {}

    def keypair(self, seed: bytes) -> tuple[bytes, bytes]:
        public = hashlib.blake2b(seed, key=self._world, person=b"public", digest_size=KEY_BYTES).digest()
        secret = hashlib.blake2b(seed, key=self._world, person=b"secret", digest_size=KEY_BYTES).digest()
        self._secrets[public] = secret
        self._publics[secret] = public
        return public, secret

    def agree(self, secret: bytes, public: bytes) -> bytes | None:
        if secret not in self._publics or public not in self._secrets:
            return None
        ends = b"".join(sorted((self._publics[secret], public)))
        return hashlib.blake2b(ends, key=self._world, person=b"agree", digest_size=KEY_BYTES).digest()

    def sign(self, secret: bytes, message: bytes) -> bytes:
        return hashlib.blake2b(message, key=secret, digest_size=SIGNATURE_BYTES).digest()

    def verify(self, public: bytes, message: bytes, signature: bytes) -> bool:
        secret = self._secrets.get(public)
        return secret is not None and self.sign(secret, message) == signature


class Memory:
    """Real Ed25519; a signature made or verified once in this world is a look-up the next time.

    A forgery is in no memory, so it is verified truly, and fails.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, None] = {}

    def keypair(self, seed: bytes) -> tuple[bytes, bytes]:
        return ED25519.keypair(seed)

    def sign(self, secret: bytes, message: bytes) -> bytes:
        signature = ED25519.sign(secret, message)
        self._remember(secret[-KEY_BYTES:], message, signature)  # libsodium's secret key ends with the public one
        return signature

    def verify(self, public: bytes, message: bytes, signature: bytes) -> bool:
        if len(public) != KEY_BYTES or len(signature) != SIGNATURE_BYTES:
            return False
        if self._key(public, message, signature) in self._known:
            return True
        good = ED25519.verify(public, message, signature)
        if good:
            self._remember(public, message, signature)
        return good

    def agree(self, secret: bytes, public: bytes) -> bytes | None:
        return ED25519.agree(secret, public)

    @staticmethod
    def _key(public: bytes, message: bytes, signature: bytes) -> bytes:
        digest = hashlib.blake2b(message, digest_size=32)
        digest.update(public + signature)
        return digest.digest()

    def _remember(self, public: bytes, message: bytes, signature: bytes) -> None:
        if len(self._known) >= MEMO_MAX:
            self._known.clear()
        self._known[self._key(public, message, signature)] = None
