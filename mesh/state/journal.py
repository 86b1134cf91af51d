"""The one writer to the disk: entries that arrive while a commit is under way join the next one (group commit).

Source: group commit after DeWitt et al. 1984, "Implementation techniques for main memory database systems", sec. 5.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from mesh.state.config import StateConfig
from transport.base import SECOND, Cut, Env, Put, Storage, StorageFault, Timer

ENTRY_OVERHEAD_BYTES = 128  # what an entry weighs in the backlog besides its values


def nothing() -> None:
    """Durable now; nobody waits for it."""


class Entry:
    """Records that become durable together, and whom to tell. Without ``lost`` it waits for a better disk."""

    __slots__ = ("cuts", "is_joined", "lost", "puts", "saved", "size")

    def __init__(
        self,
        puts: Sequence[Put],
        cuts: Sequence[Cut],
        saved: Callable[[], None],
        lost: Callable[[StorageFault], None] | None,
    ) -> None:
        self.puts, self.cuts, self.saved, self.lost = puts, cuts, saved, lost
        self.is_joined = False  # with the entry behind it: both in one commit
        self.size = ENTRY_OVERHEAD_BYTES + sum(len(value) for _, _, value in puts)


class Journal:
    """Makes entries durable, in the order they were appended, several with one commit.

    Every entry ends at most once: ``saved()`` when it is on disk, or ``lost(fault)`` when the disk refused; both on
    the loop, in order. When a commit fails the journal is *broken*: every entry with a ``lost`` is lost, also those
    behind the failed commit (a log's later frames build on earlier ones); the others, what peers wrote, stay queued.
    It tries the disk again with growing pauses, and calls ``on_recovered`` once that works. ``backlog`` counts bytes
    that wait; keeping below its bound is the callers' (see ``has_room``), because only they know what can wait and
    what must be refused.
    """

    def __init__(self, env: Env, storage: Storage, config: StateConfig) -> None:
        self._env, self._storage, self._config = env, storage, config
        self._queue: deque[Entry] = deque()
        self._batch: list[Entry] = []
        self._retry: Timer | None = None
        self._pause_ns = int(config.retry_min_s * SECOND)
        self._closed = self._together = False
        self.backlog = 0
        self.fault: StorageFault | None = None
        self.on_recovered: list[Callable[[], None]] = []
        self.on_room: list[Callable[[], None]] = []

    @property
    def is_behind(self) -> bool:
        """Whether a commit is under way and a good deal waits behind it already."""
        return len(self._queue) >= 32

    @property
    def has_room(self) -> bool:
        return self.backlog < self._config.backlog_bytes_max

    @property
    def is_idle(self) -> bool:
        return not self._batch and not self._queue

    def append(
        self,
        puts: Sequence[Put],
        cuts: Sequence[Cut] = (),
        *,
        saved: Callable[[], None],
        lost: Callable[[StorageFault], None] | None = None,
    ) -> None:
        """Make these durable, cuts first. A broken journal answers ``lost`` at once, or keeps the entry for later."""
        if self._closed:
            return  # a fold that was under way when the node ended: the next start does it again
        entry = Entry(puts, cuts, saved, lost)
        if self.fault is not None and lost is not None:
            lost(self.fault)
            return
        self.backlog += entry.size
        self._queue.append(entry)
        if not self._batch and self.fault is None and not self._together:
            self._commit()

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is appended in this block is one commit: all of it durable, or none. For entries without cuts but in
        the first; the block may not span an await."""
        before, self._together = len(self._queue), True
        try:
            yield
        finally:
            self._together = False
            for index in range(before, len(self._queue) - 1):
                self._queue[index].is_joined = True
            if self._queue and not self._batch and self.fault is None:
                self._commit()

    def _commit(self) -> None:
        size = 0
        joined = False
        while self._queue and (
            joined or not self._batch or size + self._queue[0].size <= self._config.commit_bytes_max
        ):
            if self._queue[0].cuts and self._batch and not joined:
                break  # a commit does its cuts first, and these are meant for the puts before them too
            entry = self._queue.popleft()
            size += entry.size
            joined = entry.is_joined
            self._batch.append(entry)
        puts = [put for entry in self._batch for put in entry.puts]
        cuts = [cut for entry in self._batch for cut in entry.cuts]
        storage = self._storage
        self._env.offload(lambda: storage.commit(puts, cuts), self._on_committed)

    def _on_committed(self, outcome: BaseException | None) -> None:
        batch, self._batch = self._batch, []
        if outcome is None:
            if self._queue:
                self._commit()  # before the callbacks: the disk need not wait for them
            had_room = self.has_room
            for entry in batch:
                self.backlog -= entry.size
                entry.saved()
            if not had_room and self.has_room:
                self._call(self.on_room)
            return
        if not isinstance(outcome, StorageFault):
            raise outcome  # not the disk's doing: a bug, let it surface
        self.fault = outcome
        batch.extend(self._queue)
        self._queue = deque(entry for entry in batch if entry.lost is None)
        self.backlog = sum(entry.size for entry in self._queue)
        self._schedule_retry()
        for entry in batch:
            if entry.lost is not None:
                entry.lost(outcome)

    def _schedule_retry(self) -> None:
        if not self._closed:
            self._retry = self._env.call_at(self._env.mono() + self._pause_ns, self._try_again)
            self._pause_ns = min(self._pause_ns * 2, int(self._config.retry_max_s * SECOND))

    def _try_again(self) -> None:
        stamp = self._env.now().to_bytes(16, "big", signed=True)
        storage = self._storage
        self._env.offload(lambda: storage.commit([("meta", b"probe", stamp)]), self._on_tried)

    def _on_tried(self, outcome: BaseException | None) -> None:
        if isinstance(outcome, StorageFault):
            self.fault = outcome
            self._schedule_retry()
            return
        if outcome is not None:
            raise outcome
        self.fault = None
        self._pause_ns = int(self._config.retry_min_s * SECOND)
        if not self._closed:
            self._call(self.on_recovered)
            if self._queue and not self._batch:
                self._commit()
            self._call(self.on_room)

    @staticmethod
    def _call(listeners: list[Callable[[], None]]) -> None:
        for listener in tuple(listeners):
            listener()

    def close(self) -> None:
        """No more attempts. The owner has waited until it was idle, if it cares."""
        self._closed = True
        if self._retry is not None:
            self._retry.cancel()
