"""What the simulator itself raises."""

from __future__ import annotations


class SimError(Exception):
    """Root of what the simulator itself raises."""


class NotSimulated(SimError):
    """The program tried to leave the world: nothing was done. Use what ``Env`` offers, or keep it out of the run."""


class Deadlock(SimError):
    """Nothing is left that could ever happen, and what was waited for has not."""


class Livelock(SimError):
    """Time stands still while handles keep making each other ready."""
