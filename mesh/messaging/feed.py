"""The making end of a stream: an async generator here, that waits at its ``yield`` while its reader is slow."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from math import inf

from mesh.errors import MeshError
from mesh.messages import LinkMessage, StreamEnd, StreamGrant, StreamItem, StreamOpen, StreamStop
from mesh.messaging.context import NOTHING, read_about
from mesh.messaging.faults import BUSY, FAILED, LOST, NO_HANDLER, Fault, fault_of, shortened
from mesh.messaging.handler import CancelledInside, Handler, OutOfTime, Request, handling
from mesh.messaging.stream import BEAT_S, ITEM_EXTRA, SILENCE_S
from transport.base import SECOND, Env, Timer
from transport.codec import decode_value, encode_value
from transport.identity import NodeId

FEEDS_MAX = 1024  # generators at work here at once; the next is answered "busy"
OF_ONE_PEER_MAX = 512


class _Feed:
    """How far one generator of ours may send; over others also what its reader has not got yet."""

    __slots__ = ("allowed", "beat", "end", "heard", "is_far", "kept", "room", "sent", "seq", "task")

    task: Timer

    def __init__(self, allowed: int, is_far: bool, now: int) -> None:
        self.allowed, self.is_far, self.heard = allowed, is_far, now
        self.sent = self.seq = 0
        self.room = asyncio.Event()
        self.kept: deque[StreamItem] = deque()  # at most one window and one item
        self.end: StreamEnd | None = None
        self.beat: Timer | None = None


class Feeds:
    """The streams one node makes for others. ``queue`` waits for room on the way to a peer and then sends."""

    def __init__(
        self, env: Env, handlers: dict[str, Handler], *, queue: Callable[[NodeId, LinkMessage], Awaitable[None]],
        send: Callable[[NodeId, LinkMessage], bool], is_near: Callable[[NodeId], bool],
        on_fault: Callable[[NodeId, str], None], dropped: Counter[str],
    ) -> None:  # fmt: skip
        self._env, self._handlers, self._queue, self._send, self._is_near = env, handlers, queue, send, is_near
        self._on_fault, self._dropped = on_fault, dropped
        self._feeds: dict[tuple[NodeId, int], _Feed] = {}
        self._of_peer: Counter[NodeId] = Counter()

    # -- the reader's side -------------------------------------------------------------------------------------------

    def on_message(self, peer: NodeId, message: StreamOpen | StreamGrant | StreamStop) -> None:
        """Its reader, ``peer``, asked for a stream, or says how it fares."""
        key = peer, message.number
        match message:
            case StreamOpen():
                self._on_open(peer, message)
            case StreamGrant(_, total, have):
                if (feed := self._feeds.get(key)) is not None:
                    self._on_grant(peer, feed, total, have)
                elif not self._is_near(peer):  # it ended, and our word for that got lost; or this node is a new one
                    self._send(peer, StreamEnd(message.number, LOST, b"\xc0"))
            case StreamStop():
                if key in self._feeds:
                    self._cancel(key)

    def _on_open(self, peer: NodeId, message: StreamOpen) -> None:
        key, handler = (peer, message.number), self._handlers.get(message.name)
        if key in self._feeds:
            self._on_fault(peer, "a stream has a number of its own")
        elif len(self._feeds) >= FEEDS_MAX or self._of_peer[peer] >= OF_ONE_PEER_MAX:
            self._send(peer, StreamEnd(message.number, BUSY, b"\xc0"))
        elif handler is None or not handler.is_stream:
            self._send(peer, StreamEnd(message.number, NO_HANDLER, b"\xc0"))
        else:
            self._of_peer[peer] += 1
            feed = self._feeds[key] = _Feed(message.credit, not self._is_near(peer), self._env.mono())
            if feed.is_far:
                self._beat(key)
            feed.task = self._env.spawn(
                self._feed(peer, message, handler, feed), f"stream {message.number} to {peer.short}"
            )

    def _on_grant(self, peer: NodeId, feed: _Feed, total: int, have: int) -> None:
        feed.heard = self._env.mono()
        is_behind = bool(feed.kept)
        while feed.kept and feed.kept[0].seq <= have:
            feed.kept.popleft()
        if total > feed.allowed:
            feed.allowed = total
            feed.room.set()
        elif is_behind:  # a beat, not an increase: what it lacks is most likely lost
            for item in feed.kept:
                self._send(peer, item)
        if feed.end is not None:
            self._send(peer, feed.end)

    def _beat(self, key: tuple[NodeId, int]) -> None:
        """Over others: say that it is still made, and give up a reader that says nothing for long."""
        feed, now = self._feeds[key], self._env.mono()
        if now - feed.heard > SILENCE_S * SECOND:
            self._dropped["stream lost"] += 1
            self._cancel(key)
            return
        self._send(key[0], StreamItem(key[1], b"\xc0", 0))
        feed.beat = self._env.call_at(now + int(BEAT_S * SECOND), lambda: self._beat(key))

    # -- at work -----------------------------------------------------------------------------------------------------

    async def _feed(self, peer: NodeId, message: StreamOpen, handler: Handler, feed: _Feed) -> None:
        key, context = (peer, message.number), NOTHING
        fault: Fault | None = None
        try:
            context = read_about(message.about)
            request = Request(handler.check(decode_value(message.body)), peer, inf, context)
            handling.set(request)
            await self._make(key, handler, request, feed)
        except MeshError as wrong:  # the way is gone, or the handler's own calls failed: tell whoever still listens
            fault = Fault(FAILED, shortened(f"{type(wrong).__name__}: {wrong}"))
        except Exception as wrong:  # noqa: BLE001 - a user's handler may raise anything; it is logged, and told
            fault = fault_of(wrong, f"the stream {message.name!r} of {peer.short}", context)
        finally:
            if not feed.is_far:
                self._forget(key)
        error, words = fault or ("", "")
        end = StreamEnd(message.number, error, encode_value(words), feed.seq)
        if feed.is_far:
            feed.end = end  # goes again until the reader stops it
        try:
            await self._queue(peer, end)  # behind the items, in the same lane
        except MeshError:
            self._dropped["stream lost"] += not feed.is_far  # the link ended: the reader learns that by itself

    async def _make(self, key: tuple[NodeId, int], handler: Handler, request: Request[object], feed: _Feed) -> None:
        """Run the generator and send what it yields. Raises what it raises, ``OutOfTime`` and ``CancelledInside``."""
        try:
            async with asyncio.timeout(handler.timeout) as scope, aclosing(handler.call(request)) as values:
                async for value in values:
                    await self._send_one(key, feed, encode_value(value))
        except TimeoutError:
            if scope.expired() and handler.timeout is not None:
                raise OutOfTime(handler.timeout) from None
            raise
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise CancelledInside("what it awaited was cancelled") from None

    async def _send_one(self, key: tuple[NodeId, int], feed: _Feed, body: bytes) -> None:
        while feed.sent >= feed.allowed:
            feed.room.clear()
            await feed.room.wait()
        feed.sent += len(body) + ITEM_EXTRA
        feed.seq += 1
        item = StreamItem(key[1], body, feed.seq)
        if feed.is_far:
            feed.kept.append(item)
            self._send(key[0], item)  # lost or without room: the reader's next beat asks for it
        else:
            await self._queue(key[0], item)

    # -- ends --------------------------------------------------------------------------------------------------------

    def _forget(self, key: tuple[NodeId, int]) -> _Feed | None:
        if (feed := self._feeds.pop(key, None)) is not None:
            self._of_peer[key[0]] -= 1
            if not self._of_peer[key[0]]:
                del self._of_peer[key[0]]
            if feed.beat is not None:
                feed.beat.cancel()
        return feed

    def _cancel(self, key: tuple[NodeId, int]) -> None:
        if (feed := self._forget(key)) is not None:
            feed.task.cancel()

    def lost(self, peer: NodeId) -> None:
        """The link to ``peer`` ended: generators that worked over it are closed."""
        for key in [key for key, feed in self._feeds.items() if key[0] == peer and not feed.is_far]:
            self._cancel(key)

    def close(self) -> None:
        """End them all."""
        for key in list(self._feeds):
            self._cancel(key)
