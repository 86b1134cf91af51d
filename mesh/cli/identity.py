"""A node's id and a mesh's secret, without a running node."""

from __future__ import annotations

from pathlib import Path

from mesh.cli import places
from mesh.cli.control import connect
from mesh.cli.errors import ControlError, NoNode


def new_secret() -> str:
    """A secret of 128 random bits, as text."""
    from transport.admission import new_secret as fresh
    from transport.system import SystemEnv

    return fresh(SystemEnv.entropy)


def node_id(name: str | None, data: Path | None, mesh: str | None) -> str:
    """The id of the node ``name``, of the one with this data directory, or of the one that runs. Raises ``NoNode``."""
    if name is None and data is None:
        with connect(None, mesh) as client:
            return str(client.ask("status")["id"])
    from transport.errors import KeyFileUnsafe
    from transport.keyfile import read_identity

    folder = data or places.data_directory(mesh or "default", name or "")
    try:
        return str(read_identity(folder).id)
    except KeyFileUnsafe as unsafe:
        raise ControlError(f"{unsafe.path}: {unsafe.trouble}", unsafe.remedy) from None
    except FileNotFoundError:
        raise NoNode(f"no node has lived in {folder}", "start one: gossamer up") from None
