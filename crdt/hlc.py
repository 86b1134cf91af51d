"""Hybrid logical clock (Kulkarni et al. 2014): order among concurrent writes that follows wall time where it can."""

from __future__ import annotations

from collections.abc import Callable

LOGICAL_BITS = 16
HLC_MAX = (1 << 63) - 1
AHEAD_MS_MAX = 60_000  # guess: a minute covers any clock somebody still looks after


class Hlc:
    """One int, ``ms << 16 | logical``; strictly rises with every ``tick``, whatever the wall clock does.

    It decides nothing about acceptance: a stamp further ahead of the wall clock than ``ahead_ms_max`` is not followed,
    and the write that carries it counts all the same. ``clock_ms=None``: logical time only, every stamp is followed.
    """

    __slots__ = ("_clock_ms", "ahead_ms_max", "now")

    def __init__(self, clock_ms: Callable[[], int] | None = None, *, ahead_ms_max: int = AHEAD_MS_MAX) -> None:
        self._clock_ms = clock_ms
        self.ahead_ms_max = ahead_ms_max
        self.now = 0  # the latest stamp made or followed

    def tick(self) -> int:
        """A stamp above all made and followed so far."""
        stamp = self.now + 1
        if self._clock_ms is not None:
            wall = int(self._clock_ms()) << LOGICAL_BITS
            if wall > stamp:
                stamp = wall
        if stamp > HLC_MAX:
            raise OverflowError("the hybrid clock ran out of 63 bits")
        self.now = stamp
        return stamp

    def observe(self, stamp: int) -> int:
        """Follow another's ``stamp``. Returns by how many ms it is too far ahead to be followed, mostly 0."""
        if stamp <= self.now:
            return 0
        if self._clock_ms is not None:
            ahead = (stamp >> LOGICAL_BITS) - int(self._clock_ms())
            if ahead > self.ahead_ms_max:
                return ahead
        elif stamp > HLC_MAX >> 1:
            return (stamp - self.now) >> LOGICAL_BITS  # logical time only: half the range is left to run in
        self.now = stamp
        return 0
