"""``python -m bench``: every figure, one bench after the other, each in a process of its own.

``python -m bench.NAME`` runs one of them.
"""

from __future__ import annotations

import subprocess
import sys

BENCHES = ("discovery", "broadcast", "replication", "join", "messages", "letters", "values", "crdt")


def main() -> int:
    """0 when all of them ran."""
    worst = 0
    for name in BENCHES:
        print(f"\n== bench.{name}", flush=True)
        worst = max(worst, subprocess.run([sys.executable, "-m", f"bench.{name}"], check=False).returncode)
    return worst


if __name__ == "__main__":
    sys.exit(main())
