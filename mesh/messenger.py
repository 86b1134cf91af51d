"""What a node says to others, and what it does with what they say."""

from __future__ import annotations

import builtins
import contextlib
from abc import abstractmethod
from collections import Counter as Tally
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from typing import Any, TypeVar, overload

from mesh.errors import AmbiguousName, Closed, UnknownMember
from mesh.messaging.cause import Cause
from mesh.messaging.direct import PRIORITIES, Priority
from mesh.messaging.group import SPACE as GROUPS
from mesh.messaging.group import Group, topic_of
from mesh.messaging.handler import Handler, MessageHandler, RequestHandler
from mesh.messaging.letter import DeadLetter
from mesh.messaging.publisher import ON_FULL, OnFull
from mesh.messaging.subscription import Subscription
from mesh.runtime import Runtime
from mesh.state.space import Space
from transport.codec import encode_value
from transport.identity import NodeId

MessageHandlerT = TypeVar("MessageHandlerT", bound=MessageHandler)
RequestHandlerT = TypeVar("RequestHandlerT", bound=RequestHandler)


class Messenger:
    """The messages of a node: what it is told to send, and the handlers it was given. ``docs/messages.md`` is the
    contract of each call."""

    _runtime: Runtime | None

    def __init__(self) -> None:
        self._message_handler: Handler | None = None
        self._handlers: dict[str, Handler] = {}
        self._dropped: Tally[str] = Tally()

    @property
    @abstractmethod
    def id(self) -> NodeId:
        """This node's public key."""

    @abstractmethod
    def space(self, name: str = "main") -> Space:
        """The space of that name."""

    @abstractmethod
    def _running(self, what: str) -> Runtime:
        """What runs behind the node. Raises ``Closed``."""

    @overload
    def on_message(self, handler: MessageHandlerT) -> MessageHandlerT: ...

    @overload
    def on_message(self, *, timeout: float | None = None) -> Callable[[MessageHandlerT], MessageHandlerT]: ...

    def on_message(self, handler: Any = None, *, timeout: float | None = None) -> Any:
        """Decorator: ``handler(message)`` gets what others ``send`` to this node, or broadcast.

        ``message: Message[Order]`` has bodies checked against ``Order`` (a dataclass, a ``TypedDict``, ``int`` …). A
        handler that takes longer than ``timeout`` s (300) is cancelled: a durable message is then tried again.
        """

        def register(handler: MessageHandlerT) -> MessageHandlerT:
            self._message_handler = Handler(handler, timeout)
            if self._runtime is not None:
                self._runtime.handlers.on_send = self._message_handler
            return handler

        return register if handler is None else register(handler)

    def on(self, name: str, *, timeout: float | None = None) -> Callable[[RequestHandlerT], RequestHandlerT]:
        """Decorator: the handler answers requests called ``name`` with what it returns (a MessagePack value); an async
        generator answers ``stream`` with what it yields. ``request: Request[Order]`` has bodies checked. It is
        cancelled when its caller no longer waits, and after ``timeout`` s."""

        def register(handler: RequestHandlerT) -> RequestHandlerT:
            self._handlers[name] = Handler(handler, timeout)
            return handler

        return register

    async def send(
        self, to: NodeId | str, body: Any, *, durable: bool = False, ttl: float | None = None,
        priority: Priority = "normal", key: str = "", cause: Cause = None,
    ) -> str:  # fmt: skip
        """Queue ``body`` for one node; handled at most once. Waits only for a way and for room on it, for ``ttl`` s.
        "high" goes before what waits for that node, "low" behind everything else. Raises ``UnknownMember``,
        ``AmbiguousName``, ``NotReached``, ``Expired``, ``ChainTooLong`` and ``ValueRefused``; nothing was sent then.

        ``durable``: it is on this node's disk when this returns (its id), and is sent, in order and after restarts of
        either side too, until the handler there succeeded: at least once, and not again while the receiver remembers.
        After ``ttl`` s unsent, or when the handler failed five times, it is a dead letter. Raises ``UnknownMember``,
        ``AmbiguousName``, ``OutboxFull``, ``StorageFailed`` and ``ValueRefused``; it was not taken then.

        ``key``: messages of this node under one key run the handler once, while the receiver remembers (10 minutes).
        ``cause``: what this follows from, so that its trace goes on: a message or request at hand (inside a handler the
        handled one anyway), or a W3C ``traceparent``.
        """
        runtime = self._running("node.send()")
        if priority not in PRIORITIES:
            raise ValueError(f"priority is one of {PRIORITIES}, not {priority!r}")
        peer = self._resolve(runtime, to, may_be_unknown=durable)
        raw, about = encode_value(body), runtime.causes.about(cause, key)
        if durable:
            return await runtime.outbox.put(peer, raw, about, ttl)
        await runtime.direct.send(peer, raw, about, ttl, priority)
        return ""

    def dead_letters(self) -> builtins.list[DeadLetter]:
        """Durable messages of this node that were given up, the oldest first: id, to, body, reason, tries, made_ms."""
        return self._running("node.dead_letters()").outbox.dead_letters()

    async def redeliver(self, message_id: str) -> str:
        """Send a dead letter again as a new message; its new id. Raises ``NoSuchLetter`` and ``StorageFailed``."""
        return await self._running("node.redeliver()").outbox.redeliver(message_id)

    def stream(
        self, to: NodeId | str, name: str, body: Any = None, *, cause: Cause = None
    ) -> AsyncGenerator[Any, None]:  # fmt: skip
        """What the async generator ``name`` on one node yields, in order; it runs only as fast as this is read.

        Ending the iteration early closes the generator there. Raises what ``request`` raises, but no timeout.
        """
        runtime = self._running("node.stream()")
        peer = self._resolve(runtime, to)
        return runtime.streams.read(peer, name, encode_value(body), runtime.causes.about(cause))

    async def request(
        self,
        to: NodeId | str,
        name: str,
        body: Any = None,
        *,
        timeout: float = 10.0,
        key: str = "",
        cause: Cause = None,
    ) -> Any:
        """The answer of the handler ``name`` on one node. Raises what ``send`` raises, ``AnswerLost``,
        ``RequestTimeout``, ``NoHandler``, ``BodyInvalid``, ``HandlerFailed`` or ``Busy``; each says what became of
        the question.

        ``key``: repeated under the same key the question is answered as it was the first time, without another run;
        its handler then runs to its end though this call gave up. ``cause`` as in ``send``.
        """
        runtime = self._running("node.request()")
        peer = self._resolve(runtime, to)
        return await runtime.direct.request(peer, name, encode_value(body), runtime.causes.about(cause, key), timeout)

    def subscribe(self, pattern: str) -> Subscription:
        """``async with node.subscribe("orders.*.new") as messages:`` then ``async for message in messages``.

        ``*`` stands for one level, ``**`` for any number. What this node itself publishes is read too. A reader that
        lags by 8 MiB loses the oldest; ``messages.dropped`` counts that, and what was lost on the way here.
        """
        return self._running("node.subscribe()").topics.subscribe(pattern)

    def publish(
        self, topic: str, body: Any, *, on_full: OnFull = "wait", priority: Priority = "normal", cause: Cause = None
    ) -> Coroutine[Any, Any, None]:
        """``await`` it: queue ``body`` for whoever subscribed, on every member. Each gets it at most once, in order, or
        counts what it missed.

        Returns once queued. ``on_full`` says what to do when this node publishes faster than the network takes it:
        "wait", "error" (raises ``PublishFull``) or "drop_oldest" (counted in ``node.dropped``). "high" is not held
        back for company. ``cause`` as in ``send``; a message that follows from nothing carries no trace. Raises
        ``ValueError`` (topic) and ``ValueRefused`` (body); nothing was queued then.
        """
        if (on_full != "wait" or priority != "normal") and (on_full not in ON_FULL or priority not in PRIORITIES):
            raise ValueError(f"on_full is one of {ON_FULL}, priority one of {PRIORITIES}: {on_full!r}, {priority!r}")
        if self._runtime is None:
            raise Closed("node.publish()")
        about = self._runtime.causes.about_topic(cause)
        return self._runtime.topics.publish(topic, body, about, on_full, priority == "high")

    def group(self, name: str) -> Group:
        """``async with node.group("cooks") as group:`` belongs to it for the block, and reads what is said there.

        ``await group.send(body)``, ``group.members()``, ``group.join()``, ``group.leave()``. Raises ``ValueError``.
        """
        runtime = self._running("node.group()")
        return Group(
            name, me=self.id, space=self.space(GROUPS), messages=self.subscribe(topic_of(name)), publish=self.publish,
            is_present=runtime.stack.is_present,
        )  # fmt: skip

    async def broadcast(self, body: Any, *, cause: Cause = None) -> None:
        """Queue ``body`` for the ``on_message`` handler of every other member. Handled at most once; waits for room.
        ``cause`` as in ``publish``."""
        runtime = self._running("node.broadcast()")
        await runtime.topics.broadcast(body, runtime.causes.about_topic(cause))

    @property
    def dropped(self) -> dict[str, int]:
        """Everything that was not delivered and is known: reason -> count."""
        return dict(self._dropped)

    def _resolve(self, runtime: Runtime, to: NodeId | str, *, may_be_unknown: bool = False) -> NodeId:
        """The node that is meant. Raises ``AmbiguousName`` and ``UnknownMember``; a letter may wait for one that is not
        known yet, but not for a name."""
        peer = to if isinstance(to, NodeId) else self._named(runtime, to)
        if not may_be_unknown and not runtime.knows(peer):
            raise UnknownMember(str(peer))
        return peer

    def _named(self, runtime: Runtime, to: str) -> NodeId:
        found: Sequence[NodeId] = runtime.stack.resolve(to)
        if not found:
            with contextlib.suppress(ValueError):
                return NodeId.parse(to)
            raise UnknownMember(to)
        if len(found) > 1:
            raise AmbiguousName(to, found)
        return found[0]
