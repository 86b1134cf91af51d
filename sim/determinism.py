"""The same seed in two processes that differ in all that must not matter: hash seed, allocator, environment, past.

The second process has told another seed before, so what a run leaves behind in the globals of a module shows too. The
first different event is named with the lines of the program that made it happen; the leak is there or just before.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sim.errors import NotSimulated, SimError
from sim.scenario import find

SURROUNDINGS: tuple[dict[str, str], ...] = (
    {"PYTHONHASHSEED": "1", "PYTHONMALLOC": "pymalloc"},
    {"PYTHONHASHSEED": "4242", "PYTHONMALLOC": "malloc", "GOSSAMER_PADDING": "x" * 3001},
)
TIMEOUT_S = 600.0
AROUND = 3  # lines shown before the first difference
PROGRAM = "import sys; from sim.determinism import main; main(*sys.argv[1:])"


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


def main(name: str, seed: str, file: str, earlier: str) -> None:
    """What each of the two processes does: run one seed (after ``earlier``, if any) and write its trace."""
    told = find(name)
    if earlier:
        told.tell(int(earlier))
    recorder = _Origins()
    outcome = told.tell(int(seed), keep_trace=True, recorder=recorder)
    ending = "" if outcome.error is None else f"{type(outcome.error).__name__}: {outcome.error}"
    left = outcome.broke.where if outcome.broke is not None and _leaves_the_world(outcome.error) else ""
    said = {"lines": outcome.lines, "origins": recorder.origins(), "hash": outcome.trace_hash, "end": ending}
    Path(file).write_text(json.dumps({**said, "left": left}))


class _Origins:
    """Has a world remember where its events came from."""

    def attach(self, world: Any) -> None:
        self._trace = world.trace
        self._trace.keep_lines(origins=True)

    def origins(self) -> list[str]:
        self._trace.end()
        return self._trace.origins or []


def _leaves_the_world(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, NotSimulated):
            return True
        error = error.__cause__ or error.__context__
    return False


def check(name: str, seed: int) -> Comparison:
    """Run ``seed`` of scenario ``name`` in two unlike processes and compare the traces, event by event."""
    find(name)
    with tempfile.TemporaryDirectory() as folder:
        one, other = (
            _told(name, seed, Path(folder) / f"trace{number}", surroundings, "" if number == 0 else str(seed ^ 1))
            for number, surroundings in enumerate(SURROUNDINGS)
        )
    return Comparison(seed, one["hash"], len(one["lines"]), _difference(one, other))


def _told(name: str, seed: int, file: Path, surroundings: dict[str, str], earlier: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, name, str(seed), str(file), earlier],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(each or "." for each in sys.path), **surroundings},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise SimError(f"a process for seed {seed} failed: {done.stderr.strip()[-500:]}")
    told: dict[str, Any] = json.loads(file.read_text())
    return told


def _difference(one: dict[str, Any], other: dict[str, Any]) -> str:
    if one["left"]:
        return f"it left the world, so no seed decides what follows: {one['end']} ({one['left']})"
    lines, others = one["lines"], other["lines"]
    if lines == others:
        if one["end"] == other["end"]:
            return ""
        return f"alike to the last event, and then they end differently\none:   {one['end']}\nother: {other['end']}"
    at = next(n for n in range(max(len(lines), len(others))) if lines[n : n + 1] != others[n : n + 1])
    before = [f"        {line}" for line in lines[max(0, at - AROUND) : at]]
    sides = []
    for side, told in (("one:   ", one), ("other: ", other)):
        here = told["lines"][at : at + 1] or ["(nothing more)"]
        sides.append(f"{side} {here[0]}")
        if at < len(told["origins"]):
            sides.append(f"        by {told['origins'][at]}")
    return "\n".join([f"first difference at event {at}", *before, *sides])
