"""The last few megabytes of topic frames, for neighbours that pull."""

from __future__ import annotations

from collections import deque

from mesh.protocol.effects import Slot

FRAME_EXTRA = 256  # bytes of memory a held frame costs beside its own


class Window:
    """Recent frames of all logs. At its bound the oldest goes, whoever's it is; ``after`` then shows where it begins.

    Adding and finding cost O(1); finding across a hole costs a scan of that log's frames.
    """

    __slots__ = ("_bytes", "_bytes_max", "_logs", "_order")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._order: deque[tuple[Slot, int]] = deque()
        self._logs: dict[Slot, dict[int, tuple[int, bytes]]] = {}  # first sequence -> last, frame

    def add(self, slot: Slot, first: int, last: int, raw: bytes) -> None:
        """Keep a frame; it is newer than all others of its log."""
        self._order.append((slot, first))
        self._logs.setdefault(slot, {})[first] = last, raw
        self._bytes += len(raw) + FRAME_EXTRA
        while self._bytes > self._bytes_max and len(self._order) > 1:
            oldest, at = self._order.popleft()
            frames = self._logs[oldest]
            self._bytes -= len(frames.pop(at)[1]) + FRAME_EXTRA
            if not frames:
                del self._logs[oldest]

    def at(self, slot: Slot, first: int) -> bytes | None:
        """The frame that begins at ``first``, if it is still here."""
        frames = self._logs.get(slot)
        found = None if frames is None else frames.get(first)
        return None if found is None else found[1]

    def after(self, slot: Slot, seq: int, bytes_max: int) -> tuple[int, list[bytes], int]:
        """Frames of a log after ``seq`` without a hole between them, up to about ``bytes_max``: the sequence before
        the first of them, the frames, and the last sequence in them. None left: both are ``seq``."""
        frames = self._logs.get(slot, {})
        begin = seq
        if begin + 1 not in frames:
            begin = min((first for first in frames if first > seq), default=seq + 1) - 1
        found: list[bytes] = []
        last, size = begin, 0
        while (each := frames.get(last + 1)) is not None and size < bytes_max:
            last, raw = each
            found.append(raw)
            size += len(raw)
        return begin, found, last
