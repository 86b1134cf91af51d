"""What removals leave behind goes, and nothing else; closed logs stay closed, for everybody at the same place."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crdt import Document
from tests.crdt.oracle import RULES, value_of
from tests.laws import joined, require_join_laws, require_same, require_sound
from tests.strategies import History, actions, commands, run, wire

some = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
who = st.integers(0, 3)


def growing(acts: Any, *, steps: int = 40) -> st.SearchStrategy[list[tuple[Any, ...]]]:
    """Steps of which many are removals, with collections in between, and no replica that comes back from a backup."""
    known = commands(acts).filter(lambda each: each[0] not in ("backup", "restore"))
    return st.lists(known | known | known | st.tuples(st.just("collect"), who, st.booleans()), max_size=steps)


def narrow(kind: str) -> st.SearchStrategy[Any]:
    kinds = ("bounded", "transfer", "delete") if kind == "bounded" else (kind, "delete")
    return actions(kinds, ("k",))


@pytest.mark.parametrize("kind", sorted(RULES))
@some
@given(data=st.data())
def test_collecting_changes_no_value_and_no_later_operation(kind: str, data: st.DataObject) -> None:
    """Each replica shows what the definition says of the operations it has seen, garbage or not; and equal clocks mean
    equal states, garbage included."""
    history = run(data.draw(growing(narrow(kind))), replicas=3)
    for doc in history.docs:
        assert repr(doc.value) == repr(value_of(history.seen_by(doc)))
        require_sound(doc)
    require_join_laws(*(doc.snapshot() for doc in history.docs))
    doc = Document("observer")
    batch = wire(history.changes)
    data.draw(st.randoms(use_true_random=False)).shuffle(batch)
    doc.apply(batch)
    history.settle()
    require_same([doc, joined(*(each.snapshot() for each in history.docs)), *history.docs])
    require_sound(doc)
    assert repr(doc.value) == repr(value_of(history.operations))


@pytest.mark.parametrize("kind", sorted(RULES))
@some
@given(data=st.data())
def test_after_everybody_answered_nothing_is_left_of_what_was_removed(kind: str, data: st.DataObject) -> None:
    history = run(data.draw(growing(narrow(kind))), replicas=3)
    rounds(history, 4)
    one = history.docs[0]
    require_same(history.docs)
    if not one.value:
        assert one.stats()["keys"] == {}
    elif kind not in ("list", "text"):  # what holds something visible up stays there
        assert one.stats()["keys"]["k"]["removed"] == 0
    fresh = Document.load(one.snapshot(), actor="observer")
    assert (fresh.digest(), fresh.value) == (one.digest(), one.value)


def rounds(history: History, times: int) -> None:
    """Everybody gets everything, and collects."""
    for _ in range(times):
        history.settle()
        for at in range(len(history.docs)):
            history.step(("collect", at, at == 0))
    history.settle()
