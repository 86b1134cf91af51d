"""What happens in a world, and to whom."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import Any, Protocol


class Owner(Protocol):
    """Whose code it is that something happens to: dead ones are never stepped again, paused ones are kept for later."""

    alive: bool
    running: bool  # alive and not paused
    held: list[Any] | None  # a list while paused


OWNER: contextvars.ContextVar[Owner | None] = contextvars.ContextVar("gossamer_sim_owner", default=None)


class Occurrence:
    """One thing that will happen, unless cancelled. It runs in ``context`` when it has one."""

    __slots__ = ("callback", "context", "owner")

    def __init__(
        self, callback: Callable[[], object] | None, owner: Owner | None, context: contextvars.Context | None
    ) -> None:
        self.callback = callback
        self.owner = owner
        self.context = context

    def cancel(self) -> None:
        self.callback = None
