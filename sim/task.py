"""Stock tasks and futures that hash by their number in a world, so that sets of them iterate alike in every process.

With the stock hash, one program gave 12 traces in 12 processes.
"""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

from sim.occurrence import Owner

T = TypeVar("T")


class SimTask(asyncio.Task[T]):
    """A stock task that hashes by its number in this world, and knows whose it is."""

    def __init__(self, coro: Any, *, number: int, owner: Owner | None, **options: Any) -> None:
        self.number = number
        self.owner = owner
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self.number


class SimFuture(asyncio.Future[T]):
    """A stock future that hashes by its number in this world."""

    def __init__(self, *, number: int, loop: asyncio.AbstractEventLoop) -> None:
        self.number = number
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self.number
