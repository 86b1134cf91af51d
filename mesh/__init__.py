"""Nodes that know, tell, remember and agree.

``Node`` is the face of it all: ``async with Node("kitchen", secret=…) as node``. Errors are in ``mesh.errors``, what
``node.events()`` yields in ``mesh.protocol.facts``. Names are loaded when first used, so that a command which needs
none of them answers at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mesh.config import NodeConfig
    from mesh.errors import MeshError
    from mesh.messaging.handler import Message, Request
    from mesh.node import Node
    from mesh.outlook import Member
    from mesh.state.space import Space

_HOMES = {
    "Member": "mesh.outlook",
    "MeshError": "mesh.errors",
    "Message": "mesh.messaging.handler",
    "Node": "mesh.node",
    "NodeConfig": "mesh.config",
    "Request": "mesh.messaging.handler",
    "Space": "mesh.state.space",
}

__all__ = ["Member", "MeshError", "Message", "Node", "NodeConfig", "Request", "Space"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mesh' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
