"""``python -m bench``: every figure, one bench after the other, each in a process of its own.

``python -m bench NAME …`` runs some, as ``gossamer bench NAME …`` does; ``python -m bench.NAME`` takes arguments.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

HOME = Path(__file__).parent.parent

BENCHES = {
    "discovery": "how soon two nodes find each other on a LAN, beside Zenoh",
    "broadcast": "a write on one of five nodes until the last reads it, beside Zenoh",
    "replication": "50,000 operations to another node, signed, over TLS, with disks",
    "join": "a newcomer that has 20,000 operations to fetch",
    "messages": "a million messages on a topic, beside bare aiohttp",
    "letters": "latency, questions, durable messages, a flood to a slow reader",
    "values": "one operation, made and taken in from a frame, by type; no network",
    "crdt": "shared values without a network, beside Yjs (pycrdt) and Loro",
}

REFERENCES = {"uvloop": "uvloop", "zenoh": "eclipse-zenoh", "pycrdt": "pycrdt", "loro": "loro"}  # module: distribution


def run(names: Sequence[str]) -> int:
    """Run these; 0 when all of them did."""
    absent = [name for module, name in REFERENCES.items() if find_spec(module) is None]
    if absent:
        print(
            f"not installed, so not beside our figures: {', '.join(absent)}. All of them: pip install 'gossamer[bench]'"
        )
    worst = 0
    for name in names:
        print(f"\n== bench.{name}: {BENCHES[name]}", flush=True)
        worst = max(
            worst, abs(subprocess.run([sys.executable, "-m", f"bench.{name}"], cwd=HOME, check=False).returncode)
        )
    return min(worst, 1)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:] or tuple(BENCHES)))
