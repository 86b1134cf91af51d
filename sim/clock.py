"""What a machine's wall clock shows: right, set wrong, drifting, or jumping; the monotonic clock never lies."""

from __future__ import annotations

EPOCH = 1_767_225_600 * 1_000_000_000  # the world begins on 2026-01-01, UTC


class WallClock:
    """``EPOCH`` plus the world's time, plus an offset, plus a drift in parts per million since it was set."""

    __slots__ = ("_drift_from", "drift_ppm", "offset", "reads_wrong")

    def __init__(self) -> None:
        self.offset = 0  # ns
        self.drift_ppm = 0
        self._drift_from = 0
        self.reads_wrong = 0  # how often somebody was told a wrong time

    def read(self, mono: int) -> int:
        """Wall time in ns since 1970, at the world's time ``mono``. Never negative."""
        if not self.offset and not self.drift_ppm:
            return EPOCH + mono
        self.reads_wrong += 1
        return max(0, EPOCH + mono + self.offset + (mono - self._drift_from) * self.drift_ppm // 1_000_000)

    def error(self, mono: int) -> int:
        """By how many ns it is wrong at the world's time ``mono``; asking so counts as nobody's reading."""
        return self.offset + (mono - self._drift_from) * self.drift_ppm // 1_000_000

    def drift(self, ppm: int, mono: int) -> None:
        """From ``mono`` on run fast (or slow) by ``ppm``; what drifted so far stays as an offset."""
        self.offset += (mono - self._drift_from) * self.drift_ppm // 1_000_000
        self.drift_ppm, self._drift_from = ppm, mono
