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


class Bootstrap:
    """``transport.base.Discovery`` of what was told: the addresses of ``bootstrap=`` and ``--join``, and ``known``,
    last time's peers with the addresses where they were reached.

    Each bootstrap address is a hint of its own (source "bootstrap"), so that a wrong one holds up none; a known peer is
    one hint (source "known"). Raises ``ValueError`` for a bootstrap address that is none: a typing error is told at
    once, not retried for ever.
    """

    name = "bootstrap"

    def __init__(self, addresses: Iterable[str], known: Iterable[tuple[NodeId, Sequence[str]]] = ()) -> None:
        unique = list(dict.fromkeys(addresses))
        for address in unique:
            split_address(address)
        peers = [Hint("known", tuple(each), node) for node, each in known if each]
        self._hints = [*(Hint("bootstrap", (address,)) for address in unique), *peers[:KNOWN_MAX]]
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
        offered = {
            source: [address for hint in self._hints if hint.source == source for address in hint.addresses]
            for source in ("bootstrap", "known")
        }
        return {**offered, "told": self._told}

    async def stop(self) -> None:
        """No hint comes after this."""
        self._on_hint = None

    def _tell(self) -> None:
        for hint in self._hints:
            if self._on_hint is not None:
                self._told += 1
                self._on_hint(hint)
