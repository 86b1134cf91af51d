"""Every type, and all together, in a network that loses, repeats and reorders, among nodes that fold and come back."""

from __future__ import annotations

import random

import pytest

from tests.crdt.network import ALL, Network
from tests.crdt.oracle import RULES
from tests.strategies import PATHS

KINDS = sorted(RULES)


def go(kind: str, seed: int, steps: int) -> Network:
    rng = random.Random(f"{kind} {seed}")
    if kind == "all":
        network = Network(rng, ALL, PATHS, replicas=rng.choice((2, 3, 4)))
    else:
        also = ("transfer",) if kind == "bounded" else ()
        network = Network(rng, (*(kind,) * 9, *also, "delete"), (("m", "x"), ("k",)), replicas=3)
        if kind in ("list", "text"):  # enough to move and to remove
            network.begin([(kind, path, ("insert", 0, at % 4)) for path in (("m", "x"), ("k",)) for at in range(6)])
    network.run(steps)
    network.settle()
    return network


@pytest.mark.parametrize("kind", [*KINDS, "all", "all", "all"])
def test_whatever_happens_each_shows_what_it_has_seen(kind: str) -> None:
    happened: set[str] = set()
    for seed in range(8):
        happened |= go(kind, seed, 60).happened.keys()
    assert happened >= {"_write", "_arrive", "_repair", "_fold", "_send_snapshot", "_restart", "_return"}


@pytest.mark.soak
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("kind", [*KINDS, "all"])
def test_for_long(kind: str) -> None:
    for seed in range(100, 500 if kind == "all" else 200):
        go(kind, seed, 120)
