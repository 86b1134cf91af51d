"""Where strangers wait: inbound conduits whose handshake is not finished. Bounded, in all and by host.

A stranger over the bound is let in and the *oldest* of its host put out: an honest handshake takes milliseconds, so
it is those who dawdle that lose their place, and a flood of half-open connections cannot lock others out.
"""

from __future__ import annotations

from collections.abc import Callable

from transport.link import Opening


def host_of(remote: str) -> str:
    """The host part of ``HOST:PORT``."""
    return remote.rpartition(":")[0] or remote


class Porch:
    """At most ``size_max`` waiting, ``per_host_max`` of one host. Never refuses; ``evicted`` counts who was put out."""

    def __init__(self, size_max: int, per_host_max: int) -> None:
        self._size_max, self._per_host_max = size_max, per_host_max
        self._hosts: dict[str, dict[int, Opening]] = {}  # oldest first in each
        self._count = self._number = 0
        self.evicted = 0

    def __len__(self) -> int:
        return self._count

    def enter(self, remote: str, begin: Callable[[Callable[[], None]], Opening]) -> None:
        """Let one in. ``begin`` gets the callback for its end, whatever it is, and returns the opening."""
        host = host_of(remote)
        if len(self._hosts.get(host, ())) >= self._per_host_max:
            self._evict(host)
        elif self._count >= self._size_max:
            self._evict(max(self._hosts, key=lambda each: len(self._hosts[each])))
        self._number += 1
        number = self._number
        opening = begin(lambda: self._leave(host, number))
        self._hosts.setdefault(host, {})[number] = opening
        self._count += 1

    def clear(self) -> None:
        """Put everybody out."""
        while self._hosts:
            self._evict(next(iter(self._hosts)))

    def _evict(self, host: str) -> None:
        number, opening = next(iter(self._hosts[host].items()))
        self._leave(host, number)
        self.evicted += 1
        opening.abandon("busy")

    def _leave(self, host: str, number: int) -> None:
        waiting = self._hosts.get(host)
        if waiting is not None and waiting.pop(number, None) is not None:
            self._count -= 1
            if not waiting:
                del self._hosts[host]
