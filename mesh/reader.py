"""One reader of ``node.events()``."""

from __future__ import annotations

import asyncio
from collections import deque

from mesh.protocol.facts import Dropped, Fact


class FactReader:
    """An async iterator over facts: at most ``limit`` wait, the oldest go first, and a ``Dropped`` fact counts them."""

    __slots__ = ("__weakref__", "_ended", "_facts", "_filled", "_limit", "_lost")

    def __init__(self, limit: int) -> None:
        self._facts: deque[Fact] = deque()
        self._limit, self._lost, self._ended = limit, 0, False
        self._filled = asyncio.Event()

    def put(self, fact: Fact) -> None:
        if len(self._facts) >= self._limit:
            self._facts.popleft()
            self._lost += 1
        self._facts.append(fact)
        self._filled.set()

    def end(self) -> None:
        self._ended = True
        self._filled.set()

    def __aiter__(self) -> FactReader:
        return self

    async def __anext__(self) -> Fact:
        while True:
            if self._lost:
                lost, self._lost = self._lost, 0
                return Dropped("events read too slowly", lost)
            if self._facts:
                return self._facts.popleft()
            if self._ended:
                raise StopAsyncIteration
            self._filled.clear()
            await self._filled.wait()
