"""``python -m bench``: every figure, one bench after the other, each in a process of its own.

``python -m bench NAME…`` runs some of them; with ``--json`` those that hold themselves to targets print a JSON object a
line.
"""

from __future__ import annotations

import subprocess
import sys

BENCHES = ("discovery", "broadcast", "replication", "join", "messages", "letters", "relay", "values", "crdt", "sim")


def main() -> int:
    """0 when all of them ran."""
    options = [each for each in sys.argv[1:] if each.startswith("-")]
    names = [each for each in sys.argv[1:] if not each.startswith("-")]
    if unknown := [each for each in names if each not in BENCHES]:
        print(f"no bench {', '.join(unknown)}; there are {', '.join(BENCHES)}", file=sys.stderr)
        return 2
    worst = 0
    for name in names or BENCHES:
        print(f"\n== bench.{name}", file=sys.stderr if options else sys.stdout, flush=True)
        worst = max(worst, subprocess.run([sys.executable, "-m", f"bench.{name}", *options], check=False).returncode)
    return worst


if __name__ == "__main__":
    sys.exit(main())
