"""``python -m tests.lan.user DATA``: use the node at DATA until standard input ends, then tell how it was, as JSON:
rounds of a put and a get, the slowest of them in seconds, and what failed ("" if nothing)."""

from __future__ import annotations

import itertools
import json
import select
import sys
import time
from pathlib import Path

from mesh.cli.control import Client, ControlError

EVERY_S = 0.02


def main(data: str) -> None:
    worst, rounds, failed = 0.0, 0, ""
    with Client(Path(data), timeout=20) as client:
        client.ask("put", key="mine", value=-1, space="user")
        print("at work", flush=True)
        for number in itertools.count():
            began = time.monotonic()
            try:
                client.ask("put", key="mine", value=number, space="user", wait=20)
                read = client.ask("get", key="mine", space="user", wait=20)
            except ControlError as wrong:
                failed = repr(wrong)
                break
            if read != number:
                failed = f"read {read} after {number} was written"
                break
            worst, rounds = max(worst, time.monotonic() - began), rounds + 1
            if select.select([sys.stdin], [], [], EVERY_S)[0] and rounds > 5:
                break
    print(json.dumps([rounds, worst, failed]))


if __name__ == "__main__":
    main(sys.argv[1])
