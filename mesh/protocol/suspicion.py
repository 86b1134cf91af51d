"""Doubts with a deadline: how long a suspected member may still refute (Lifeguard's LHA-Suspicion).

Source: Dadgar, Phillips, Currey 2017, arXiv:1707.00788. Beyond the paper: time in which this node itself did not run
does not count, since a refutation may have been waiting in its own queue meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from mesh.protocol.effects import CancelTimer, SetTimer
from transport.base import MILLISECOND
from transport.identity import NodeId


@dataclass(frozen=True, slots=True, kw_only=True)
class SuspicionConfig:
    min_ms: int = 1400  # confirmed, or nobody could: a process starved at four times the CPU answers within 1 s
    max_ms: int = 2000  # nobody confirmed: from silence to down in 2.7 s, under the promised 3 s
    confirmations: int = 3  # memberlist's setting; at most the members that could confirm
    hearsay_factor: int = 2  # who has no evidence of its own waits longer: the accuser decides, unless it is lost too
    grace_ms: int = 400  # after we slept: at least this for what waits in our own queue

    def __post_init__(self) -> None:
        if not 0 < self.min_ms <= self.max_ms or self.confirmations < 0 or self.hearsay_factor < 1:
            raise ValueError(f"need 0 < min_ms <= max_ms, confirmations >= 0, hearsay_factor >= 1, got {self}")


class _Doubt:
    __slots__ = ("deadline", "since", "timeout")

    def __init__(self, since: int) -> None:
        self.since, self.timeout, self.deadline = since, 0, 0


class Suspicions:
    """Members under suspicion, each with one timer. Bounded by the member table, whose entries they follow."""

    __slots__ = ("_config", "_doubts")

    def __init__(self, config: SuspicionConfig) -> None:
        self._config = config
        self._doubts: dict[NodeId, _Doubt] = {}

    def __contains__(self, member: NodeId) -> bool:
        return member in self._doubts

    def __iter__(self) -> Iterator[NodeId]:
        return iter(self._doubts)

    def doubt(
        self, member: NodeId, now: int, *, accusers: int, others: int, is_own: bool, health: int
    ) -> SetTimer:  # fmt: skip
        """Begin, or set anew after one more of ``accusers`` came in. ``others`` could accuse beside us; ``is_own``:
        this node is among the accusers; ``health``: its distrust of itself, which stretches everything."""
        config = self._config
        doubt = self._doubts.setdefault(member, _Doubt(now))
        doubt.timeout = (1 + health) * suspicion_timeout_ns(
            accusers - 1,
            wanted=min(config.confirmations, others),
            min_ns=config.min_ms * MILLISECOND,
            max_ns=config.max_ms * MILLISECOND,
        )
        if not is_own:
            doubt.timeout *= config.hearsay_factor
        return self._set(member, doubt, doubt.since + doubt.timeout, now)

    def _set(self, member: NodeId, doubt: _Doubt, deadline: int, now: int) -> SetTimer:
        doubt.deadline = max(deadline, now)
        return SetTimer(("swim", "suspect", member), doubt.deadline - now)

    def slept(self, by_ns: int, now: int) -> list[SetTimer]:
        """This node did not run for ``by_ns``: that time is given back to every suspect."""
        return [self._give_back(member, doubt, by_ns, now) for member, doubt in self._doubts.items()]

    def _give_back(self, member: NodeId, doubt: _Doubt, by_ns: int, now: int) -> SetTimer:
        doubt.since = min(now, doubt.since + by_ns)
        grace = now + self._config.grace_ms * MILLISECOND
        return self._set(member, doubt, max(doubt.since + doubt.timeout, grace), now)

    def due(self, member: NodeId, now: int, late_ns: int) -> int | SetTimer | None:
        """The timer rang. Since when ``member`` was doubted, and no longer is; or, rung ``late_ns`` late or more, the
        timer to wait for instead; or ``None``, if it is stale."""
        doubt = self._doubts.get(member)
        if doubt is None or now < doubt.deadline:
            return None
        if now - doubt.deadline > late_ns:
            return self._give_back(member, doubt, now - doubt.deadline, now)
        del self._doubts[member]
        return doubt.since

    def end(self, member: NodeId) -> list[CancelTimer]:
        """It lives, or is known to be gone."""
        return [CancelTimer(("swim", "suspect", member))] if self._doubts.pop(member, None) else []


def suspicion_timeout_ns(confirmations: int, *, wanted: int, min_ns: int, max_ns: int) -> int:
    """How long a suspect may still refute, given how many peers confirmed the suspicion.

    Falls from ``max_ns`` (none) to ``min_ns`` (``wanted`` or more) along a log curve, so the first confirmations
    weigh most. ``wanted`` < 1: nobody could confirm, ``min_ns``. Raises ``ValueError`` unless
    ``0 < min_ns <= max_ns``.
    """
    if not 0 < min_ns <= max_ns:
        raise ValueError(f"need 0 < min_ns <= max_ns, got {min_ns}, {max_ns}")
    if wanted < 1 or confirmations >= wanted:
        return min_ns
    share = math.log(1 + max(0, confirmations)) / math.log(1 + wanted)
    return max_ns - int((max_ns - min_ns) * share)
