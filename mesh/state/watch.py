"""Watching a space: events in order, as fast as the watcher takes them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable

from crdt.events import Event

Place = tuple[str, tuple[object, ...], str]


class Watch(AsyncIterator[Event]):
    """An async iterator of what changes in a space, or under one key of it, from the moment it was made.

    Back-pressure: writers never wait for a watcher. Once ``events_max`` events wait for a slow one, only the latest of
    each place (key, path and type) is kept until it has caught up, so it misses intermediate values but never a last
    one, and what waits is bounded by the places there are. ``coalesced`` counts what was left out.
    """

    def __init__(self, key: str | None, events_max: int, on_close: Callable[[Watch], None]) -> None:
        self._key, self._events_max, self._on_close = key, events_max, on_close
        self._events: OrderedDict[int, Event] = OrderedDict()
        self._latest: dict[Place, int] = {}  # the number of the latest waiting event of each place
        self._number = 0
        self._waiter: asyncio.Future[None] | None = None
        self._is_behind = False
        self._is_closed = False
        self.coalesced = 0

    def feed(self, events: list[Event]) -> None:
        """What changed just now."""
        for event in events:
            if self._key is not None and event.key != self._key:
                continue
            self._number += 1
            place: Place = (event.key, tuple(event.path), event.type)
            if self._is_behind and (older := self._latest.get(place)) is not None:
                del self._events[older]
                self.coalesced += 1
            self._events[self._number] = event
            self._latest[place] = self._number
            if not self._is_behind and len(self._events) > self._events_max:
                self._is_behind = True
                self._coalesce()
        if self._events and self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _coalesce(self) -> None:
        """Keep only the latest event of every place."""
        latest = set(self._latest.values())
        for number in [number for number in self._events if number not in latest]:
            del self._events[number]
            self.coalesced += 1

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> Event:
        while not self._events:
            if self._is_closed:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        number, event = self._events.popitem(last=False)
        place: Place = (event.key, tuple(event.path), event.type)
        if self._latest.get(place) == number:
            del self._latest[place]
        if not self._events:
            self._is_behind = False
        return event

    async def aclose(self) -> None:
        """End it; a pending ``__anext__`` ends too, after what still waits."""
        self.end()
        self._on_close(self)

    def end(self) -> None:
        self._is_closed = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
