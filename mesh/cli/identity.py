"""A node's id and a mesh's secret, without a running node."""

from __future__ import annotations

from pathlib import Path

from mesh.cli import places
from mesh.cli.control import NoNode, connect


def new_secret() -> str:
    """A secret of 128 random bits, as text."""
    import os

    from transport.admission import new_secret as fresh

    return fresh(os.urandom)


def node_id(name: str | None, data: Path | None, mesh: str | None) -> str:
    """The id of the node ``name``, of the one with this data directory, or of the one that runs. Raises ``NoNode``."""
    if name is None and data is None:
        with connect(None, mesh) as client:
            return str(client.ask("status")["id"])
    folder = data or places.data_directory(mesh or "default", name or "")
    from transport.keyfile import read_identity

    try:
        return str(read_identity(folder).id)
    except FileNotFoundError:
        raise NoNode(f"no node has lived in {folder}", "start one: gossamer up") from None
