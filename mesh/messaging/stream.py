"""Many answers to one question: an async generator here, an async iterator there, and credit between them.

    StreamOpen   the question; names the handler and how many bytes of items may be sent
    StreamItem   one answer; they come in order
    StreamGrant  "in all, you may send this many bytes": absolute, as on a link (RFC 9000 section 4.1)
    StreamEnd    there are no more, or why not; StreamStop: I want no more

A reader that is slow gives credit late, and so the generator waits at its ``yield``: memory is flat at both ends.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from math import inf
from typing import Any

from mesh.errors import AnswerLost, HandlerFailed, MeshError
from mesh.messages import LinkMessage, StreamEnd, StreamGrant, StreamItem, StreamOpen, StreamStop
from mesh.messaging.context import NOTHING, read_about
from mesh.messaging.faults import BUSY, FAILED, NO_HANDLER, failure, fault_of, shortened
from mesh.messaging.handler import CancelledInside, Handler, OutOfTime, Request, handling
from transport.base import Env, Timer
from transport.codec import decode_value, encode_value
from transport.errors import ValueRefused
from transport.identity import NodeId

WINDOW_BYTES = 256 << 10  # of items on their way to one reader; one item more, so that any value fits
ITEM_EXTRA = 64  # what an item costs of the window beside its body
STREAMS_MAX = 1024  # generators at work here at once; the next is answered "busy"


class _Inbox:
    """Items that came and were not read yet."""

    __slots__ = ("arrived", "end", "filled", "granted", "items", "name", "peer", "taken")

    def __init__(self, peer: NodeId, name: str) -> None:
        self.peer, self.name = peer, name
        self.items: deque[bytes] = deque()
        self.filled = asyncio.Event()
        self.end: MeshError | StopAsyncIteration | None = None
        self.arrived = self.taken = 0
        self.granted = WINDOW_BYTES

    def finish(self, end: MeshError | StopAsyncIteration) -> None:
        self.end = self.end or end
        self.filled.set()


class _Outbox:
    """How far one generator of ours may send."""

    __slots__ = ("allowed", "room", "sent", "task")

    task: Timer

    def __init__(self, allowed: int) -> None:
        self.allowed, self.sent = allowed, 0
        self.room = asyncio.Event()


class Streams:
    """One node's streams, those it reads and those it feeds. ``queue`` waits for room on a link and then sends."""

    def __init__(
        self, env: Env, handlers: dict[str, Handler], *, queue: Callable[[NodeId, LinkMessage], Awaitable[None]],
        send: Callable[[NodeId, LinkMessage], bool], on_fault: Callable[[NodeId, str], None], dropped: Counter[str],
    ) -> None:  # fmt: skip
        self._env, self._handlers, self._queue, self._send, self._on_fault = env, handlers, queue, send, on_fault
        self._dropped = dropped
        self._reading: dict[int, _Inbox] = {}
        self._feeding: dict[tuple[NodeId, int], _Outbox] = {}
        self._number = 0

    # -- the reader's side -------------------------------------------------------------------------------------------

    async def read(self, peer: NodeId, name: str, body: bytes, about: bytes) -> AsyncGenerator[Any, None]:
        """What the handler ``name`` of ``peer`` yields. Raises what ``request`` raises; ``AnswerLost`` in the middle
        too. Closing it, or dropping it, ends the generator there."""
        self._number += 1
        number = self._number
        inbox = self._reading[number] = _Inbox(peer, name)
        try:
            await self._queue(peer, StreamOpen(number, name, inbox.granted, body, about))
            while True:
                while not inbox.items:
                    if isinstance(inbox.end, StopAsyncIteration):
                        return
                    if inbox.end is not None:
                        raise inbox.end
                    inbox.filled.clear()
                    await inbox.filled.wait()
                item = inbox.items.popleft()
                try:
                    value = decode_value(item)
                except ValueRefused as wrong:
                    raise HandlerFailed(peer, name, f"its answer is no value: {wrong}") from None
                self._taken(number, inbox, len(item) + ITEM_EXTRA)
                yield value
        finally:
            del self._reading[number]
            if inbox.end is None:
                self._send(peer, StreamStop(number))

    def _taken(self, number: int, inbox: _Inbox, size: int) -> None:
        inbox.taken += size
        if inbox.taken + WINDOW_BYTES - inbox.granted >= WINDOW_BYTES // 4:
            inbox.granted = inbox.taken + WINDOW_BYTES
            self._send(inbox.peer, StreamGrant(number, inbox.granted))

    # -- the link's side ---------------------------------------------------------------------------------------------

    def on_message(self, peer: NodeId, message: StreamOpen | StreamItem | StreamGrant | StreamEnd | StreamStop) -> None:
        """A stream's message came from ``peer``."""
        match message:
            case StreamOpen():
                self._on_open(peer, message)
            case StreamItem(number, body):
                if (inbox := self._inbox(peer, number)) is not None:
                    if inbox.arrived >= inbox.granted:
                        self._on_fault(peer, "a stream keeps to its credit")
                        return
                    inbox.arrived += len(body) + ITEM_EXTRA
                    inbox.items.append(body)
                    inbox.filled.set()
            case StreamEnd(number, error, body):
                if (inbox := self._inbox(peer, number)) is not None:
                    inbox.finish(failure(peer, inbox.name, error, body) if error else StopAsyncIteration())
            case StreamGrant(number, total):
                if (outbox := self._feeding.get((peer, number))) is not None and total > outbox.allowed:
                    outbox.allowed = total
                    outbox.room.set()
            case StreamStop(number):
                if (outbox := self._feeding.get((peer, number))) is not None:
                    outbox.task.cancel()

    def _inbox(self, peer: NodeId, number: int) -> _Inbox | None:
        inbox = self._reading.get(number)
        return inbox if inbox is not None and inbox.peer == peer and inbox.end is None else None

    def _on_open(self, peer: NodeId, message: StreamOpen) -> None:
        number, handler = message.number, self._handlers.get(message.name)
        if (peer, number) in self._feeding:
            self._on_fault(peer, "a stream has a number of its own")
        elif len(self._feeding) >= STREAMS_MAX:
            self._send(peer, StreamEnd(number, BUSY, b"\xc0"))
        elif handler is None or not handler.is_stream:
            self._send(peer, StreamEnd(number, NO_HANDLER, b"\xc0"))
        else:
            outbox = self._feeding[peer, number] = _Outbox(message.credit)
            outbox.task = self._env.spawn(
                self._feed(peer, message, handler, outbox), f"stream {number} to {peer.short}"
            )

    async def _feed(self, peer: NodeId, message: StreamOpen, handler: Handler, outbox: _Outbox) -> None:
        number = message.number
        error, words, context, scope = "", "", NOTHING, None
        try:
            context = read_about(message.about)
            request = Request(handler.check(decode_value(message.body)), peer, inf, context)
            handling.set(request)
            async with asyncio.timeout(handler.timeout) as scope, aclosing(handler.call(request)) as values:
                async for value in values:
                    await self._feed_one(peer, number, outbox, encode_value(value))
        except MeshError as wrong:  # the link is gone, or the handler's own calls failed: tell whoever still listens
            error, words = FAILED, shortened(f"{type(wrong).__name__}: {wrong}")
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            error, words = FAILED, str(CancelledInside("what it awaited was cancelled"))
        except Exception as wrong:  # noqa: BLE001 - a user's handler may raise anything; the reader is told
            is_late = scope is not None and scope.expired()
            told = OutOfTime(handler.timeout or 0.0) if is_late else wrong
            error, words = fault_of(told, f"the stream {message.name!r} of {peer.short}", context)
        finally:
            self._feeding.pop((peer, number), None)
        end = StreamEnd(number, error, encode_value(words))
        try:
            await self._queue(peer, end)  # behind the items, in the same lane
        except MeshError:
            self._dropped["stream lost"] += 1  # the link ended: the reader learns that by itself

    async def _feed_one(self, peer: NodeId, number: int, outbox: _Outbox, item: bytes) -> None:
        while outbox.sent >= outbox.allowed:
            outbox.room.clear()
            await outbox.room.wait()
        outbox.sent += len(item) + ITEM_EXTRA
        await self._queue(peer, StreamItem(number, item))

    # -- ends --------------------------------------------------------------------------------------------------------

    def lost(self, peer: NodeId) -> None:
        """The link to ``peer`` ended: readers are told, generators that worked for it are closed."""
        for inbox in list(self._reading.values()):
            if inbox.peer == peer:
                inbox.finish(AnswerLost(peer, inbox.name))
        for key in [key for key in self._feeding if key[0] == peer]:
            self._feeding[key].task.cancel()

    def close(self) -> None:
        """End them all."""
        for inbox in self._reading.values():
            inbox.finish(AnswerLost(inbox.peer, inbox.name))
        for outbox in list(self._feeding.values()):
            outbox.task.cancel()
