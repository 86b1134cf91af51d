"""Local operations on their way to a frame: gathered for a moment, signed together."""

from __future__ import annotations

from collections.abc import Callable

from mesh.state.config import StateConfig
from mesh.state.journal import Journal
from transport.base import FRAME_BYTES_MAX, MILLISECOND, Env, Timer

BODY_BYTES_MAX = FRAME_BYTES_MAX - 1024  # room for header, stream name, signature and the array's own header
BODY_BYTES_GOOD = 64 << 10  # enough to spread the signature's cost; closing there keeps others' latency low


class Sealer:
    """Collects items of one log; calls ``close`` when 256 are there, or 64 KiB, or it is time.

    A lone write goes in the loop's next turn; after a frame the next one waits until 1 ms has passed, or while commits
    are behind up to 20 ms, so that under load frames grow instead of getting more. Taking an item costs a list append;
    items are fixed when they are made, never when a frame closes.
    """

    __slots__ = (
        "_behind_ns", "_close", "_env", "_items_max", "_journal", "_taken_ns", "_timer", "_wait_ns", "bytes", "count",
        "first", "hlc", "items",
    )  # fmt: skip

    def __init__(self, env: Env, journal: Journal, config: StateConfig, close: Callable[[], None]) -> None:
        self._env, self._journal, self._close = env, journal, close
        self._items_max = config.seal_items
        self._wait_ns = int(config.seal_after_ms * MILLISECOND)
        self._behind_ns = int(config.seal_after_behind_ms * MILLISECOND)
        self._timer: Timer | None = None
        self._taken_ns = -self._wait_ns  # when the last frame was closed
        self.items: list[bytes] = []
        self.bytes = self.count = self.first = self.hlc = 0

    def add(self, item: bytes, first: int, count: int, hlc: int) -> None:
        """Take one change's item; ``first`` and ``count`` are its dots. An item always fits a frame of its own."""
        size = len(item)
        if self.items and self.bytes + size > BODY_BYTES_MAX:
            self._close()
        if not self.items:
            self.first, self.hlc = first, hlc
            if self._timer is None:
                due = self._taken_ns + self._wait_ns
                self._timer = self._env.call_at(max(due, self._env.mono()), self._on_time)
        self.items.append(item)
        self.count += count
        self.bytes += size
        if len(self.items) >= self._items_max or self.bytes >= BODY_BYTES_GOOD:
            self._close()

    def _on_time(self) -> None:
        self._timer = None
        if not self.items:
            return
        wait = self._behind_ns if self._journal.is_behind else self._wait_ns
        due = self._taken_ns + wait
        if due > self._env.mono():
            self._timer = self._env.call_at(due, self._on_time)
        else:
            self._close()

    def take(self) -> tuple[list[bytes], int, int, int]:
        """Items, first sequence, operations, stamp of the first: what waits, which then waits no more."""
        taken = self.items, self.first, self.count, self.hlc
        self._taken_ns = self._env.mono()
        self.items = []
        self.bytes = self.count = 0
        return taken
