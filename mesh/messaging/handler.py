"""What a program registers to be called: what it gets, and what its annotation says of the body."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, get_args, get_origin

import msgspec

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


@dataclass(frozen=True, slots=True)
class Request(Generic[T]):
    """What arrived by ``node.request`` or ``node.stream``. ``deadline`` is event loop time in seconds, infinite for a
    stream: ``asyncio.timeout_at`` takes it."""

    body: T
    sender: NodeId
    deadline: float


MessageHandler = Callable[[Any], Awaitable[object]]
RequestHandler = Callable[[Any], "Awaitable[Any] | AsyncIterator[Any]"]


class BodyRefused(Exception):
    """A body is not what the handler's annotation says; the text names the field."""


class Handler:
    """A handler and its body's type. ``is_stream``: it is an async generator, and answers ``node.stream``.

    Raises ``TypeError`` for an annotation that cannot be understood, when it is registered, not when it is called.
    """

    __slots__ = ("_type", "call", "is_stream")

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.call = function
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
            return None if wanted is Any or isinstance(wanted, TypeVar) else wanted
    return None
