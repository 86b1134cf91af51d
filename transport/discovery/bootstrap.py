"""Addresses somebody gave us, and peers we knew last time: hints at once, and again on every ``rescan``.

They do not retry by themselves: a hint enters the candidate table, and the dialer never gives up on what is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from transport.address import split_address
from transport.base import Announcement, Hint
from transport.identity import NodeId

KNOWN_MAX = 256  # guess: more than any mesh one rejoins by hand; the first ones given count


class _Listed:
    """Says the same hints each time it is asked."""

    name = "listed"

    def __init__(self, hints: Sequence[Hint]) -> None:
        self._hints = hints
        self._on_hint: Callable[[Hint], None] | None = None
        self._told = 0

    async def start(self, announcement: Announcement, on_hint: Callable[[Hint], None]) -> None:
        """Tell every hint, soon. One that names the node itself is left out."""
        self._hints = [hint for hint in self._hints if hint.node != announcement.node]
        self._on_hint = on_hint
        self.rescan()

    def rescan(self) -> None:
        """Tell them all again, after this call."""
        if self._on_hint is not None:
            asyncio.get_running_loop().call_soon(self._tell)

    def explain(self) -> Mapping[str, Any]:
        """What it offers and how often it did."""
        return {"addresses": [address for hint in self._hints for address in hint.addresses], "told": self._told}

    async def stop(self) -> None:
        """No hint comes after this."""
        self._on_hint = None

    def _tell(self) -> None:
        for hint in self._hints:
            if self._on_hint is not None:
                self._told += 1
                self._on_hint(hint)


class Bootstrap(_Listed):
    """The addresses of ``bootstrap=`` and ``--join``: one hint each, so that a wrong one holds up none.

    Raises ``ValueError`` for what is no ``HOST:PORT``: a typing error is told at once, not retried for ever.
    """

    name = "bootstrap"

    def __init__(self, addresses: Iterable[str]) -> None:
        unique = list(dict.fromkeys(addresses))
        for address in unique:
            split_address(address)
        super().__init__([Hint(self.name, (address,)) for address in unique])


class KnownPeers(_Listed):
    """Peers of last time, as (node, addresses where it was reached). At most ``KNOWN_MAX``."""

    name = "known"

    def __init__(self, peers: Iterable[tuple[NodeId, Sequence[str]]]) -> None:
        hints = [Hint(self.name, tuple(addresses), node) for node, addresses in peers if addresses]
        super().__init__(hints[:KNOWN_MAX])
