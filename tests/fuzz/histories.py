"""Bytes as a story: what some replicas do and hear, so that the fuzzer looks for the story that breaks a law."""

from __future__ import annotations

import random
from typing import Any

from crdt import Document
from tests.crdt.oracle import value_of
from tests.laws import joined, require_join_laws, require_same, require_sound, state
from tests.strategies import random_steps, run, wire

STEPS_MAX = 40


class Drawn(random.Random):
    """A generator whose draws are bytes, one after the other, and zero past their end."""

    def __new__(cls, raw: bytes) -> Drawn:
        return super().__new__(cls)

    def __init__(self, raw: bytes) -> None:
        super().__init__(0)
        self._left = raw

    def _byte(self) -> int:
        if not self._left:
            return 0
        first, self._left = self._left[0], self._left[1:]
        return first

    def random(self) -> float:
        return self._byte() / 256

    def getrandbits(self, k: int, /) -> int:
        number = 0
        for _ in range(0, k, 8):
            number = number << 8 | self._byte()
        return number & ((1 << k) - 1)

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        low, high = (0, start) if stop is None else (start, stop)
        return low + self._byte() % (high - low)

    def randint(self, a: int, b: int) -> int:
        return self.randrange(a, b + 1)

    def choice(self, seq: Any) -> Any:
        return seq[self._byte() % len(seq)]


def history(raw: bytes) -> None:
    """The laws of documents hold at the end of any story, and everybody shows what the definition says."""
    rng = Drawn(raw)
    ticks = rng.randint(1, 4)
    steps = random_steps(rng, min(STEPS_MAX, 4 + len(raw) // 6), 3)
    story = run(steps, replicas=3, clock=lambda: ticks)
    for doc in story.docs:
        assert pure(doc.value) == pure(value_of(story.seen_by(doc)))
    require_join_laws(*(doc.snapshot() for doc in story.docs))
    by_snapshot = joined(*(doc.snapshot() for doc in story.docs))
    by_changes = Document("observer")
    by_changes.apply(wire([c for c in story.changes if c.last <= by_snapshot.clock.get(c.actor)]))
    assert state(by_changes) == state(by_snapshot)
    story.settle()
    require_same(story.docs)
    assert pure(story.docs[0].value) == pure(value_of(story.operations))
    for doc in story.docs:
        require_sound(doc)


def pure(value: Any) -> str:
    """Tells 1 from True, and not the order of keys."""
    if isinstance(value, dict):
        return repr(sorted((key, pure(each)) for key, each in value.items()))
    return repr(value)


def seeds() -> list[bytes]:
    return [random.Random(seed).randbytes(240) for seed in range(20)]
