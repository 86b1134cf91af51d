"""One reader of topics: what matches its pattern, in a bounded queue that never makes anybody wait."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count, repeat
from types import TracebackType
from typing import Any

import msgspec

from mesh.messaging.pattern import Pattern
from transport.codec import decode_value
from transport.errors import ValueRefused
from transport.identity import NodeId, Origin

ENTRY_BYTES = 160  # what a waiting message weighs beside its body
READS_PER_TURN = 4096  # then others on this loop get a turn; more than what comes in meanwhile (a few ms)


class TopicMessage(msgspec.Struct, frozen=True, gc=False):
    """A message on a topic. ``id`` is the same at every receiver, and no other message's."""

    topic: str
    body: Any
    origin: Origin
    seq: int

    @property
    def sender(self) -> NodeId:
        """The node that published and signed it."""
        return self.origin.node

    @property
    def id(self) -> str:
        """Its origin's text form and its number there: numbers of one sender's life only grow, holes are losses."""
        return f"{self.origin}/{self.seq}"

    def __repr__(self) -> str:
        return f"TopicMessage({self.topic!r}, {self.body!r}, from {self.sender.short})"


class Subscription:
    """``async with node.subscribe(pattern) as messages: async for message in messages: …``

    Messages of one sender come in the order it published them. ``dropped`` counts what this reader did not get and is
    known: what it read too slowly (the oldest go), what was lost on the way here (whatever its topic), what was no
    value. Law: for one sender's messages that match, published == read + waiting + dropped, once all has arrived.
    Iteration ends with the block or the node; what waits then is still read.
    """

    def __init__(
        self, pattern: str, bytes_max: int, *, opened: Callable[[Subscription], None],
        closed: Callable[[Subscription], None], drop: Callable[[str, int], None],
    ) -> None:  # fmt: skip
        self.pattern = Pattern(pattern)
        self.dropped = 0
        self._bytes_max, self._bytes, self._reads = bytes_max, 0, 0
        self._opened, self._closed, self._drop = opened, closed, drop
        self._queue: deque[tuple[tuple[str, bytes], Origin, int]] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._is_open = False

    # -- the room's side -------------------------------------------------------------------------------------------

    def put(self, item: tuple[str, bytes], origin: Origin, seq: int) -> None:
        """Take one message, (topic, body); ``settle`` follows after a group of them."""
        self._queue.append((item, origin, seq))
        self._bytes += len(item[1]) + ENTRY_BYTES

    def put_all(self, items: Sequence[tuple[str, bytes]], origin: Origin, first: int) -> None:
        """Take a whole frame of messages, the first of which is number ``first``."""
        self._queue.extend(zip(items, repeat(origin), count(first), strict=False))
        self._bytes += sum([len(body) for _, body in items]) + ENTRY_BYTES * len(items)

    def settle(self) -> None:
        """Keep the bound, and wake the reader."""
        if self._bytes > self._bytes_max:
            lost = 0
            while self._bytes > self._bytes_max and len(self._queue) > 1:
                self._bytes -= len(self._queue.popleft()[0][1]) + ENTRY_BYTES
                lost += 1
            self.dropped += lost
            self._drop("read too slowly", lost)
        self._wake()

    def lose(self, count: int) -> None:
        """``count`` messages of some sender will never come here, matching or not."""
        self.dropped += count

    def end(self) -> None:
        """Nothing more comes."""
        self._is_open = False
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # -- the reader's side -----------------------------------------------------------------------------------------

    async def __aenter__(self) -> Subscription:
        if self._is_open:
            raise RuntimeError("this subscription is open already; make one for each reader")
        self._is_open = True
        self._opened(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, wrong: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed(self)
        self.end()

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> TopicMessage:
        self._reads += 1
        if self._reads >= READS_PER_TURN:
            self._reads = 0
            await asyncio.sleep(0)
        while True:
            while not self._queue:
                await self._wait()
            (topic, raw), origin, seq = self._queue.popleft()
            self._bytes -= len(raw) + ENTRY_BYTES
            try:
                return TopicMessage(topic, decode_value(raw), origin, seq)
            except ValueRefused:
                self.dropped += 1
                self._drop("not a value", 1)

    async def _wait(self) -> None:
        if not self._is_open:
            raise StopAsyncIteration
        if self._waiter is not None:
            raise RuntimeError("a subscription has one reader")
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
