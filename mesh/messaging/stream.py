"""The reading end of a stream: many answers to one question, with credit, so that a slow reader slows their maker.

    StreamOpen   the question; names the handler and how many bytes of items may be sent
    StreamItem   one answer; they are numbered from 1 and come in order. Number 0: none, I am still here
    StreamGrant  "in all, you may send this many bytes", absolute, as on a link (RFC 9000 section 4.1); and what I have
    StreamEnd    there are no more, and so many there were, or why not; StreamStop: I want no more

Over a link nothing gets lost but with the link, and so the stream ends with it. Without a link, over others, anything
may get lost: then the reader says every second what it has, the maker sends again what is missing, and each gives up
the other after ``SILENCE_S`` without a word. The question itself is never repeated: at most once, as promised.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from mesh.errors import AnswerLost, HandlerFailed, MeshError
from mesh.messages import LinkMessage, StreamEnd, StreamGrant, StreamItem, StreamOpen, StreamStop
from mesh.messaging.faults import failure
from transport.base import SECOND, Env, Timer
from transport.codec import decode_value
from transport.errors import ValueRefused
from transport.identity import NodeId

WINDOW_BYTES = 256 << 10  # of items on their way to one reader; one item more, so that any value fits
ITEM_EXTRA = 64  # what an item costs of the window beside its body
BEAT_S, SILENCE_S = 1.0, 10.0  # over others: how often each says what it has, and when it gives up (guess)


class _Reader:
    """Items that came and were not read yet."""

    __slots__ = ("arrived", "beat", "end", "filled", "granted", "have", "heard", "is_far", "items", "name", "peer",
                 "taken")  # fmt: skip

    def __init__(self, peer: NodeId, name: str, is_far: bool) -> None:
        self.peer, self.name, self.is_far = peer, name, is_far
        self.items: deque[bytes] = deque()
        self.filled = asyncio.Event()
        self.end: MeshError | StopAsyncIteration | None = None
        self.arrived = self.taken = self.have = self.heard = 0
        self.granted = WINDOW_BYTES
        self.beat: Timer | None = None

    def finish(self, end: MeshError | StopAsyncIteration) -> None:
        self.end = self.end or end
        self.filled.set()


class Streams:
    """The streams one node reads. ``ask`` waits for a way to a peer and for room on it, and then sends."""

    def __init__(
        self, env: Env, *, ask: Callable[[NodeId, LinkMessage], Awaitable[None]],
        send: Callable[[NodeId, LinkMessage], bool], is_near: Callable[[NodeId], bool],
        on_fault: Callable[[NodeId, str], None],
    ) -> None:  # fmt: skip
        self._env, self._ask, self._send, self._is_near, self._on_fault = env, ask, send, is_near, on_fault
        self._reading: dict[int, _Reader] = {}
        self._number = 0

    # -- the reader's side -------------------------------------------------------------------------------------------

    async def read(self, peer: NodeId, name: str, body: bytes, about: bytes) -> AsyncGenerator[Any, None]:
        """What the handler ``name`` of ``peer`` yields. Raises what ``request`` raises; ``AnswerLost`` in the middle
        too. Closing it, or dropping it, ends the generator there."""
        self._number += 1
        number = self._number
        reader = self._reading[number] = _Reader(peer, name, False)
        is_open = False
        try:
            await self._ask(peer, StreamOpen(number, name, reader.granted, body, about))
            is_open = True
            if not self._is_near(peer):
                reader.is_far, reader.heard = True, self._env.mono()
                self._beat(number)
            while True:
                while not reader.items:
                    if isinstance(reader.end, StopAsyncIteration):
                        return
                    if reader.end is not None:
                        raise reader.end
                    reader.filled.clear()
                    await reader.filled.wait()
                item = reader.items.popleft()
                try:
                    value = decode_value(item)
                except ValueRefused as wrong:
                    raise HandlerFailed(peer, name, f"its answer is no value: {wrong}") from None
                self._taken(number, reader, len(item) + ITEM_EXTRA)
                yield value
        finally:
            del self._reading[number]
            if reader.beat is not None:
                reader.beat.cancel()
            if is_open and (reader.is_far or reader.end is None):
                self._send(peer, StreamStop(number))

    def _taken(self, number: int, reader: _Reader, size: int) -> None:
        reader.taken += size
        if reader.taken + WINDOW_BYTES - reader.granted >= WINDOW_BYTES // 4:
            reader.granted = reader.taken + WINDOW_BYTES
            self._grant(number, reader)

    def _grant(self, number: int, reader: _Reader) -> None:
        self._send(reader.peer, StreamGrant(number, reader.granted, reader.have))

    def _beat(self, number: int) -> None:
        """Over others: say what is here, and give up who says nothing for long."""
        reader = self._reading[number]
        now = self._env.mono()
        if now - reader.heard > SILENCE_S * SECOND:
            reader.finish(AnswerLost(reader.peer, reader.name))
        if reader.end is None:
            self._grant(number, reader)
            reader.beat = self._env.call_at(now + int(BEAT_S * SECOND), lambda: self._beat(number))

    # -- the maker's side --------------------------------------------------------------------------------------------

    def on_message(self, peer: NodeId, message: StreamItem | StreamEnd) -> None:
        """An answer came from ``peer``."""
        reader = self._reading.get(message.number)
        if reader is None or reader.peer != peer:
            if not self._is_near(peer):
                self._send(peer, StreamStop(message.number))  # our word that we want no more got lost
            return
        reader.heard = self._env.mono()
        if reader.end is not None:
            return
        match message:
            case StreamItem(_, body, seq):
                self._on_item(message.number, reader, body, seq)
            case StreamEnd(_, error, body, count):
                if error:
                    reader.finish(failure(peer, reader.name, error, body))
                elif reader.have == count or not reader.is_far:
                    reader.finish(StopAsyncIteration())

    def _on_item(self, number: int, reader: _Reader, body: bytes, seq: int) -> None:
        if reader.is_far and seq != reader.have + 1:
            return  # none, or again, or one before it is missing: the next beat says what is here
        if reader.arrived >= reader.granted:
            self._on_fault(reader.peer, "a stream keeps to its credit")
            return
        reader.have = seq
        reader.arrived += len(body) + ITEM_EXTRA
        reader.items.append(body)
        reader.filled.set()

    # -- ends --------------------------------------------------------------------------------------------------------

    def lost(self, peer: NodeId) -> None:
        """The link to ``peer`` ended: readers are told."""
        for reader in list(self._reading.values()):
            if reader.peer == peer and not reader.is_far:
                reader.finish(AnswerLost(peer, reader.name))

    def close(self) -> None:
        """End them all."""
        for reader in self._reading.values():
            reader.finish(AnswerLost(reader.peer, reader.name))
