"""``python -m bench``: every figure, one bench after the other, each in a process of its own.

``python -m bench NAME …`` runs some, as ``gossamer bench NAME …`` does; ``python -m bench.NAME`` takes arguments. With
``--json`` those that hold themselves to targets print a JSON object a line.
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
    "messages": "a million messages on a topic, questions and latency, beside aiohttp, Zenoh, ZeroMQ and NATS",
    "letters": "durable messages as fast as they are acknowledged, a flood to a slow reader",
    "relay": "what one hop more costs, and thirty nodes in one process",
    "values": "one operation, made and taken in from a frame, by type; no network",
    "crdt": "shared values without a network, beside Yjs (pycrdt) and Loro",
    "sim": "seeds and simulated seconds a CPU second, beside a bare heap and the stock loop",
}

REFERENCES = {  # module: distribution
    "uvloop": "uvloop", "zenoh": "eclipse-zenoh", "zmq": "pyzmq", "nats": "nats-py", "pycrdt": "pycrdt", "loro": "loro",
}  # fmt: skip


def run(names: Sequence[str], *, as_json: bool = False) -> int:
    """Run these; 0 when all of them did."""
    notes = sys.stderr if as_json else sys.stdout
    absent = [name for module, name in REFERENCES.items() if find_spec(module) is None]
    if absent:
        print(
            f"not installed, so not beside our figures: {', '.join(absent)}. "
            "All of them: pip install 'gossamer[bench]'",
            file=notes,
        )
    worst = 0
    for name in names:
        print(f"\n== bench.{name}: {BENCHES[name]}", file=notes, flush=True)
        command = [sys.executable, "-m", f"bench.{name}", *(["--json"] if as_json else [])]
        worst = max(worst, abs(subprocess.run(command, cwd=HOME, check=False).returncode))
    return min(worst, 1)


def main() -> int:
    """0 when all of them ran, 1 when one did not, 2 when there is no such bench."""
    options = [each for each in sys.argv[1:] if each.startswith("-")]
    names = [each for each in sys.argv[1:] if not each.startswith("-")]
    unknown = [each for each in names if each not in BENCHES] + [each for each in options if each != "--json"]
    if unknown:
        print(f"no bench {', '.join(unknown)}; there are {', '.join(BENCHES)}", file=sys.stderr)
        return 2
    return run(names or list(BENCHES), as_json=bool(options))


if __name__ == "__main__":
    sys.exit(main())
