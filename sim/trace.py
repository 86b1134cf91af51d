"""What happened, in order, and one hash of it all.

A line is ``time source kind details``. Within one instant, lines are sorted by source (each source's own lines keep
their order): in which order asyncio stepped the tasks of different nodes within one instant is no part of the trace,
so the hash is the same on every Python version.
"""

from __future__ import annotations

import hashlib
import sys
import sysconfig
from collections import deque
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from types import FrameType

ORIGIN_FRAMES = 4
HASHED_LINES = 512  # at a time
HASHED_LINES = 512  # hashed together
_HERE = str(Path(__file__).parent)
_STORIES = str(Path(__file__).parent / "scenarios")
_NOT_THEIRS = (_HERE, sysconfig.get_path("stdlib"), "<frozen", "<string>")
KEPT_MAX = 2_000_000  # lines kept when asked to keep them; older ones go first


class Trace:
    """Core events as they happen. ``keep`` also holds the lines, for a report or to find the first difference."""

    def __init__(self, keep: bool = False) -> None:
        self.origins: list[str] | None = None  # a list: also where in the source each event came from, in their order
        self._hash = hashlib.blake2b(digest_size=16)
        self._instant = -1
        self._pending: list[tuple[str, str]] = []
        self._pending_origins: list[tuple[str, str]] = []
        self._lines: list[str] = []  # of past instants, not yet in the hash
        self._kept: deque[str] | None = deque(maxlen=KEPT_MAX) if keep else None
        self.count = 0

    def keep_lines(self, *, origins: bool = False) -> None:
        """Keep what happens from now on, and where in the source it came from."""
        self._settle()
        self._kept = deque(self._kept or (), maxlen=KEPT_MAX)
        self.origins = [] if origins else None

    def record(self, when: int, source: str, text: str) -> None:
        """``source`` did ``text`` (one line) at ``when``; times never go back."""
        if when != self._instant:
            if self._pending:
                self._flush()
            self._instant = when
        self.count += 1
        self._pending.append((source, text))
        if self.origins is not None:
            self._pending_origins.append((source, _origin()))

    def _in_order(self) -> list[str]:
        """What happened in this instant so far."""
        if len(self._pending) > 1:
            self._pending.sort(key=itemgetter(0))
        return [f"{self._instant} {source} {text}" for source, text in self._pending]

    def _flush(self) -> None:
        self._lines += self._in_order()
        self._pending.clear()
        if self.origins is not None:
            self.origins += [origin for _, origin in sorted(self._pending_origins, key=itemgetter(0))]
            self._pending_origins.clear()
        if len(self._lines) >= HASHED_LINES:
            self._settle()

    def _settle(self) -> None:
        self._hash.update(_encoded(self._lines))
        if self._kept is not None:
            self._kept.extend(self._lines)
        self._lines.clear()

    def digest(self) -> str:
        """The hash so far: 32 hex digits. Reading it changes nothing that follows."""
        copy = self._hash.copy()
        copy.update(_encoded([*self._lines, *self._in_order()]))
        return copy.hexdigest()

    def end(self) -> None:
        """Nothing more happens in this instant."""
        self._flush()

    def lines(self) -> Sequence[str]:
        """The kept lines, oldest first; empty unless asked to keep them."""
        return [] if self._kept is None else [*self._kept, *self._lines, *self._in_order()]


def _encoded(lines: list[str]) -> bytes:
    return "".join([each + "\n" for each in lines]).encode()


def _origin() -> str:
    """Who made it happen: frames of the program and the story, nearest first; not the simulator's, not asyncio's."""
    frames: list[str] = []
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and len(frames) < ORIGIN_FRAMES:
        code = frame.f_code
        if not code.co_filename.startswith(_NOT_THEIRS) or code.co_filename.startswith(_STORIES):
            frames.append(f"{Path(code.co_filename).name}:{frame.f_lineno} in {code.co_name}")
        frame = frame.f_back
    return " < ".join(frames) or "the world itself"


def mark(raw: bytes) -> str:
    """Eight bytes that stand for ``raw`` in a line."""
    return hashlib.blake2b(raw, digest_size=8).hexdigest()
