"""What all spaces of one node share: the world, the disk, and whom to tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from mesh.messages import LinkMessage
from mesh.protocol.effects import Event, Slot
from mesh.protocol.facts import Fact
from mesh.state.aside import Allowance
from mesh.state.config import StateConfig
from mesh.state.journal import Journal
from transport.base import Env, Lane, Storage
from transport.identity import Identity, Mesh, NodeId


def _nobody(slot: Slot) -> None:
    """Nobody listens yet."""


@dataclass(slots=True)
class Room:
    """Handed to every part of this package; only the callbacks below it are set later, once."""

    env: Env
    identity: Identity
    mesh: Mesh
    storage: Storage
    config: StateConfig
    journal: Journal
    tell: Callable[[Fact], None]
    feed: Callable[[Event], None]
    send: Callable[[NodeId, LinkMessage, Lane], bool]
    reach: Callable[[NodeId, LinkMessage], bool]  # over its link, or sealed through others
    on_fault: Callable[[NodeId, str], None]
    aside: Allowance  # of all spaces together
    on_durable: Callable[[Slot], None] = _nobody  # a log is on disk further than before
    before_seal: Callable[[], None] = field(default=lambda: None)  # a frame is about to be signed
    spread: Callable[[LinkMessage], None] = field(default=lambda message: None)  # to every linked peer
