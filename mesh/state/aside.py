"""Frames that are genuine and cannot be applied yet: an earlier one of their log is missing, or a cause is."""

from __future__ import annotations

from transport.frame import SignedFrame
from transport.identity import NodeId, Origin


class Allowance:
    """Bytes that all spaces of a node together may set aside: a member can invent as many spaces as it likes."""

    __slots__ = ("left",)

    def __init__(self, bytes_max: int) -> None:
        self.left = bytes_max


class Aside:
    """Frames set aside, bounded in bytes; at the bound a frame is not taken, and repair brings it later.

    A log's frames are keyed by their first sequence. At most one frame of a log, the one that follows its head, can
    be *blocked*: it waits until another actor's operations up to a sequence are here.
    """

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance
        self._frames: dict[tuple[Origin, int], tuple[SignedFrame, NodeId | None]] = {}
        self._blocked: dict[Origin, tuple[str, int]] = {}

    def get(self, origin: Origin, first: int) -> SignedFrame | None:
        found = self._frames.get((origin, first))
        return None if found is None else found[0]

    def put(self, frame: SignedFrame, peer: NodeId | None) -> bool:
        """Keep ``frame``, which ``peer`` sent. False: no room. A second frame of one place is not taken either."""
        key = frame.origin, frame.first
        if key in self._frames:
            return True
        if len(frame.raw) > self._allowance.left:
            return False
        self._frames[key] = frame, peer
        self._allowance.left -= len(frame.raw)
        return True

    def take(self, origin: Origin, first: int) -> tuple[SignedFrame, NodeId | None] | None:
        """Remove and return the frame of this place, and who sent it."""
        found = self._frames.pop((origin, first), None)
        if found is not None:
            self._allowance.left += len(found[0].raw)
        return found

    def block(self, frame: SignedFrame, peer: NodeId | None, actor: str, seq: int) -> bool:
        """Keep ``frame`` until ``actor``'s operations up to ``seq`` are here. False: no room."""
        if not self.put(frame, peer):
            return False
        self._blocked[frame.origin] = actor, seq
        return True

    def needed(self, actor: str) -> int:
        """Up to where blocked frames wait for ``actor``'s operations; 0: none does."""
        return max((seq for other, seq in self._blocked.values() if other == actor), default=0)

    def freed(self, actor: str, seq: int) -> list[Origin]:
        """Whose blocked frame may go on, now that ``actor``'s operations up to ``seq`` are here."""
        if not self._blocked:
            return []
        free = [origin for origin, (other, need) in self._blocked.items() if other == actor and need <= seq]
        for origin in free:
            del self._blocked[origin]
        return free

    def unblock(self) -> list[Origin]:
        """Let every blocked frame be tried again: what counts as a missing cause has changed."""
        free = list(self._blocked)
        self._blocked.clear()
        return free

    def drop(self, origin: Origin, up_to: int | None = None, since: int | None = None) -> None:
        """Forget a log's frames that begin at or below ``up_to``, or at or above ``since``."""
        for key in [key for key in self._frames if key[0] == origin]:
            if (up_to is not None and key[1] <= up_to) or (since is not None and key[1] >= since):
                self.take(*key)

    def __len__(self) -> int:
        return len(self._frames)
