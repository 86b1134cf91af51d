"""The same seed in two processes that differ in all that must not matter: hash seed, allocator, environment."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from sim.loop import SimError
from sim.scenario import find

SURROUNDINGS: tuple[dict[str, str], ...] = (
    {"PYTHONHASHSEED": "1", "PYTHONMALLOC": "pymalloc"},
    {"PYTHONHASHSEED": "4242", "PYTHONMALLOC": "malloc", "GOSSAMER_PADDING": "x" * 3001},
)
TIMEOUT_S = 600.0
AROUND = 3  # lines shown before the first difference


@dataclass(frozen=True, slots=True)
class Comparison:
    """``difference`` is empty when both traces are equal; else the lines around the first one that is not."""

    seed: int
    trace_hash: str
    events: int
    difference: str

    @property
    def equal(self) -> bool:
        return not self.difference


def write_trace(name: str, seed: int, file: Path) -> None:
    """Run one seed and write its trace: what each of the two processes does."""
    outcome = find(name).tell(seed, keep_trace=True)
    ending = "" if outcome.error is None else f"{type(outcome.error).__name__}: {outcome.error}"
    file.write_text("\n".join([*outcome.lines, f"end {outcome.trace_hash} {ending}"]))


def check(name: str, seed: int) -> Comparison:
    """Run ``seed`` of scenario ``name`` in two unlike processes and compare the traces, event by event."""
    find(name)
    traces = []
    with tempfile.TemporaryDirectory() as folder:
        for number, surroundings in enumerate(SURROUNDINGS):
            file = Path(folder) / f"trace{number}"
            program = "import sys; from pathlib import Path; from sim.determinism import write_trace as w; "
            program += "w(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))"
            done = subprocess.run(
                [sys.executable, "-c", program, name, str(seed), str(file)],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(each or "." for each in sys.path), **surroundings},
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
            if done.returncode != 0:
                raise SimError(f"a process for seed {seed} failed: {done.stderr.strip()[-500:]}")
            traces.append(file.read_text().split("\n"))
    one, other = traces
    return Comparison(seed, one[-1].split(" ")[1], len(one) - 1, _difference(one, other))


def _difference(one: list[str], other: list[str]) -> str:
    if one == other:
        return ""
    longest = max(len(one), len(other))
    at = next(n for n in range(longest) if one[n : n + 1] != other[n : n + 1])
    before = [f"        {line}" for line in one[max(0, at - AROUND) : at]]
    sides = [
        f"{side} {lines[at] if at < len(lines) else '(nothing more)'}"
        for side, lines in (("one:   ", one), ("other: ", other))
    ]
    return "\n".join([f"first difference at event {at}", *before, *sides])
