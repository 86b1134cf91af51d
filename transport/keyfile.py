"""A node's key on disk: the id and the seed, nothing else. 0600, written whole or not at all, refused if others can
read it."""

from __future__ import annotations

import base64
import binascii
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

from transport.errors import KeyFileUnsafe
from transport.identity import ED25519, KEY_BYTES, Identity, Suite

KEY_FILE = "node.key"  # in a node's data directory
_TITLE = "# gossamer node key: who can read this file can speak as this node"
_BYTES_MAX = 4096  # a key file has about 200


def load_or_create_seed(path: str | os.PathLike[str], entropy: Callable[[int], bytes], suite: Suite = ED25519) -> bytes:
    """The 32-byte seed of the key kept at ``path``; a new one from ``entropy`` if there is no such file yet.

    Of several processes that create it at once all get the same one. Raises ``KeyFileUnsafe`` (nothing was changed)
    when others can read the file, when it is another user's, or when it is no whole key; ``OSError`` from the disk.
    """
    where = Path(path)
    try:
        return _read(where, suite)
    except FileNotFoundError:
        pass
    where.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _create(where, entropy(KEY_BYTES), entropy(8), suite)
    return _read(where, suite)


def load_or_create_key(
    path: str | os.PathLike[str], entropy: Callable[[int], bytes], suite: Suite = ED25519
) -> Identity:
    """The identity kept at ``path``, as ``load_or_create_seed`` finds or makes it."""
    return Identity(load_or_create_seed(path, entropy, suite), suite)


def load_key(path: str | os.PathLike[str], suite: Suite = ED25519) -> Identity:
    """The identity kept at ``path``. Raises ``FileNotFoundError``, and as ``load_or_create_seed``."""
    return Identity(_read(Path(path), suite), suite)


def read_identity(folder: str | os.PathLike[str]) -> Identity:
    """The identity of the node that lives in the data directory ``folder``. Raises as ``load_key``."""
    return load_key(Path(folder) / KEY_FILE)


def _read(path: Path, suite: Suite) -> bytes:
    name = str(path)
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(handle, "rb") as file:
        _check(name, os.fstat(handle))
        raw = file.read(_BYTES_MAX + 1)
    fields: dict[str, str] = {}
    for line in raw[:_BYTES_MAX].decode("ascii", "replace").splitlines():
        key, _, value = line.partition(" ")
        fields[key] = value.strip()
    text = fields.get("seed", "")
    try:
        seed = base64.b32decode(text.upper() + "====")
        node = Identity(seed, suite).id
    except (ValueError, binascii.Error):
        raise KeyFileUnsafe(name, "is no whole key", _LOST) from None
    if str(node) != fields.get("node") or _text(seed) != text:
        raise KeyFileUnsafe(name, "its seed and its node id do not belong together", _LOST)
    return seed


_LOST = "restore it from a backup, or move it away to start as a new node"


def _text(seed: bytes) -> str:
    return base64.b32encode(seed).decode("ascii").rstrip("=").lower()


def _check(name: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise KeyFileUnsafe(name, "is no regular file", _LOST)
    if os.name != "posix":
        return  # the user's profile folder is what protects it there
    if status.st_mode & 0o077:
        raise KeyFileUnsafe(name, f"others may read it (mode {stat.S_IMODE(status.st_mode):04o})", f"chmod 600 {name}")
    if status.st_uid not in (os.geteuid(), 0):
        raise KeyFileUnsafe(
            name, f"belongs to user {status.st_uid}, not to you", f"chown it, or run as user {status.st_uid}"
        )


def _create(where: Path, seed: bytes, unique: bytes, suite: Suite) -> None:
    """Write the file beside its place, then link it there: it is whole or absent, and never replaces another."""
    body = f"{_TITLE}\nnode {Identity(seed, suite).id}\nseed {_text(seed)}\n".encode("ascii")
    draft = where.with_name(f".{where.name}.{unique.hex()}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(handle)
        _place(draft, where)
    finally:
        draft.unlink(missing_ok=True)
    if os.name == "posix":
        folder = os.open(where.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _place(draft: Path, where: Path) -> None:
    try:
        os.link(draft, where)
    except FileExistsError:
        pass  # another process was first: its key is the one
    except OSError as wrong:
        if wrong.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        if not where.exists():  # a file system without hard links
            draft.rename(where)
