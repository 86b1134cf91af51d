"""Where a node of this user keeps its data, and which of them run now."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

SOCKET = "control.sock"
SOCKET_PATH_BYTES_MAX = 100  # of sockaddr_un's 104 (macOS) to 108 (Linux)
_RUNNING = ".running"  # links to data directories elsewhere, so that a command finds their nodes too
_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")


def state_folder() -> Path:
    """``gossamer`` in the folder this platform has for the state of a user's programs."""
    if os.environ.get("XDG_STATE_HOME"):
        return Path(os.environ["XDG_STATE_HOME"]) / "gossamer"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "gossamer"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "gossamer"
    return Path.home() / ".local" / "state" / "gossamer"


def data_directory(mesh: str, name: str) -> Path:
    """The data directory of node ``name`` of ``mesh``, unless it is told another."""
    return state_folder() / folder_name(mesh) / folder_name(name)


def folder_name(name: str) -> str:
    """``name`` as one folder: what could leave the folder or hide in it is percent-encoded. Different names differ."""
    quoted = "".join(
        each if each in _SAFE else "".join(f"%{byte:02x}" for byte in each.encode("utf-8", "surrogatepass"))
        for each in name
    )
    return f"%{ord(quoted[0]):02x}{quoted[1:]}" if quoted.startswith(".") else quoted or "%"


def names_after(host_name: str) -> Iterator[str]:
    """The names a node may take when none is given: the host's, then -2, -3 …; at most a thousand."""
    base = host_name.split(".")[0] or "node"
    yield base
    for number in range(2, 1000):
        yield f"{base}-{number}"


def socket_of(data: Path) -> Path:
    """The control socket of the node with this data directory: the real path, which may be elsewhere if short."""
    path = data / SOCKET
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def announce(data: Path) -> Path | None:
    """Make a node found whose data directory is not in the state folder. The link made, to be removed at the end."""
    folder = state_folder()
    resolved = data.resolve()
    if resolved.is_relative_to(folder.resolve()):
        return None
    link = folder / _RUNNING / str(os.getpid())
    try:
        link.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        for other in link.parent.iterdir():
            if other.name.isdigit() and not _is_alive(int(other.name)):
                other.unlink(missing_ok=True)  # of a node that was killed
        link.unlink(missing_ok=True)
        link.symlink_to(resolved)
    except OSError:
        return None  # a convenience only: with --data the node is found all the same
    return link


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def data_directories() -> list[Path]:
    """Data directories where a node may run: those with a control socket, running or left over. In order of path."""
    folder = state_folder()
    found = {path.parent for path in folder.glob(f"*/*/{SOCKET}")}
    found |= (
        {path.parent for path in (folder / _RUNNING).glob(f"*/{SOCKET}")} if (folder / _RUNNING).is_dir() else set()
    )
    return sorted({path.resolve() for path in found})
