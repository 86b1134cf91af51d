"""Messages to one linked node: sent and forgotten, or asked and answered. At most once, and said so.

A message is handled once or not at all; nobody repeats it. A question is answered, fails with a typed error, or its
time runs out; its handler is cancelled when nobody waits for it any more.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Literal, Protocol

from mesh.errors import AnswerLost, Expired, HandlerFailed, NotReached, RequestTimeout
from mesh.messages import Abandon, LinkMessage, Reply, Send
from mesh.messages import Request as RequestMessage
from mesh.messaging.faults import BODY, BUSY, FAILED, INVALID, NO_HANDLER, failure
from mesh.messaging.handler import BodyRefused, Handler, Message, Request
from transport.base import Env, Lane, Timer
from transport.codec import Value, decode_value, encode_value
from transport.errors import ValueRefused
from transport.identity import NodeId

log = logging.getLogger("gossamer")

HANDLERS_MAX = 1024  # running at once for all peers; the next question is answered "busy", the next message dropped
BUDGET_MS_MAX = 7 * 24 * 3600 * 1000
PRIORITIES = ("high", "normal", "low")
Priority = Literal["high", "normal", "low"]


class Sender(Protocol):
    """Queues a link message; False when there is no room or no link."""

    def __call__(self, peer: NodeId, message: LinkMessage, lane: Lane) -> bool: ...


class Direct:
    """One node's handlers, and the questions it waits for. ``dropped`` counts what was not delivered, by reason."""

    def __init__(self, env: Env, *, send: Sender, is_linked: Callable[[NodeId], bool], dropped: Counter[str]) -> None:
        self._env, self._send, self._is_linked, self.dropped = env, send, is_linked, dropped
        self.on_send: Handler | None = None
        self.handlers: dict[str, Handler] = {}
        self._waiting: dict[int, tuple[NodeId, str, asyncio.Future[Any]]] = {}
        self._running: dict[tuple[NodeId, int], Timer] = {}
        self._room: dict[tuple[NodeId, Lane], deque[asyncio.Future[None]]] = {}
        self._number = 0

    # -- the caller's side -----------------------------------------------------------------------------------------

    async def send(self, peer: NodeId, body: Value, ttl_s: float | None = None, priority: Priority = "normal") -> None:
        """Queue ``body`` for ``peer``; waits only for room on the link, ``ttl_s`` at most. Raises ``NotReached`` and
        ``Expired``: nothing was sent. A low priority goes behind topics and repair, and has room of its own."""
        message = Send(encode_value(body))
        lane = Lane.SYNC if priority == "low" else Lane.DIRECT
        if self._send(peer, message, lane):
            return
        try:
            async with asyncio.timeout(ttl_s):
                await self.queue(peer, message, lane)
        except TimeoutError:
            assert ttl_s is not None
            raise Expired(peer, ttl_s) from None

    async def request(self, peer: NodeId, name: str, body: Value, timeout_s: float) -> Any:
        """The answer of ``peer``'s handler ``name``. Raises ``NotReached``, ``AnswerLost``,
        ``RequestTimeout``, ``NoHandler``, ``HandlerFailed`` or ``Busy``; each says what became of the question."""
        self._number += 1
        number = self._number
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = (peer, name, answer)
        budget_ms = min(BUDGET_MS_MAX, max(0, int(timeout_s * 1000)))
        try:
            async with asyncio.timeout(timeout_s):
                await self.queue(peer, RequestMessage(number, name, budget_ms, encode_value(body)))
                return await answer
        except TimeoutError:
            raise RequestTimeout(peer, name, timeout_s) from None
        finally:
            del self._waiting[number]
            if answer.cancelled() or not answer.done():
                self._send(peer, Abandon(number), Lane.CONTROL)

    async def queue(self, peer: NodeId, message: LinkMessage, lane: Lane = Lane.DIRECT) -> None:
        """Send once the lane to ``peer`` has room. Raises ``NotReached``: nothing was sent."""
        while not self._send(peer, message, lane):
            if not self._is_linked(peer):
                raise NotReached(peer, "no link to it")
            room: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._room.setdefault((peer, lane), deque()).append(room)
            await room

    # -- the link's side -------------------------------------------------------------------------------------------

    def writable(self, peer: NodeId, lane: Lane) -> None:
        """The lane to ``peer`` has room again: those who wait try again, in order."""
        for room in self._room.pop((peer, lane), ()):
            if not room.done():
                room.set_result(None)

    def lost(self, peer: NodeId) -> None:
        """The link to ``peer`` ended: its questions fail, the handlers that work for it are cancelled."""
        for asked, name, answer in list(self._waiting.values()):
            if asked == peer and not answer.done():
                answer.set_exception(AnswerLost(peer, name))
        for key in [each for each in self._running if each[0] == peer]:
            self._running.pop(key).cancel()
        for lane in Lane:
            self.writable(peer, lane)

    def on_message(self, peer: NodeId, message: LinkMessage) -> None:
        """A direct message came from ``peer``."""
        match message:
            case Send(body):
                self.on_broadcast(peer, body)
            case RequestMessage(number, name, budget_ms, body):
                if len(self._running) >= HANDLERS_MAX:
                    self._reply(peer, number, BUSY, None)
                elif name not in self.handlers or self.handlers[name].is_stream:
                    self._reply(peer, number, NO_HANDLER, None)
                else:
                    self._start(peer, number, self._answer(peer, number, name, budget_ms, body))
            case Reply(number, error, body):
                self._settle(peer, number, error, body)
            case Abandon(number):
                if task := self._running.pop((peer, number), None):
                    task.cancel()
            case _:
                raise AssertionError(message)

    def on_broadcast(self, sender: NodeId, body: bytes) -> None:
        """A message of ``sender`` that nobody waits for."""
        self._number += 1
        self._start(sender, -self._number, self._handle(sender, -self._number, body))

    def close(self) -> None:
        """End every handler and fail every question; nothing of it is answered any more."""
        for task in self._running.values():
            task.cancel()
        self._running.clear()
        for peer, lane in list(self._room):
            self.writable(peer, lane)
        for peer, name, answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(AnswerLost(peer, name))

    def _start(self, peer: NodeId, number: int, work: Coroutine[Any, Any, None]) -> None:
        if number < 0 and (self.on_send is None or len(self._running) >= HANDLERS_MAX):
            work.close()
            self.dropped["no handler" if self.on_send is None else "handlers busy"] += 1
            return
        self._running[peer, number] = self._env.spawn(work, f"handler {number} for {peer.short}")

    async def _handle(self, peer: NodeId, number: int, body: bytes) -> None:
        assert self.on_send is not None
        try:
            await self.on_send.call(Message(self.on_send.check(decode_value(body)), peer))
        except ValueRefused:
            self.dropped["not a value"] += 1
        except BodyRefused as wrong:
            self.dropped["another body"] += 1
            log.warning("a message of %s is not what the handler takes: %s", peer.short, wrong)
        except Exception:  # a user's handler may raise anything; the node lives on and says so
            self.dropped["handler failed"] += 1
            log.exception("the message handler failed on a message of %s", peer.short)
        finally:
            self._running.pop((peer, number), None)

    async def _answer(self, peer: NodeId, number: int, name: str, budget_ms: int, body: bytes) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + budget_ms / 1000
        handler = self.handlers[name]
        try:
            async with asyncio.timeout_at(deadline):
                value = await handler.call(Request(handler.check(decode_value(body)), peer, deadline))
            self._reply(peer, number, "", value)
        except TimeoutError:
            self.dropped["handler out of time"] += 1
        except BodyRefused as wrong:
            self._reply(peer, number, BODY, str(wrong))
        except ValueRefused as wrong:
            self._reply(peer, number, INVALID, str(wrong))
        except Exception as wrong:  # a user's handler may raise anything; the caller is told
            log.exception("the handler %r failed on a question of %s", name, peer.short)
            self._reply(peer, number, FAILED, f"{type(wrong).__name__}: {wrong}"[:1000])
        finally:
            self._running.pop((peer, number), None)

    def _reply(self, peer: NodeId, number: int, error: str, value: Value) -> None:
        reply = Reply(number, error, encode_value(value))
        if not self._send(peer, reply, Lane.DIRECT) and self._is_linked(peer):
            task = partial(self.queue, peer, reply)
            self._running[peer, number] = self._env.spawn(task(), f"reply {number} to {peer.short}")

    def _settle(self, peer: NodeId, number: int, error: str, body: bytes) -> None:
        asked = self._waiting.get(number)
        if asked is None or asked[0] != peer or asked[2].done():
            return  # too late, or not asked of this peer: nobody waits
        _, name, answer = asked
        if error:
            answer.set_exception(failure(peer, name, error, body))
            return
        try:
            answer.set_result(decode_value(body))
        except ValueRefused as wrong:
            answer.set_exception(HandlerFailed(peer, name, f"its answer is no value: {wrong}"))
