"""Refusals, each told once: an outsider that keeps trying is one line, and a liar with many names is a few."""

from __future__ import annotations

from transport.identity import NodeId
from transport.link import Refusal
from transport.porch import host_of

SILENT = ("declined", "closed")  # nobody's fault: counted, never told
LINES_PER_HOST_MAX = 16  # keys are only claimed before the proof, so a stranger has as many as it likes


class Audit:
    """Remembers what was told, for ``again_ns`` and at most ``size_max`` lines, the oldest forgotten first."""

    def __init__(self, size_max: int, again_ns: int) -> None:
        self._size_max, self._again_ns = size_max, again_ns
        self._told: dict[tuple[str, str, NodeId | None], int] = {}
        self.counts: dict[str, int] = {}  # reason -> how many, those not told included

    def is_news(self, refusal: Refusal, now_ns: int) -> bool:
        """Whether to tell of it: not if the same host was refused for the same reason under the same key lately, nor
        without a key if it was under any."""
        self.counts[refusal.reason] = self.counts.get(refusal.reason, 0) + 1
        if refusal.reason in SILENT:
            return False
        self._forget(now_ns)
        host = host_of(refusal.address)
        of_host = [(reason, peer) for at, reason, peer in self._told if at == host]
        same = [peer for reason, peer in of_host if reason == refusal.reason]
        if len(of_host) >= LINES_PER_HOST_MAX or None in same or refusal.peer in same or (same and not refusal.peer):
            return False
        if len(self._told) >= self._size_max:
            del self._told[next(iter(self._told))]
        self._told[host, refusal.reason, refusal.peer] = now_ns
        return True

    def _forget(self, now_ns: int) -> None:
        """Lines are in order of time, so the old ones are in front."""
        while self._told:
            first = next(iter(self._told))
            if now_ns - self._told[first] < self._again_ns:
                return
            del self._told[first]
