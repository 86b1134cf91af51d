"""What runs here for others: the handlers of one node, each in a task of its own, none for longer than it may.

A question's handler runs until it answered, its asker's deadline passed, or nobody waits for it any more; one that has
an idempotency key to its end (``once``). A message's handler has ``handler_s`` unless it was registered with another
time. What a handler raises ends that handler, and nothing else.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from math import inf

from mesh.errors import MeshError
from mesh.messages import Abandon, LinkMessage, Reply, Send
from mesh.messages import Request as RequestMessage
from mesh.messaging.context import NOTHING, Context, read_about
from mesh.messaging.faults import BUSY, DROPPED, FAILED, INVALID, NO_HANDLER, Fault, fault_of
from mesh.messaging.handler import Handler, Message, OutOfTime, Request
from mesh.messaging.once import Once, Slot
from transport.base import Env, Timer
from transport.codec import decode_value, encode_value
from transport.errors import ValueRefused
from transport.identity import NodeId

HANDLERS_MAX = 1024  # at once for all peers; the next question is answered "busy", the next message dropped
OF_ONE_PEER_MAX = 512  # so that one that asks without end leaves room for others
NONE = b"\xc0"  # None as MessagePack


class Handlers:
    """One node's handlers, and those at work. ``queue`` waits for room on the way to a peer and then sends."""

    def __init__(
        self, env: Env, by_name: dict[str, Handler], *, handler_s: float,
        queue: Callable[[NodeId, LinkMessage], Awaitable[None]], dropped: Counter[str],
    ) -> None:  # fmt: skip
        self._env, self._queue, self._dropped = env, queue, dropped
        self.by_name = by_name
        self.on_send: Handler | None = None
        self.handler_s = handler_s
        self.once = Once()
        self._running: dict[tuple[NodeId, int], Timer] = {}
        self._of_peer: Counter[NodeId] = Counter()
        self._keyed: dict[tuple[NodeId, int], Slot] = {}  # who waits for an answer under a key
        self._number = 0

    def on_message(self, peer: NodeId, message: Send | RequestMessage | Abandon) -> None:
        """Something for a handler here came from ``peer``."""
        match message:
            case Send(body, about):
                self.on_send_of(peer, body, about)
            case RequestMessage():
                self._on_request(peer, message)
            case Abandon(number):
                if slot := self._keyed.pop((peer, number), None):
                    self.once.leave(slot, (peer, number))
                else:
                    self._cancel((peer, number))

    def on_send_of(self, sender: NodeId, body: bytes, about: bytes = b"") -> None:
        """A message of ``sender`` that nobody waits for."""
        if self.on_send is None:
            self._dropped["no handler"] += 1
        elif self._is_full(sender):
            self._dropped["handlers busy"] += 1
        else:
            self._start(sender, None, partial(self._handle, sender, body, about))

    def _on_request(self, peer: NodeId, message: RequestMessage) -> None:
        number, handler = message.number, self.by_name.get(message.name)
        try:
            context = read_about(message.about)
        except ValueRefused as wrong:
            self._tell(peer, Reply(number, INVALID, encode_value(str(wrong))))
            return
        slot = (peer, message.name, context.key) if context.key else None
        if slot is not None and (known := self.once.answer(slot, self._env.mono())) is not None:
            self._tell(peer, Reply(number, known.error, known.body))
        elif slot is not None and self.once.join(slot, (peer, number)):
            self._keyed[peer, number] = slot
        elif handler is None or handler.is_stream:
            self._tell(peer, Reply(number, NO_HANDLER, NONE))
        elif self._is_full(peer):
            self._tell(peer, Reply(number, BUSY, NONE))
        elif slot is None:
            self._start(peer, number, partial(self._answer, peer, message, handler, context))
        else:
            self.once.begin(slot)
            self.once.join(slot, (peer, number))
            self._keyed[peer, number] = slot
            self._start(peer, None, partial(self._answer_once, peer, message, handler, context, slot))

    # -- at work -----------------------------------------------------------------------------------------------------

    def _is_full(self, peer: NodeId) -> bool:
        return len(self._running) >= HANDLERS_MAX or self._of_peer[peer] >= OF_ONE_PEER_MAX

    def _start(self, peer: NodeId, number: int | None, work: Callable[[], Awaitable[None]]) -> None:
        """Run ``work``; one that a peer may call off goes by its ``number``."""
        self._number += 1
        task = (peer, -self._number if number is None else number)
        self._of_peer[peer] += 1
        self._running[task] = self._env.spawn(self._until_done(task, work), f"handler {task[1]}")

    async def _until_done(self, task: tuple[NodeId, int], work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        finally:
            self._ended(task)

    def _ended(self, task: tuple[NodeId, int]) -> Timer | None:
        """It is no longer among those at work."""
        if (timer := self._running.pop(task, None)) is not None:
            self._of_peer[task[0]] -= 1
            if not self._of_peer[task[0]]:
                del self._of_peer[task[0]]
        return timer

    def _cancel(self, task: tuple[NodeId, int]) -> None:
        if (timer := self._ended(task)) is not None:  # one that never began would not end by itself
            timer.cancel()

    def _tell(self, peer: NodeId, reply: Reply) -> None:
        """Answer without a handler; where there is no room it waits for it, as one of those at work."""
        self._start(peer, None, partial(self._reply, peer, reply))

    async def _reply(self, peer: NodeId, reply: Reply) -> None:
        try:
            await self._queue(peer, reply)
        except MeshError:
            self._dropped["answer lost"] += 1  # whoever asked learns that by itself

    async def _handle(self, peer: NodeId, body: bytes, about: bytes) -> None:
        """A message that nobody waits for."""
        fault = await self.take(peer, body, about)
        if fault is not None and fault.error != BUSY:  # busy: it came before, and is being handled
            self._dropped[DROPPED[fault.error]] += 1

    async def take(self, peer: NodeId, body: bytes, about: bytes, letter: str = "") -> Fault | None:
        """Have the message handler take one message; return None when it did, or had under the same key. What went
        wrong otherwise: it is logged."""
        if (handler := self.on_send) is None:
            return Fault(NO_HANDLER, "")
        try:
            context = read_about(about)
        except ValueRefused as wrong:
            return fault_of(wrong, f"a message of {peer.short}", NOTHING)
        if not context.key:
            return await self._run(peer, handler, body, context, letter)
        slot: Slot = (peer, "", context.key)
        if self.once.answer(slot, self._env.mono()) is not None:
            return None
        if self.once.join(slot, (peer, 0)):
            return Fault(BUSY, "a message with the same key is being handled")
        self.once.begin(slot)
        answer: Reply | None = None
        try:
            if (fault := await self._run(peer, handler, body, context, letter)) is None:
                answer = Reply(0, "", NONE)
            return fault
        finally:
            self.once.end(slot, answer, self._env.mono())

    async def _run(self, peer: NodeId, handler: Handler, body: bytes, context: Context, letter: str) -> Fault | None:
        try:
            message = Message(handler.check(decode_value(body)), peer, letter, context)
            await handler.run(message, self.handler_s if handler.timeout is None else handler.timeout)
        except Exception as wrong:  # noqa: BLE001 - a user's handler may raise anything; it is logged, and told
            return fault_of(wrong, f"a message of {peer.short}", context)
        return None

    async def _answer(self, peer: NodeId, message: RequestMessage, handler: Handler, context: Context) -> None:
        """A question whose asker may call it off."""
        limit = min(message.budget_ms / 1000, inf if handler.timeout is None else handler.timeout)
        reply = await self._ask(peer, message, handler, context, limit)
        if reply is None:
            self._dropped["handler out of time"] += 1  # so is its asker, who no longer waits
        else:
            await self._reply(peer, reply)

    async def _answer_once(
        self, peer: NodeId, message: RequestMessage, handler: Handler, context: Context, slot: Slot
    ) -> None:
        """A question under a key: to its end, for whoever waits for it by then."""
        reply: Reply | None = None
        try:
            limit = self.handler_s if handler.timeout is None else handler.timeout
            reply = await self._ask(peer, message, handler, context, limit)
        finally:
            kept = reply if reply is not None and not reply.error else None
            waiting = self.once.end(slot, kept, self._env.mono())
        for asker, number in waiting:
            self._keyed.pop((asker, number), None)
            if reply is not None:
                await self._reply(asker, Reply(number, reply.error, reply.body))

    async def _ask(
        self, peer: NodeId, message: RequestMessage, handler: Handler, context: Context, limit: float
    ) -> Reply | None:
        """The handler's answer, or what went wrong. None: the asker's own time is up."""
        number, budget = message.number, message.budget_ms / 1000
        try:
            deadline = asyncio.get_running_loop().time() + budget
            request = Request(handler.check(decode_value(message.body)), peer, deadline, context)
            return Reply(number, "", encode_value(await handler.run(request, limit)))
        except OutOfTime as late:
            if limit >= budget and not context.key:
                return None
            return Reply(number, FAILED, encode_value(str(late)))
        except Exception as wrong:  # noqa: BLE001 - a user's handler may raise anything; it is logged, and told
            fault = fault_of(wrong, f"the question {message.name!r} of {peer.short}", context)
            return Reply(number, fault.error, encode_value(fault.words))

    # -- ends --------------------------------------------------------------------------------------------------------

    def lost(self, peer: NodeId) -> None:
        """There is no way to ``peer`` any more: handlers that work for its questions are cancelled."""
        for task in [each for each in self._running if each[0] == peer and each[1] >= 0]:
            self._cancel(task)
        for asker in [each for each in self._keyed if each[0] == peer]:
            self.once.leave(self._keyed.pop(asker), asker)

    def close(self) -> None:
        """End every handler; nothing is answered any more."""
        for task in list(self._running):
            self._cancel(task)
