"""Ways to a member without a link to it: handed from neighbour to neighbour, sealed, so that they read its header only.

A node remembers through which neighbour each member's frames last came: that is the way back to it (reverse path).
Where there is none, the message goes to all neighbours, a bounded number of hops. The seal is XChaCha20-Poly1305 under
a key that only the two ends can compute (X25519 of their node keys); header and mesh are bound by it, so it also proves
who sent it. No forward secrecy: who learns a node's key later reads what was recorded. At most once: a relay whose lane
is full, or that knows no way on, drops the message and counts it; relays never wait, so never for each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

import nacl.bindings as sodium
import nacl.exceptions

from mesh.messages import (
    Abandon,
    ConfirmAsk,
    Durable,
    DurableAsk,
    LinkMessage,
    Post,
    Receipt,
    Relayed,
    Reply,
    Request,
    Send,
    StreamEnd,
    StreamGrant,
    StreamItem,
    StreamOpen,
    StreamStop,
    decode,
    encode,
    with_hops,
)
from transport.base import Env, Lane, Link
from transport.errors import PeerFault
from transport.identity import Identity, Mesh, NodeId, signed_bytes

HOPS_MAX = 8  # research/mesh.md 2.7: ceil(log_(D-1) N) + 2 is 7 for a million members at D = 12
SEEN_MAX = 65_536  # messages recognised when they come again, by another way; 20 B each
PATHS_MAX = 65_536  # members whose way back is remembered
KEYS_MAX = 1024  # shared keys kept: one costs 100 us to compute
NONCE_BYTES = 24
PURPOSE = b"relay"

CARRIED = (  # what may travel so; the rest is between neighbours
    Send, Request, Reply, Abandon, Post, Receipt, StreamOpen, StreamItem, StreamGrant, StreamEnd, StreamStop,
    ConfirmAsk, Durable, DurableAsk,
)  # fmt: skip


class Relay:
    """One node's part in it: sender, hand on the way, receiver. ``deliver`` gets what was for this node."""

    def __init__(
        self, env: Env, identity: Identity, mesh: Mesh, *, links: Mapping[NodeId, Link],
        is_member: Callable[[NodeId], bool], deliver: Callable[[NodeId, LinkMessage], object], dropped: Counter[str],
    ) -> None:  # fmt: skip
        self._env, self._identity, self._mesh, self._links = env, identity, mesh, links
        self._is_member, self._deliver, self._dropped = is_member, deliver, dropped
        self._paths: dict[NodeId, NodeId] = {}  # member -> neighbour
        self._seen: dict[tuple[bytes, int], None] = {}
        self._keys: dict[NodeId, bytes] = {}

    def heard(self, member: NodeId, neighbour: NodeId) -> None:
        """A new frame of ``member`` came through ``neighbour`` first: that way it can be reached."""
        if self._paths.get(member) != neighbour:
            self._paths.pop(member, None)
            if len(self._paths) >= PATHS_MAX:
                del self._paths[next(iter(self._paths))]
            self._paths[member] = neighbour

    # -- the two ends ------------------------------------------------------------------------------------------------

    def send(self, to: NodeId, message: LinkMessage) -> bool:
        """Seal ``message`` and hand it to who is nearer to ``to``. False: nobody took it, or nobody knows ``to``."""
        if not isinstance(message, CARRIED) or to == self._identity.id or not self._is_member(to):
            return False
        number = int.from_bytes(self._env.entropy(8), "big") >> 1
        nonce = self._env.entropy(NONCE_BYTES)
        key = self._key(to)
        if key is None:
            return False
        header = self._header(to, self._identity.id, number)
        box = nonce + bytes(sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(encode(message), header, nonce, key))
        self._note(self._identity.id, number)
        message = Relayed(to, self._identity.id, number, HOPS_MAX, box)
        return self._hand_on(message, encode(message), None)

    def on_message(self, peer: NodeId, message: Relayed, raw: bytes) -> None:
        """``peer`` handed this on. For us: open it; for others: hand the bytes on as they came, once, one hop less."""
        sender, to = NodeId(message.sender), NodeId(message.to)
        if (message.sender, message.number) in self._seen:
            return  # by another way, or our own in a circle
        self._note(sender, message.number)
        if to == self._identity.id:
            self._open(sender, peer, message)
        elif message.hops <= 1 or not self._is_member(to):
            self._dropped["no way on"] += 1
        else:
            self.heard(sender, peer)
            if not self._hand_on(message, with_hops(raw, message.hops - 1), peer):
                self._dropped["no way on"] += 1

    def _open(self, sender: NodeId, peer: NodeId, message: Relayed) -> None:
        header, key = self._header(self._identity.id, sender, message.number), self._key(sender)
        nonce, box = message.box[:NONCE_BYTES], message.box[NONCE_BYTES:]
        try:
            if key is None or not self._is_member(sender):
                raise PeerFault(sender, "a sender is a member")
            inner = decode(sender, bytes(sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(box, header, nonce, key)))
            if not isinstance(inner, CARRIED):
                raise PeerFault(sender, "a link's own messages are not relayed")
        except (nacl.exceptions.CryptoError, PeerFault):
            self._dropped["seal broken"] += 1  # by the sender or on the way, nobody can tell
            return
        self.heard(sender, peer)
        self._deliver(sender, inner)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _hand_on(self, message: Relayed, raw: bytes, source: NodeId | None) -> bool:
        """To its receiver, else the way its frames come from, else to everybody. Whether somebody took it."""
        to = NodeId(message.to)
        for nearer in (to, self._paths.get(to)):
            if nearer is not None and nearer != source and (link := self._links.get(nearer)) is not None:
                return link.try_send(Lane.DIRECT, raw)
        taken = [
            link.try_send(Lane.DIRECT, raw) for peer, link in list(self._links.items())
            if peer not in (source, message.sender)
        ]  # fmt: skip
        return any(taken)

    def _note(self, sender: bytes, number: int) -> None:
        if len(self._seen) >= SEEN_MAX:
            del self._seen[next(iter(self._seen))]
        self._seen[bytes(sender), number] = None

    def _header(self, to: bytes, sender: bytes, number: int) -> bytes:
        """What the seal binds beside the message: purpose, mesh, both ends, number. Not the hops: they count down."""
        return signed_bytes(PURPOSE, self._mesh.id, to + sender + number.to_bytes(8, "big"))

    def _key(self, other: NodeId) -> bytes | None:
        key = self._keys.get(other)
        if key is None:
            key = self._identity.agree(PURPOSE, self._mesh.id, other)
            if key is None:
                return None
            if len(self._keys) >= KEYS_MAX:
                del self._keys[next(iter(self._keys))]
            self._keys[other] = key
        return key
