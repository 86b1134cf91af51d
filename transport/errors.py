"""What can go wrong between nodes, and what became of the state."""

from __future__ import annotations

from transport.identity import NodeId


class TransportError(Exception):
    """Root of this package. State is unchanged unless a subclass says otherwise."""


class PeerFault(TransportError):
    """``peer`` sent what no correct node sends. Count it, drop it; never retry."""

    def __init__(self, peer: NodeId | None, rule: str) -> None:
        super().__init__(f"{'an unknown peer' if peer is None else peer.short} broke the rule: {rule}")
        self.peer, self.rule = peer, rule


class LinkDown(TransportError):
    """The path failed, perhaps nobody's fault. Safe to retry."""


class Misuse(TransportError):
    """Our own caller broke the contract: a bug, so let it surface."""


class FrameInvalid(PeerFault):
    """Bytes that are no signed frame of this protocol, or whose signature is not its origin's. Nothing was kept."""
