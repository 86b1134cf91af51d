"""The simulator bites: breakages of our own protocols are caught. All: ``python -m tests.sim.mutants``, and
``python -m tests.sim.mutants_messages``."""

from __future__ import annotations

import pytest

from tests.sim import mutants_messages
from tests.sim.mutants import MUTANTS

SLOW = {"chaos", "chaos-folding", "overload", "thundering-heal", "letters", "calls", "ring", "topics"}
FAST = [name for name, each in MUTANTS.items() if each.story not in SLOW]
FAST += ["window-not-kept", "keys-forgotten", "taking-in-waits-on-handing-on"]  # one of each story


def test_there_are_enough_mutants_and_each_says_what_it_breaks() -> None:
    assert len(MUTANTS) >= 25 and len(FAST) >= 15
    assert len(MUTANTS) - len(mutants_messages.OTHERS) >= 20
    assert all(each.moral for each in MUTANTS.values())


@pytest.mark.parametrize("name", FAST)
def test_a_mutant_is_caught(name: str) -> None:
    seeds, outcome = MUTANTS[name].hunt()
    assert outcome is not None, f"{name} lives after {seeds} seeds of {MUTANTS[name].story}"
