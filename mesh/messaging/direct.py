"""Messages to one node: sent and forgotten, or asked and answered. At most once, and said so.

A message is handled once or not at all; nobody repeats it. A question is answered, fails with a typed error, or its
time runs out; its handler is cancelled when nobody waits for it any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal, Protocol

from mesh.errors import AnswerLost, Expired, HandlerFailed, NotReached, RequestTimeout
from mesh.messages import Abandon, LinkMessage, Reply, Send
from mesh.messages import Request as RequestMessage
from mesh.messaging.faults import failure
from transport.base import Lane
from transport.codec import decode_value
from transport.errors import ValueRefused
from transport.identity import NodeId

BUDGET_MS_MAX = 7 * 24 * 3600 * 1000
PRIORITIES = ("high", "normal", "low")
Priority = Literal["high", "normal", "low"]


class Sender(Protocol):
    """Queues a link message; False when there is no room or no way. ``urgent`` goes before what waits in its lane."""

    def __call__(self, peer: NodeId, message: LinkMessage, lane: Lane, urgent: bool = False) -> bool: ...


class Direct:
    """What one node tells and asks others, and the answers it waits for.

    ``reach`` is asked first: it gives something to wait for where a direct way may come soon, None otherwise.
    ``is_near`` says that a peer has a way with room to wait for: a link, or that it is this node.
    """

    def __init__(
        self, *, send: Sender, reach: Callable[[NodeId], asyncio.Future[None] | None], is_near: Callable[[NodeId], bool]
    ) -> None:
        self._send, self._reach, self._is_near = send, reach, is_near
        self._waiting: dict[int, tuple[NodeId, str, asyncio.Future[Any]]] = {}
        self._room: dict[tuple[NodeId, Lane], dict[asyncio.Future[None], None]] = {}  # who came first is first
        self._number = 0

    # -- the caller's side -----------------------------------------------------------------------------------------

    async def send(
        self, peer: NodeId, body: bytes, about: bytes, ttl_s: float | None = None, priority: Priority = "normal"
    ) -> None:
        """Queue ``body`` for ``peer``; waits only for room on the way, ``ttl_s`` at most. Raises ``NotReached`` and
        ``Expired``: nothing was sent. A low priority goes behind topics and repair, and has room of its own."""
        message, lane, urgent = Send(body, about), Lane.SYNC if priority == "low" else Lane.DIRECT, priority == "high"
        if self._is_near(peer) and self._send(peer, message, lane, urgent):
            return
        try:
            async with asyncio.timeout(ttl_s):
                await self.ask(peer, message, lane, urgent)
        except TimeoutError:
            assert ttl_s is not None
            raise Expired(peer, ttl_s) from None

    async def request(self, peer: NodeId, name: str, body: bytes, about: bytes, timeout_s: float) -> Any:
        """The answer of ``peer``'s handler ``name``. Raises ``NotReached``, ``AnswerLost``,
        ``RequestTimeout``, ``NoHandler``, ``HandlerFailed`` or ``Busy``; each says what became of the question."""
        self._number += 1
        number = self._number
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = (peer, name, answer)
        budget_ms = min(BUDGET_MS_MAX, max(0, int(timeout_s * 1000)))
        is_sent = False
        try:
            async with asyncio.timeout(timeout_s):
                await self.ask(peer, RequestMessage(number, name, budget_ms, body, about))
                is_sent = True
                return await answer
        except TimeoutError:
            if not is_sent:
                raise NotReached(peer, f"no room on the way to it in {timeout_s:g} s") from None
            raise RequestTimeout(peer, name, timeout_s) from None
        finally:
            del self._waiting[number]
            if is_sent and (answer.cancelled() or not answer.done()):
                self._send(peer, Abandon(number), Lane.CONTROL)

    async def ask(self, peer: NodeId, message: LinkMessage, lane: Lane = Lane.DIRECT, urgent: bool = False) -> None:
        """Get a link to ``peer`` if one can be had soon, then ``queue``."""
        if (soon := self._reach(peer)) is not None:
            await asyncio.shield(soon)
        await self.queue(peer, message, lane, urgent)

    async def queue(self, peer: NodeId, message: LinkMessage, lane: Lane = Lane.DIRECT, urgent: bool = False) -> None:
        """Send once there is room on the way to ``peer``. Raises ``NotReached``: nothing was sent."""
        while not self._send(peer, message, lane, urgent):
            if not self._is_near(peer):
                raise NotReached(peer, "no way to it at present")
            await self._wait_for_room(peer, lane)

    async def _wait_for_room(self, peer: NodeId, lane: Lane) -> None:
        room: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._room.setdefault((peer, lane), {})
        waiting[room] = None
        try:
            await room
        finally:
            waiting.pop(room, None)  # who gave up leaves nothing behind, however long the lane stays full
            if not waiting and self._room.get((peer, lane)) is waiting:
                del self._room[peer, lane]

    # -- the link's side -------------------------------------------------------------------------------------------

    def writable(self, peer: NodeId, lane: Lane) -> None:
        """The lane to ``peer`` has room again: those who wait try again, in order."""
        for room in self._room.pop((peer, lane), {}):
            if not room.done():
                room.set_result(None)

    def lost(self, peer: NodeId) -> None:
        """``peer`` is gone, or its link is: its questions fail."""
        for asked, name, answer in list(self._waiting.values()):
            if asked == peer and not answer.done():
                answer.set_exception(AnswerLost(peer, name))

    def moved(self, peer: NodeId) -> None:
        """The link to ``peer`` ended: who waits for room on it looks for another way."""
        for lane in Lane:
            self.writable(peer, lane)

    def on_reply(self, peer: NodeId, reply: Reply) -> None:
        """``peer`` answered."""
        asked = self._waiting.get(reply.number)
        if asked is None or asked[0] != peer or asked[2].done():
            return  # too late, or not asked of this peer: nobody waits
        _, name, answer = asked
        if reply.error:
            answer.set_exception(failure(peer, name, reply.error, reply.body))
            return
        try:
            answer.set_result(decode_value(reply.body))
        except ValueRefused as wrong:
            answer.set_exception(HandlerFailed(peer, name, f"its answer is no value: {wrong}"))

    def close(self) -> None:
        """Fail every question; nothing of it is answered any more."""
        for peer, lane in list(self._room):
            self.writable(peer, lane)
        for peer, name, answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(AnswerLost(peer, name))
