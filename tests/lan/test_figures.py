"""What the benches say of themselves, where no machine is an excuse: memory under a flood, nothing missing, few copies.

Rates and latencies depend on who else is on the machine; ``python -m bench`` prints those beside their targets.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]
FIRM = ("memory", "missing", "copies")


@pytest.mark.parametrize("bench", ["letters", "relay"])
def test_a_bench_meets_what_does_not_depend_on_the_machine(bench: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "bench", bench, "--json"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    held = {line["what"]: line["verdict"] for line in lines if any(word in line["what"] for word in FIRM)}
    assert held, "the bench no longer says it"
    assert "missed" not in held.values(), held
