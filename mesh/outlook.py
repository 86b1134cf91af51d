"""What a node sees: who is here, what happens, and why somebody is not reached."""

from __future__ import annotations

import asyncio
import weakref
from abc import abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from mesh.protocol.facts import Fact
from mesh.reader import FactReader
from mesh.runtime import Runtime
from transport.base import Discovery
from transport.identity import NodeId


@dataclass(frozen=True, slots=True)
class Member:
    """A node believed to exist. ``rtt_ms`` is None for those without a link, and 0.0 for this node itself."""

    id: NodeId
    name: str
    state: str  # "alive", "suspect", "down" or "left"
    addresses: tuple[str, ...]
    incarnation: int
    rtt_ms: float | None


class Outlook:
    """Members, and the facts a node notices, for those who live on it. At most ``events_max`` wait for one reader."""

    _runtime: Runtime | None

    def __init__(self, events_max: int) -> None:
        self._events_max = events_max
        self._sources: list[Discovery] = []
        self._readers: list[weakref.ref[FactReader]] = []  # who stopped reading is forgotten
        self._observers: list[Callable[[Fact], None]] = []
        self._early: deque[Fact] = deque(maxlen=events_max)  # noticed before anybody could read
        self._changed: asyncio.Event = asyncio.Event()

    @abstractmethod
    def _running(self, what: str) -> Runtime:
        """What runs behind the node. Raises ``Closed``."""

    def members(self) -> list[Member]:
        """Everybody known, this node included; also those that are down or left."""
        return [
            Member(
                each.id,
                each.name,
                each.state,
                each.addresses,
                each.incarnation,
                each.rtt_ms,
            )
            for each in self._running("node.members()").stack.members()
        ]

    async def wait_for_members(self, count: int, timeout: float | None = None) -> list[Member]:
        """The members, once ``count`` of them are alive (this node counts). Raises ``TimeoutError``: who is here."""
        try:
            async with asyncio.timeout(timeout):
                while True:
                    self._changed.clear()
                    members = self.members()
                    if sum(each.state == "alive" for each in members) >= count:
                        return members
                    await self._changed.wait()
        except TimeoutError:
            here = ", ".join(each.name for each in self.members() if each.state == "alive")
            raise TimeoutError(
                f"waited {timeout} s for {count} members, alive are: {here}; node.explain() says why others are not"
            ) from None

    def events(self) -> AsyncIterator[Fact]:
        """What this node notices from now on: MemberUp, MemberDown, PartitionSuspected … Ends with the node. The first
        reader also gets what was noticed during the start: damaged records, a log that was renewed.

        A reader that lags by ``config.events_max`` facts loses the oldest, and a ``Dropped`` fact counts them.
        """
        self._running("node.events()")
        reader = FactReader(self._events_max)
        self._readers = [each for each in self._readers if each() is not None]
        self._readers.append(weakref.ref(reader))
        while self._early:
            reader.put(self._early.popleft())
        return reader

    def observe(self, look: Callable[[Fact], None]) -> None:
        """Call ``look`` with each fact at the moment it is told, from now on; for metrics and the simulator.

        It is called between two steps of the node: it must return at once, raise nothing, and write nothing.
        """
        self._observers.append(look)

    def explain(self) -> list[dict[str, Any]]:
        """Why peers are, or are not, reached: each source of discovery, each candidate with its last outcome."""
        runtime = self._running("node.explain()")
        sources = [{"kind": "source", "source": each.name, **each.explain()} for each in self._sources]
        candidates = [{"kind": "candidate", **each} for each in runtime.dialer.explain()]
        return sources + candidates

    def _tell(self, fact: Fact) -> None:
        self._changed.set()
        for look in self._observers:
            look(fact)
        if self._runtime is None:
            self._early.append(fact)
        for each in self._readers:
            if (reader := each()) is not None:
                reader.put(fact)

    def _end_readers(self) -> None:
        """Nothing more happens here: those who wait for it are told."""
        for each in self._readers:
            if (reader := each()) is not None:
                reader.end()
        self._changed.set()
