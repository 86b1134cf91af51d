"""This node's own messages on topics, on their way to frames: gathered for a moment, signed together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Literal, Protocol

from mesh.errors import Closed, PublishFull
from mesh.messaging.config import MessagingConfig
from transport.base import MILLISECOND, Env, Lane, Timer
from transport.frame import GENESIS, KIND_TOPIC, SignedFrame, seal
from transport.identity import LOG_BYTES, Identity, Mesh, NodeId

ITEM_EXTRA = 64  # bytes of memory a waiting item costs beside its own
STAMP_BITS = 16  # of a stamp below its milliseconds, as spaces have it

OnFull = Literal["wait", "error", "drop_oldest"]
ON_FULL = ("wait", "error", "drop_oldest")


class Outlet(Protocol):
    """What the publisher asks of a link: who is there, and how much waits for it."""

    @property
    def peer(self) -> NodeId: ...

    def queued(self, lane: Lane) -> int: ...


class Publisher:
    """Items of one log, closed into a frame when 256 are there, or 64 KiB, or it is time; at once if urgent.

    A lone message goes with the loop's next turn; after a frame the next one waits until 1 ms has passed. What comes in
    the second half of that millisecond waits no more: loops tick in milliseconds, so it would wait for a whole one.

    While a neighbour's lane holds ``lane_bytes`` nothing is closed, so frames grow instead of getting more, and what
    waits here is bounded: past ``pending_bytes_max`` a caller waits, fails or drops the oldest, as it chose. A
    neighbour that stays behind for ``lane_patience_ms`` while another keeps up is a laggard and no longer waited for:
    it will pull, and learn what it missed. So the fastest neighbour sets the pace, and a slow one costs 250 ms.
    """

    def __init__(
        self, env: Env, identity: Identity, mesh: Mesh, config: MessagingConfig, *, stream: str,
        outlets: Callable[[], Iterable[Outlet]], sealed: Callable[[SignedFrame], None],
        drop: Callable[[str, int], None],
    ) -> None:  # fmt: skip
        self._env, self._identity, self._mesh, self._config = env, identity, mesh, config
        self._stream, self._outlets, self._sealed, self._drop = stream, outlets, sealed, drop
        self.log = env.entropy(LOG_BYTES)  # a stream without journal: a fresh one at each start
        self._next, self._previous = 1, GENESIS
        self._items: list[bytes] = []
        self._bytes = 0
        self._linger_ns = int(config.linger_ms * MILLISECOND)
        self._items_max, self._seal_bytes = config.seal_items, config.seal_bytes
        self._lane_bytes = config.lane_bytes
        self._pending_max = config.pending_bytes_max
        self._patience_ns = int(config.lane_patience_ms * MILLISECOND)
        self._closed_ns = -self._linger_ns  # when the last frame was closed
        self._is_urgent = False
        self._timer: Timer | None = None
        self._behind: dict[NodeId, int] = {}  # neighbours whose lane is full, and since when
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_closed = False

    @property
    def pending(self) -> int:
        """Messages taken and not yet signed."""
        return len(self._items)

    async def publish(self, item: bytes, on_full: OnFull, urgent: bool) -> None:
        """Take ``item``. Raises ``PublishFull`` if asked to, and ``Closed`` when the node ends meanwhile: not taken."""
        size = len(item) + ITEM_EXTRA
        while self._bytes + size > self._pending_max and self._items:
            if on_full == "error":
                await self._env.sleep(0)  # so that a caller who tries again and again lets the frames go
                raise PublishFull(self._bytes, self._pending_max)
            if on_full == "drop_oldest":
                self._bytes -= len(self._items.pop(0)) + ITEM_EXTRA  # of some thousands: a short move
                self._drop("published too fast", 1)
                continue
            room: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(room)
            await room
        if self._is_closed:
            raise Closed("node.publish()")
        self._items.append(item)
        self._bytes += size
        if urgent or len(self._items) >= self._items_max or self._bytes >= self._seal_bytes:
            self._is_urgent |= urgent
            self._close_frames()
            await self._env.sleep(0)  # a loop that only publishes must not starve those that send
        elif self._timer is None:
            now = self._env.mono()
            at = now if self._has_lingered(now) else self._closed_ns + self._linger_ns
            self._timer = self._env.call_at(at, self._on_time)

    def finish(self) -> None:
        """Sign what waits, whatever the lanes hold, and take nothing more."""
        while self._items:
            self._close_one()
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._let_in()

    # -- inside ------------------------------------------------------------------------------------------------------

    def _on_time(self) -> None:
        self._timer = None
        self._close_frames()

    def _close_frames(self) -> None:
        """Close what is due, as far as the lanes take it, and look again later if something is left."""
        now = self._env.mono()
        while self._items and self._is_due(now) and self._is_open(now):
            self._close_one()
            self._closed_ns = now
        self._is_urgent &= bool(self._items)
        if self._items and self._timer is None and not self._is_closed:
            self._timer = self._env.call_at(now + self._linger_ns, self._on_time)
        if self._waiting and self._bytes * 2 <= self._pending_max:
            self._let_in()

    def _is_due(self, now: int) -> bool:
        full = len(self._items) >= self._items_max or self._bytes >= self._seal_bytes
        return full or self._is_urgent or self._has_lingered(now)

    def _has_lingered(self, now: int) -> bool:
        """Whether enough time has passed since the last frame."""
        return (now - self._closed_ns) * 2 >= self._linger_ns

    def _is_open(self, now: int) -> bool:
        """Whether somebody has room, and nobody is waited for; who came to be behind, and who no longer is."""
        limit, behind = self._lane_bytes, self._behind
        links = full = awaited = 0
        self._behind = {}
        for outlet in self._outlets():
            links += 1
            queued, since = outlet.queued(Lane.BROADCAST), behind.get(outlet.peer)
            is_laggard = since is not None and now - since > self._patience_ns
            if queued > limit or (is_laggard and queued * 2 > limit):
                full += 1
                awaited += not is_laggard
                self._behind[outlet.peer] = now if since is None else since
        return not awaited and (full < links or not links)

    def _close_one(self) -> None:
        items = self._items[: self._items_max]
        size = sum(map(len, items)) + ITEM_EXTRA * len(items)
        while size > self._seal_bytes and len(items) > 1:
            size -= len(items.pop()) + ITEM_EXTRA
        del self._items[: len(items)]
        self._bytes -= size
        frame = seal(
            self._identity, self._mesh, kind=KIND_TOPIC, stream=self._stream, log=self.log, first=self._next,
            count=len(items), hlc=max(0, self._env.now() // MILLISECOND) << STAMP_BITS, previous=self._previous,
            items=items,
        )  # fmt: skip
        self._next += len(items)
        self._previous = frame.digest
        self._sealed(frame)

    def _let_in(self) -> None:
        waiting, self._waiting = self._waiting, deque()
        for room in waiting:
            if not room.done():
                room.set_result(None)
