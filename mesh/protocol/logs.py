"""Which logs are held how far, who said to hold more, and who was asked for it. Shared by broadcast and repair.

One table of what is on its way keeps them from fetching the same frames twice: after a heal several neighbours
advertise the same logs, and each log is asked of one of them at a time.
"""

from __future__ import annotations

from collections.abc import Iterator

from mesh.messages import Have
from mesh.protocol.effects import TRANSIENT, Head, Slot
from transport.identity import NodeId, Origin, fingerprint

NOTHING = Head(0, bytes(16))


class Ask:
    """Frames of one log that ``peer`` was asked for."""

    __slots__ = ("asked_ns", "peer", "tries", "upto")

    def __init__(self, peer: NodeId, upto: int, now: int, tries: int) -> None:
        self.peer, self.upto, self.asked_ns, self.tries = peer, upto, now, tries


class Logs:
    """The vector of this node, and what is known of its neighbours' vectors.

    ``heads`` holds what the state room holds, so that room bounds it. Law: ``digest`` is a function of the heads alone,
    not of the order in which they came. Neighbours' claims are hostile input: at most ``claims_max`` logs are
    remembered as lacking, and as many a neighbour as known; what does not fit is learnt at a later round.
    """

    def __init__(self, claims_max: int) -> None:
        self._claims_max = claims_max
        self.heads: dict[Slot, Head] = {}
        self.forked: dict[Origin, None] = {}
        self.version = 0  # counts changes of ``heads``
        self._touched: dict[Slot, int] = {}  # version at the last change, oldest first
        self._digest: bytes | None = None
        self.known: dict[NodeId, dict[Slot, int]] = {}  # by neighbour: how far it is known to hold a log
        self.lacking: dict[Slot, dict[NodeId, int]] = {}  # who said to hold more than we do
        self.asked: dict[Slot, Ask] = {}
        self.loads: dict[NodeId, int] = {}  # by neighbour: logs it is asked for
        self.overflowed = 0  # claims that did not fit

    def head(self, slot: Slot) -> Head:
        """How far ``slot`` is held; sequence 0 if not at all."""
        return self.heads.get(slot, NOTHING)

    def held(self, slot: Slot, head: Head, source: NodeId | None) -> None:
        """``slot`` grew to ``head``, by what ``source`` sent (None: this node)."""
        self.heads[slot] = head
        if source in self.known:
            self.known[source][slot] = max(head.seq, self.known[source].get(slot, 0))
        if slot.origin in self.forked:
            return
        if not slot.stream.startswith(TRANSIENT):
            self.version += 1
            self._touched.pop(slot, None)
            self._touched[slot] = self.version
            self._digest = None
        self._settle(slot, head.seq)

    def forget(self, slot: Slot) -> None:
        """A transient log is no longer kept."""
        self.heads.pop(slot, None)
        self.lacking.pop(slot, None)
        self.unask(slot)
        for known in self.known.values():
            known.pop(slot, None)

    def _settle(self, slot: Slot, seq: int) -> None:
        ask = self.asked.get(slot)
        if ask and seq >= ask.upto:
            self.unask(slot)
        claims = self.lacking.get(slot)
        if claims and all(upto <= seq for upto in claims.values()):
            del self.lacking[slot]

    def digest(self) -> bytes:
        """16 bytes that stand for the whole vector. Logs of proven forkers do not count (nobody agrees on those), nor
        transient ones: who comes later never holds them whole."""
        if self._digest is None:
            parts = []
            for slot, head in sorted(self.heads.items()):
                if slot.origin not in self.forked and not slot.stream.startswith(TRANSIENT):
                    parts += [slot.stream.encode(), slot.origin, head.seq.to_bytes(8, "big"), head.hash]
            self._digest = fingerprint(*parts)
        return self._digest

    def changed_since(self, version: int) -> list[Slot]:
        """Logs that changed after ``version``, in a fixed order; 0: all."""
        slots = []
        for slot in reversed(self._touched):
            if self._touched[slot] <= version:
                break
            slots.append(slot)
        return sorted(slots)

    def have(self, slot: Slot) -> Have:
        head = self.heads[slot]
        return Have(slot.stream, slot.origin, head.seq, head.hash)

    # -- neighbours --------------------------------------------------------------------------------------------------

    def met(self, peer: NodeId) -> None:
        self.known[peer] = {}

    def given(self, peer: NodeId, slot: Slot, seq: int) -> None:
        """``peer`` was sent ``slot`` up to ``seq``: it has that, or its link ends."""
        known = self.known.get(peer)
        if known is not None and (slot in known or len(known) < self._claims_max):
            known[slot] = max(seq, known.get(slot, 0))

    def lost(self, peer: NodeId) -> None:
        """The link to ``peer`` ended: it is neither asked nor believed any more."""
        self.known.pop(peer, None)
        for slot in [slot for slot, ask in self.asked.items() if ask.peer == peer]:
            self.unask(slot)
        self.loads.pop(peer, None)
        for slot in [slot for slot, claims in self.lacking.items() if peer in claims]:
            self._disclaim(peer, slot)

    def knows(self, peer: NodeId, slot: Slot) -> int:
        """How far ``peer`` is known to hold ``slot``: at least."""
        return self.known.get(peer, {}).get(slot, 0)

    def claim(self, peer: NodeId, slot: Slot, seq: int) -> bool:
        """``peer`` holds ``slot`` up to ``seq``. Whether that is more than is held here."""
        known = self.known.get(peer)
        if known is None or slot.origin in self.forked:
            return False
        if slot in known or len(known) < self._claims_max:
            known[slot] = max(seq, known.get(slot, 0))
        if seq <= self.head(slot).seq:
            return False
        claims = self.lacking.get(slot)
        if claims is None:
            if len(self.lacking) >= self._claims_max:
                self.overflowed += 1
                return False
            claims = self.lacking[slot] = {}
        claims[peer] = max(seq, claims.get(peer, 0))
        return True

    def agreed(self, peer: NodeId) -> None:
        """``peer``'s vector is ours. What it said to hold beyond that it has given up: a disk that rotted, a log that
        was cut. (Found by ``chaos``, seed 20098: it was asked for the rest for ever.) Transient logs are not in it."""
        for slot in [slot for slot, claims in self.lacking.items() if peer in claims]:
            if not slot.stream.startswith(TRANSIENT):
                self._disclaim(peer, slot)
                if slot not in self.lacking:
                    self.unask(slot)

    def _disclaim(self, peer: NodeId, slot: Slot) -> None:
        del self.lacking[slot][peer]
        if not self.lacking[slot]:
            del self.lacking[slot]

    def ask(self, peer: NodeId, slot: Slot, upto: int, now: int, tries: int = 0) -> None:
        """``peer`` is asked for ``slot`` up to ``upto``, after ``tries`` vain attempts."""
        self.unask(slot)
        self.asked[slot] = Ask(peer, upto, now, tries)
        self.loads[peer] = self.loads.get(peer, 0) + 1

    def unask(self, slot: Slot) -> None:
        """It came, or will not."""
        if ask := self.asked.pop(slot, None):
            self.loads[ask.peer] -= 1

    def holders(self, slot: Slot) -> Iterator[tuple[NodeId, int]]:
        """Neighbours that said to hold more of ``slot`` than we do, and how much."""
        seq = self.head(slot).seq
        return ((peer, upto) for peer, upto in self.lacking.get(slot, {}).items() if upto > seq)

    def fork(self, origin: Origin) -> None:
        """``origin`` equivocates: nothing more of it is asked for or compared."""
        self.forked[origin] = None
        self._digest = None
        for slot in [slot for slot in self.asked if slot.origin == origin]:
            self.unask(slot)
        for slot in [slot for slot in self.heads if slot.origin == origin]:
            self._touched.pop(slot, None)
        for slot in [slot for slot in self.lacking if slot.origin == origin]:
            del self.lacking[slot]
