"""Every target on honest bytes, on bent ones, and on what was found; and the fuzzer itself, for a moment."""

from __future__ import annotations

import importlib.util
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from crdt.causal import Needs
from crdt.edits import Erase
from crdt.map import Delete
from crdt.sets import Put
from tests.fuzz.mutants import bent
from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).parents[2]
PROFILE = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_honest_bytes_pass(name: str) -> None:
    for each in TARGETS[name].seeds():
        TARGETS[name].run(each)


@pytest.mark.parametrize("name", sorted(TARGETS))
@settings(PROFILE, max_examples=30)
@given(seed=st.integers(0, 1 << 32))
def test_bent_bytes_end_well(name: str, seed: int) -> None:
    bend(name, seed)


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", sorted(TARGETS))
def test_thousands_of_bent_bytes_end_well(name: str) -> None:
    for seed in range(3000):
        bend(name, seed)


@settings(PROFILE, max_examples=30)
@given(raw=st.binary(max_size=300))
@example(b"")
def test_noise_ends_well(raw: bytes) -> None:
    for target in TARGETS.values():
        target.run(raw)


def bend(name: str, seed: int) -> None:
    rng = random.Random(seed)
    TARGETS[name].run(bent(rng.choice(TARGETS[name].seeds()), rng))


LEFT_OUT = ((Needs, "see"), (Erase, "check"), (Put, "check"), (Delete, "check"))


@pytest.mark.parametrize("left_out", LEFT_OUT, ids=[f"{owner.__name__}.{name}" for owner, name in LEFT_OUT])
def test_a_check_that_is_left_out_is_found(left_out: tuple[type, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness itself: without one of the checks of what changes say, bent bytes break a promise."""
    monkeypatch.setattr(*left_out, lambda *_: None)
    with pytest.raises((AssertionError, LookupError, ValueError, TypeError)):
        for seed in range(1000):
            bend("change", seed)


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed (extra `fuzz`)")
def test_the_fuzzer_runs(tmp_path: Path) -> None:
    """A bounded run of it; `make fuzz` runs all of them for longer."""
    command = [sys.executable, "-m", "tests.fuzz", "message", "--runs", "300", "--corpus", str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing found" in done.stdout
    ran = [int(line.split()[1]) for line in done.stderr.splitlines() if "number_of_executed_units" in line]
    assert ran and ran[0] >= 300, "it did not begin"
