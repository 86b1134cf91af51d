"""Counters by the interval method: every acknowledged addition counts once, an indefinite one once or not at all.

Source  Maelstrom's pn-counter checker (Kingsbury).
"""

from __future__ import annotations

from collections.abc import Iterable

from sim.checkers.verdict import Violated

SUMS_MAX = 4096  # distinct sums told apart; past it only the least and the greatest count


class Tally:
    """Which values a counter may show in the end."""

    def __init__(self) -> None:
        self._sums: set[int] | range = {0}

    def add(self, delta: int) -> None:
        """An addition that was acknowledged."""
        sums = self._sums
        self._sums = (
            range(sums.start + delta, sums.stop + delta) if isinstance(sums, range) else {each + delta for each in sums}
        )

    def maybe(self, delta: int) -> None:
        """An addition of which nobody knows whether it happened."""
        sums = self._sums
        if not isinstance(sums, range):
            sums = sums | {each + delta for each in sums}
            self._sums = sums if len(sums) <= SUMS_MAX else range(min(sums), max(sums) + 1)
        elif delta < 0:
            self._sums = range(sums.start + delta, sums.stop)
        else:
            self._sums = range(sums.start, sums.stop + delta)

    def __contains__(self, value: int) -> bool:
        return value in self._sums

    def demand(self, values: Iterable[int]) -> None:
        """Raise ``Violated`` unless each of ``values`` is possible."""
        for value in values:
            if value not in self._sums:
                raise Violated(f"a counter shows {value}; possible are {min(self._sums)} to {max(self._sums)}"
                               + ("" if isinstance(self._sums, range) else f" ({len(self._sums)} sums)"))  # fmt: skip
