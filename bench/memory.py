"""How much memory a process has had at most."""

from __future__ import annotations

from pathlib import Path


def peak_mb() -> float:
    """Of this process since its program was started (Linux; ``ru_maxrss`` would count who started it, too)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024
