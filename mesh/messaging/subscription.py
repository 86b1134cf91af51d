"""One reader of topics: what matches its pattern, in a bounded queue that never makes anybody wait."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, NamedTuple

import msgspec

from mesh.messaging.context import NOTHING, Context, Trace, read_about
from mesh.messaging.pattern import Pattern
from transport.codec import decode_value
from transport.errors import ValueRefused
from transport.identity import NodeId, Origin

ENTRY_BYTES = 160  # what a waiting message weighs beside its body
READS_PER_TURN = 4096  # then others on this loop get a turn; more than what comes in meanwhile (a few ms)


Entry = tuple[tuple[str, bytes], Origin, int]  # topic and body, whose, which number


class _Chunk(NamedTuple):
    """Messages that came in one frame: read, or dropped, one after another without being taken apart before."""

    entries: Iterator[Entry]
    messages: int
    size: int
    abouts: Mapping[int, bytes]


class TopicMessage(msgspec.Struct, frozen=True, gc=False):
    """A message on a topic. ``id`` is the same at every receiver, and no other message's."""

    topic: str
    body: Any
    origin: Origin
    seq: int
    about: bytes = b""

    @property
    def context(self) -> Context:
        """What travelled beside the body; empty when it is not well formed, which is its publisher's fault."""
        try:
            return read_about(self.about)
        except ValueRefused:
            return NOTHING

    @property
    def trace(self) -> Trace | None:
        """The trace it belongs to, if it was published inside a handler, or with a ``cause``."""
        return self.context.trace

    @property
    def on_behalf_of(self) -> tuple[NodeId, ...]:
        """For whom its publisher acts, the first one first."""
        return self.context.on_behalf_of

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
    known: what it read too slowly (the oldest go, a frame at a time), what was lost on the way here (whatever its
    topic), what was no value. Law: for one sender's messages that match, published == read + waiting + dropped, once
    all has arrived. Iteration ends with the block or the node; what waits then is still read.
    """

    def __init__(
        self, pattern: str, bytes_max: int, *, opened: Callable[[Subscription], None],
        closed: Callable[[Subscription], None], drop: Callable[[str, int], None],
    ) -> None:  # fmt: skip
        self.pattern = Pattern(pattern)
        self.dropped = 0
        self._bytes_max, self._bytes, self._reads = bytes_max, 0, 0
        self._opened, self._closed, self._drop = opened, closed, drop
        self._chunks: deque[_Chunk] = deque()
        self._entries: Iterator[Entry] = iter(())  # of the chunk that is being read
        self._abouts: Mapping[int, bytes] = {}  # what travels beside some of them
        self._size = 0  # what that chunk weighs, until it is read to its end
        self._waiter: asyncio.Future[None] | None = None
        self._is_open = False

    # -- the room's side -------------------------------------------------------------------------------------------

    def put(self, entries: Iterator[Entry], count: int, size: int, abouts: Mapping[int, bytes]) -> None:
        """Take ``count`` messages with ``size`` bytes of bodies, ``abouts`` beside some, by their sequence; wake the
        reader. The oldest go past the bound."""
        size += ENTRY_BYTES * count
        self._chunks.append(_Chunk(entries, count, size, abouts))
        self._bytes += size
        while self._bytes > self._bytes_max and len(self._chunks) > 1:
            oldest = self._chunks.popleft()
            self._bytes -= oldest.size
            self.dropped += oldest.messages
            self._drop("read too slowly", oldest.messages)
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
            entry = next(self._entries, None)
            if entry is None:
                await self._next_chunk()
                continue
            (topic, raw), origin, seq = entry
            try:
                if self._abouts:
                    return TopicMessage(topic, decode_value(raw), origin, seq, self._abouts.get(seq, b""))
                return TopicMessage(topic, decode_value(raw), origin, seq)
            except ValueRefused:
                self.dropped += 1
                self._drop("not a value", 1)

    async def _next_chunk(self) -> None:
        self._bytes -= self._size
        self._size = 0
        while not self._chunks:
            await self._wait()
        chunk = self._chunks.popleft()
        self._entries, self._size, self._abouts = chunk.entries, chunk.size, chunk.abouts

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
