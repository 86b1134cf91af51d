"""Who belongs to a mesh: from its name, and a shared secret or the word *open*, to the keys of ``identity.Mesh``.

The tag is public and tells meshes on one LAN apart. The mesh id goes under every signature and is bound to the mode
and the secret, so nothing signed in an open mesh, or under another secret, verifies here.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Callable
from typing import TypeAlias

import nacl.pwhash.argon2id

from transport.identity import Mesh

Stretch: TypeAlias = Callable[[bytes, bytes], bytes]  # (secret, 16 bytes of salt) -> 32 bytes

NAME_BYTES_MAX = 64
SECRET_BYTES_MAX = 1024
SECRET_BITS = 128
# Twice over 32 MiB: above OWASP's floor for argon2id (19 MiB, twice), 33 ms on the reference machine (libsodium's
# INTERACTIVE, 64 MiB, takes 63). All nodes of a mesh must agree, so these are constants of the protocol.
STRETCH_PASSES = 2
STRETCH_BYTES = 32 << 20


def argon2id(secret: bytes, salt: bytes) -> bytes:
    """Make guessing dear: 32 bytes out of a secret, slowly (RFC 9106)."""
    return nacl.pwhash.argon2id.kdf(32, secret, salt, opslimit=STRETCH_PASSES, memlimit=STRETCH_BYTES)


def admission(name: str, *, secret: str | bytes | None, open: bool, stretch: Stretch = argon2id) -> Mesh:
    """The mesh ``name``, for those who know ``secret``, or for anyone if ``open``.

    White space around the secret does not count, so a file with a final newline does. The slow step runs once per
    name and secret in a process. Raises ``ValueError`` unless exactly one of the two is given, or on an empty secret
    or an unusable name.
    """
    if not 0 < len(name.encode()) <= NAME_BYTES_MAX or not name.isprintable():
        raise ValueError(f"a mesh name has 1 to {NAME_BYTES_MAX} bytes, all printable")
    if (secret is None) == (not open):
        raise ValueError("a mesh is either open or has a secret")
    if secret is None:
        return Mesh(name, _tag(name), _derive(b"open", name.encode())[:16], None)
    raw = (secret.encode() if isinstance(secret, str) else secret).strip()
    if not 0 < len(raw) <= SECRET_BYTES_MAX:
        raise ValueError(f"a secret has 1 to {SECRET_BYTES_MAX} bytes; `gossamer secret` makes a good one")
    return _with_secret(name, raw, stretch)


@functools.lru_cache(maxsize=64)
def _with_secret(name: str, secret: bytes, stretch: Stretch) -> Mesh:
    key = stretch(secret, _derive(b"salt", name.encode())[:16])
    return Mesh(name, _tag(name), _derive(b"mesh id", key)[:16], _derive(b"proof key", key))


def _tag(name: str) -> bytes:
    return _derive(b"tag", name.encode())[:8]


def _derive(label: bytes, material: bytes) -> bytes:
    return hashlib.blake2b(bytes((len(label),)) + label + material, digest_size=32, person=b"gossamer-mesh").digest()


def new_secret(entropy: Callable[[int], bytes]) -> str:
    """A secret nobody guesses: 128 bits from ``entropy``, in groups that can be read out over the telephone."""
    text = base64.b32encode(entropy(SECRET_BITS // 8)).decode("ascii").rstrip("=").lower()
    return "-".join(text[at : at + 5] for at in range(0, len(text), 5))
