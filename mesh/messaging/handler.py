"""What a program registers to be called: what it gets, and what its annotation says of the body."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, is_dataclass
from math import inf
from typing import Any, Generic, TypeVar, get_args, get_origin

import msgspec

from mesh.messaging.context import NOTHING, Context, Trace
from transport.identity import NodeId

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Message(Generic[T]):
    """What arrived by ``node.send`` or ``node.broadcast``. Annotated ``Message[Order]``, its body is an ``Order``.

    ``id`` is empty but for durable messages: there it is the same whenever the message comes again, which it does when
    this node fell between the handler's end and the record of it, and until a handler succeeded.
    """

    body: T
    sender: NodeId
    id: str = ""
    context: Context = NOTHING  # what travelled beside the body, whole

    @property
    def trace(self) -> Trace | None:
        """The trace it belongs to; what the handler sends belongs to it too. ``str`` of it is W3C's traceparent."""
        return self.context.trace

    @property
    def on_behalf_of(self) -> tuple[NodeId, ...]:
        """For whom ``sender`` acts, the first one first: empty for itself. As the nodes say, not proven."""
        return self.context.on_behalf_of

    @property
    def key(self) -> str:
        """The idempotency key it was sent under, or ""."""
        return self.context.key


@dataclass(frozen=True, slots=True)
class Request(Generic[T]):
    """What arrived by ``node.request`` or ``node.stream``. ``deadline`` is event loop time in seconds, infinite for a
    stream: ``asyncio.timeout_at`` takes it. ``trace``, ``on_behalf_of`` and ``key`` are those of ``Message``."""

    body: T
    sender: NodeId
    deadline: float
    context: Context = NOTHING

    @property
    def trace(self) -> Trace | None:
        return self.context.trace

    @property
    def on_behalf_of(self) -> tuple[NodeId, ...]:
        return self.context.on_behalf_of

    @property
    def key(self) -> str:
        return self.context.key


handling: ContextVar[Message[Any] | Request[Any] | None] = ContextVar("gossamer.handling", default=None)
"""What the running handler was called for; what it sends follows from that."""

MessageHandler = Callable[[Any], Awaitable[object]]
RequestHandler = Callable[[Any], "Awaitable[Any] | AsyncIterator[Any]"]


class BodyRefused(Exception):
    """A body is not what the handler's annotation says; the text names the field."""


class OutOfTime(Exception):
    """A handler did not end within its time, and was cancelled."""

    def __init__(self, limit_s: float) -> None:
        super().__init__(f"its handler did not end within {limit_s:g} s, and was cancelled")
        self.limit_s = limit_s


class CancelledInside(Exception):
    """A handler ended because something it awaited was cancelled, not because anybody called it off."""


class Handler:
    """A handler, its body's type, and how long it may take (None: as long as is usual for what it handles).
    ``is_stream``: it is an async generator, and answers ``node.stream``.

    Raises ``TypeError`` for an annotation that cannot be understood or checked, and ``ValueError`` for a time that is
    none: when it is registered, not when it is called.
    """

    __slots__ = ("_type", "call", "is_stream", "timeout")

    def __init__(self, function: Callable[[Any], Any], timeout: float | None = None) -> None:
        if timeout is not None and not timeout > 0:
            raise ValueError(f"a handler's timeout is a number of seconds above 0, got {timeout!r}")
        self.call, self.timeout = function, timeout
        if inspect.isgeneratorfunction(function):
            raise TypeError(f"{function!r} is a generator; one that answers a stream is async: write `async def`")
        self.is_stream = inspect.isasyncgenfunction(function)
        self._type = _body_type(function)

    def check(self, body: Any) -> Any:
        """``body`` as the annotation has it. Raises ``BodyRefused``."""
        if self._type is None:
            return body
        try:
            return msgspec.convert(body, self._type)
        except msgspec.ValidationError as wrong:
            raise BodyRefused(str(wrong)) from None

    async def run(self, what: Message[Any] | Request[Any], limit_s: float) -> Any:
        """What it returns for ``what``. Raises what it raises, ``OutOfTime`` and ``CancelledInside``."""
        before = handling.get()
        handling.set(what)
        try:
            async with asyncio.timeout(None if limit_s == inf else limit_s) as scope:
                result = self.call(what)
                return await result if inspect.isawaitable(result) else result
        except TimeoutError:
            if scope.expired():
                raise OutOfTime(limit_s) from None
            raise  # its own
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise CancelledInside("what it awaited was cancelled") from None
        finally:
            handling.set(before)


def _body_type(function: Callable[[Any], Any]) -> Any:
    try:
        signature = inspect.signature(function, eval_str=True)
    except NameError as wrong:
        plain = list(inspect.signature(function).parameters.values())[:1]
        if plain and "[" in str(plain[0].annotation):
            raise TypeError(f"the annotation {plain[0].annotation!r} of {function!r} is not known: {wrong}") from None
        return None  # Request or Message under another name, known to type checkers only: nothing to check
    for parameter in list(signature.parameters.values())[:1]:
        if get_origin(parameter.annotation) in (Message, Request):
            wanted = get_args(parameter.annotation)[0]
            return None if wanted is Any or isinstance(wanted, TypeVar) else _checked(wanted, function)
        if _is_body(parameter.annotation):
            name = getattr(parameter.annotation, "__name__", parameter.annotation)
            raise TypeError(f"{function!r} gets a message or a request, not its body: annotate it Request[{name}]")
    return None


def _is_body(annotation: Any) -> bool:
    """Whether it can only be meant for a body."""
    if annotation in (Message, Request):
        return False
    return annotation in (int, str, float, bytes, bool, list, dict) or is_dataclass(annotation)


def _checked(wanted: Any, function: Callable[[Any], Any]) -> Any:
    """``wanted``, if bodies can be checked against it."""
    try:
        msgspec.json.schema(wanted)
    except TypeError as wrong:
        text = str(wrong).split("\n")[0]
        raise TypeError(f"no body can be checked against the annotation of {function!r}: {text}") from None
    return wanted
