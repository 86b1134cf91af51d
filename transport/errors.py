"""What can go wrong between nodes, and what became of the state."""

from __future__ import annotations

from typing import ClassVar

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


class ValueRefused(TransportError, ValueError):
    """An application's value, or bytes that claim to be one, that no node may accept. Nothing was encoded or kept.

    ``rule`` says which limit or type; ``path`` where in the value, as far as it is known.
    """

    def __init__(self, rule: str, path: str = "") -> None:
        super().__init__(f"{path or 'the value'}: {rule}")
        self.rule, self.path = rule, path


class KeyFileUnsafe(TransportError):
    """A key file that must not be used: others can read it, or it is no key. Nothing was read or changed."""

    def __init__(self, path: str, trouble: str, remedy: str) -> None:
        super().__init__(f"{path}: {trouble}; {remedy}")
        self.path, self.trouble, self.remedy = path, trouble, remedy


class HandshakeError(LinkDown):
    """A conversation that did not become a link. Nothing of the state was sent, nothing received was kept.

    ``reason`` is the word for audit lines and for the other side; ``peer`` who it was or claimed to be, if that much
    was said; ``told`` that the other side refused us for it, rather than we them.
    """

    reason: ClassVar[str] = "refused"
    remedy: ClassVar[str] = ""

    def __init__(self, peer: NodeId | None = None, detail: str = "", *, told: bool = False) -> None:
        who = "somebody" if peer is None else peer.short
        text = f"{who} refused us: {self.reason}" if told else f"refused {who}: {self.reason}"
        super().__init__("; ".join(each for each in (text, detail, self.remedy) if each))
        self.peer, self.detail, self.told = peer, detail, told


class WrongMesh(HandshakeError):
    """It belongs to a mesh of another name. Do not retry soon."""

    reason = "wrong-mesh"
    remedy = "check --mesh on both sides"


class WrongSecret(HandshakeError):
    """Its key is its own, but it does not know our secret (or one of the two is open). Do not retry soon."""

    reason = "wrong-secret"
    remedy = "give both nodes the same secret file, or --open to both"


class WrongVersion(HandshakeError):
    """There is no protocol version that both speak. Do not retry soon."""

    reason = "wrong-version"
    remedy = "upgrade the older gossamer"


class UnexpectedPeer(HandshakeError):
    """Somebody else than the expected node answers at this address. Retry, elsewhere first."""

    reason = "unexpected-peer"


class BadProof(HandshakeError):
    """A signature that is not its key's for this very conversation: a splice, a replay, a man in the middle."""

    reason = "bad-proof"


class Selfie(HandshakeError):
    """The other end has our own key: we dialled ourselves, or the key file was copied."""

    reason = "selfie"
    remedy = "if this is another machine, give it a key file of its own"


class Malformed(HandshakeError):
    """Bytes that are no handshake of this protocol."""

    reason = "malformed"


class HandshakeTimeout(HandshakeError):
    """The other end did not finish the handshake in time. Safe to retry."""

    reason = "handshake-timeout"


class Declined(HandshakeError):
    """Proven, but not wanted now: ``detail`` is "crossed", "busy" or "closing". No fault of anybody; retry later."""

    reason = "declined"


class HandshakeCut(HandshakeError):
    """The conduit ended before the handshake did. Safe to retry."""

    reason = "closed"
