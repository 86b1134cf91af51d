"""Laws of documents, on states reached by operations, deliveries and joins."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crdt import Document, fold
from tests.crdt.oracle import RULES, live, rights, survive, value_of
from tests.laws import joined, require_join_laws, require_same, require_sound, state
from tests.strategies import ACTORS, PATHS, History, histories, narrow_histories, random_steps, run, wire

some = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@some
@given(histories())
def test_join_is_commutative_associative_idempotent(history: History) -> None:
    require_join_laws(*(doc.snapshot() for doc in history.docs))


@some
@given(histories(), st.randoms(use_true_random=False))
def test_any_order_of_arrival_gives_the_same_state(history: History, rng: random.Random) -> None:
    docs = []
    for _ in range(3):
        doc = Document("observer")
        batch = wire(history.changes) * 2
        rng.shuffle(batch)
        for each in batch:
            doc.apply([each])
        docs.append(doc)
    require_same(docs)
    history.settle()
    require_same([docs[0], *history.docs])


@some
@given(histories())
def test_the_oracle_agrees_at_every_replica(history: History) -> None:
    for doc in history.docs:
        assert repr(doc.value) == repr(ordered(value_of(history.seen_by(doc)), doc.value))
    history.settle()
    for doc in history.docs:
        assert repr(doc.value) == repr(ordered(value_of(history.operations), doc.value))


@some
@given(histories())
def test_exchanging_changes_equals_joining_snapshots(history: History) -> None:
    by_snapshot = joined(*(doc.snapshot() for doc in history.docs))
    by_changes = Document("observer")
    by_changes.apply(wire([c for c in history.changes if c.last <= by_snapshot.clock.get(c.actor)]))
    assert state(by_changes) == state(by_snapshot)


@some
@given(histories())
def test_a_change_is_a_delta(history: History) -> None:
    """m(X) = X joined with the delta of m: applying a change equals joining the state it leads to."""
    before, after = Document("observer"), Document("observer")
    for change in wire(history.changes):
        if after.is_ready(change):
            after.apply([change])
            before.join(after.snapshot())
            assert state(before) == state(after)


@some
@given(histories())
def test_snapshot_round_trip_and_repeats_are_harmless(history: History) -> None:
    for doc in history.docs:
        twin = Document.load(doc.snapshot(), actor="observer")
        assert state(twin) == state(doc)
        assert twin.apply(wire([c for c in history.changes if c.last <= doc.clock.get(c.actor)])) == []
        assert twin.join(doc.snapshot()) == []
        assert state(twin) == state(doc)


@some
@given(histories(), st.permutations(["zoe", *ACTORS, "abe"]))
def test_the_order_of_interning_does_not_matter(history: History, order: list[str]) -> None:
    doc = Document("observer")
    for actor in order:
        doc.actors.intern(actor)
        doc._clock.append(0)
    doc.apply(wire(history.changes))
    history.settle()
    require_same([history.docs[0], doc])


@pytest.mark.parametrize("kind", sorted(RULES))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_every_type_obeys_its_definition_and_the_laws(kind: str, data: st.DataObject) -> None:
    history = data.draw(narrow_histories(kind))
    for doc in history.docs:
        assert repr(doc.value) == repr(value_of(history.seen_by(doc)))
    require_join_laws(*(doc.snapshot() for doc in history.docs))
    doc = Document("observer")
    for actor in ("zoe", *reversed(ACTORS)):  # numbers in another order than elsewhere
        doc.actors.intern(actor)
        doc._clock.append(0)
    batch = wire(history.changes)
    data.draw(st.randoms(use_true_random=False)).shuffle(batch)
    doc.apply(batch)
    history.settle()
    require_same([doc, *history.docs])
    assert repr(doc.value) == repr(value_of(history.operations))
    for each in (doc, *history.docs, Document.load(doc.snapshot(), actor="observer")):
        require_sound(each)


@some
@given(histories(replicas=2), st.integers(1, 3))
def test_events_fold_to_the_value(history: History, size: int) -> None:
    watcher = Document("observer")
    value: dict[str, Any] = {}
    changes = wire(history.changes)
    for at in range(0, len(changes), size):
        fold(value, watcher.apply(changes[at : at + size]))
        assert value == watcher.value
    other = Document("other")
    for doc in history.docs:
        fold(value := other.value, other.join(doc.snapshot()))
        assert value == other.value


@some
@given(histories(kinds=("bounded", "transfer"), steps=40))
def test_a_bounded_counter_never_goes_below_zero(history: History) -> None:
    for doc in history.docs:
        for path in PATHS:
            alive = [each for each in survive(history.seen_by(doc)) if each.kind == "bounded" and each.path == path]
            assert all(held >= 0 for held in rights(alive).values())  # no deletes here, so not even hidden debts
    history.settle()
    for path in PATHS:
        alive = [each for each in survive(history.operations) if each.kind == "bounded" and each.path == path]
        assert all(held >= 0 for held in rights(alive).values())


@some
@given(histories())
def test_conflicts_name_what_is_kept_and_not_shown(history: History) -> None:
    for doc in history.docs:
        seen = history.seen_by(doc)
        for conflict in doc.conflicts():
            kinds = live(seen, conflict.path)
            assert conflict.types == tuple(kind for kind, _ in kinds)
            assert conflict.others


@pytest.mark.parametrize("seed", range(12))
def test_a_long_run_with_loss_repeats_disorder_snapshots_and_restored_backups(seed: int) -> None:
    rng = random.Random(seed)
    history = run(random_steps(rng, 150, 4), replicas=4, clock=lambda: rng.randrange(1, 50))
    for doc in history.docs:
        assert repr(doc.value) == repr(ordered(value_of(history.seen_by(doc)), doc.value))
    history.settle()
    require_same(history.docs)
    assert repr(history.docs[0].value) == repr(ordered(value_of(history.operations), history.docs[0].value))
    assert len({operation.kind for operation in history.operations}) >= len(RULES) - 2, "a run of too few types"


def ordered(value: Any, like: Any) -> Any:
    """``value`` with its keys in the order of ``like``: so that ``repr`` tells 1 from True and nothing else."""
    if not isinstance(value, dict) or not isinstance(like, dict):
        return value
    keys = (*(key for key in like if key in value), *(key for key in value if key not in like))
    return {key: ordered(value[key], like.get(key)) for key in keys}
