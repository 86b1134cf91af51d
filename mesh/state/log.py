"""One origin's log as this node holds it: a chain of signed frames, from its floor to its head."""

from __future__ import annotations

from collections.abc import Iterator

from mesh.protocol.effects import Head, Slot
from mesh.state import records
from transport.base import Storage
from transport.frame import GENESIS, SignedFrame, parse, span_of

BOTTOM = Head(0, GENESIS)


class Log:
    """Positions in one log. The frames themselves are in storage, and in ``unsaved`` until they are there.

    floor <= saved <= head. Up to ``floor`` frames were folded into the space's base; ``stub`` proves that one. What is
    at or below ``saved`` is on disk. ``head`` is what was applied. Frame boundaries, all three.
    ``tip`` proves the head, while it is known without the disk. ``fork``: from this sequence on the origin equivocated
    and nothing is kept; 0: it did not. ``brought``: of a log of our own, how far this disk had it at the start, until a
    peer's history agreed with that.
    """

    __slots__ = (
        "actor", "brought", "bytes", "floor", "fork", "frames", "head", "saved", "slot", "stub", "tip",
        "unsaved",
    )  # fmt: skip

    def __init__(self, slot: Slot, floor: Head = BOTTOM, stub: bytes = b"", fork: int = 0) -> None:
        self.slot = slot
        self.actor = str(slot.origin)
        self.floor = self.saved = self.head = floor
        self.stub = stub
        self.tip = b""
        self.brought = 0
        self.fork = fork
        self.unsaved: dict[int, SignedFrame] = {}  # by first sequence, in order
        self.frames = self.bytes = 0  # above the floor, about: what folding could gain

    def grow(self, frame: SignedFrame) -> Head:
        """``frame`` follows the head and was applied; it is not on disk yet."""
        self.unsaved[frame.first] = frame
        self.head, self.tip = Head(frame.last, frame.digest), frame.stub()
        self.frames += 1
        self.bytes += len(frame.raw)
        return self.head

    def frames_after(self, storage: Storage, after: int, up_to: int) -> Iterator[bytes]:
        """The held frames that end in (``after``, ``up_to``], in order, up to the first one that is missing: a record
        may have rotted. Raises ``StorageFault``."""
        seq = after
        first, end = records.frame_key(self.slot, after + 1), records.frame_key(self.slot, up_to + 1)
        for _, raw in storage.scan(records.FRAMES, first, end):
            begins, ends = span_of(raw)
            if begins > seq + 1:
                break  # what is in ``unsaved`` may still fill it
            seq = ends
            yield raw
        for frame in tuple(self.unsaved.values()):
            if seq < frame.last <= up_to:
                if frame.first > seq + 1:
                    return
                seq = frame.last
                yield frame.raw

    def frame_over(self, storage: Storage, seq: int) -> SignedFrame | None:
        """The held frame that covers ``seq``, or ``None`` when it was folded away or never held."""
        if not self.floor.seq < seq <= self.head.seq:
            return None
        raw = next(self.frames_after(storage, seq - 1, self.head.seq), None)
        frame = None if raw is None else parse(raw)
        return frame if frame is not None and frame.first <= seq <= frame.last else None

    def frames_beyond(self, storage: Storage, seq: int) -> list[SignedFrame]:
        """All that is held after ``seq``, in order, also past a missing one. Raises ``StorageFault``."""
        first, end = records.frame_key(self.slot, seq + 1), records.frame_key(self.slot, self.head.seq + 1)
        frames = {frame.first: frame for _, raw in storage.scan(records.FRAMES, first, end) for frame in (parse(raw),)}
        frames.update((first, frame) for first, frame in self.unsaved.items() if seq < frame.last <= self.head.seq)
        return [frames[first] for first in sorted(frames)]

    def fall(self, head: Head) -> None:
        """Only what ends at or below ``head`` counts as held: a record above it broke, or is another history."""
        self.head, self.saved = head, min(self.saved, head)
        if head < self.floor:
            self.floor, self.stub = head, b""
        self.unsaved = {first: frame for first, frame in self.unsaved.items() if frame.last <= head.seq}

    def head_before(self, storage: Storage, seq: int) -> Head:
        """The last frame boundary below ``seq``: where the log is cut when it forks there."""
        head = self.floor
        for raw in self.frames_after(storage, self.floor.seq, seq - 1):
            frame = parse(raw)
            head = Head(frame.last, frame.digest)
        return head

    def __repr__(self) -> str:
        return f"Log({self.slot.stream!r}, {self.slot.origin!r}, {self.floor.seq}..{self.saved.seq}..{self.head.seq})"
