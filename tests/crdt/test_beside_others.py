"""Texts beside pycrdt and Loro: what one writes is the same text in all; what several write at once is there in all,
and here each run stays whole. And the whole of the editing traces, where they are."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.editing import CONCURRENT, FOLDER, SEQUENTIAL, Ours, Rust, Yrs, alone, content, together, trace
from bench.libraries import loro, pycrdt
from tests.laws import require_same

LIBRARIES = {"pycrdt": (pycrdt, Yrs), "loro": (loro, Rust)}
Edit = tuple[int, int, str]


def require(name: str) -> Any:
    library, side = LIBRARIES[name]
    if library is None:
        pytest.skip(f"{name} is not installed (extra `bench`)")
    return side


edits = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 6), st.text("abc", max_size=5)), max_size=40)


def fitted(drawn: list[Edit], size: int) -> list[Edit]:
    """As edits of a text of ``size`` letters."""
    out = []
    for at, gone, new in drawn:
        at %= size + 1
        gone = min(gone, size - at)
        if gone or new:
            out.append((at, gone, new))
            size += len(new) - gone
    return out


@pytest.mark.parametrize("name", sorted(LIBRARIES))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(drawn=edits)
def test_one_writer_makes_the_same_text(name: str, drawn: list[Edit]) -> None:
    mine, theirs, plain = Ours("a"), require(name)("a"), ""
    for at, gone, new in fitted(drawn, 0):
        mine.edit([(at, gone, new)])
        theirs.edit([(at, gone, new)])
        plain = plain[:at] + new + plain[at + gone :]
        assert content(mine) == content(theirs) == plain


@pytest.mark.parametrize("name", sorted(LIBRARIES))
@pytest.mark.parametrize("seed", range(12))
def test_several_writers_leave_the_same_letters(name: str, seed: int) -> None:
    """Rounds in which three edit apart and then meet. Nobody's order is right: so after each round the others' text is
    taken for the next one, and the letters are compared, all with how often they are there."""
    side, rng, base = require(name), random.Random(seed), "----------"
    for _ in range(4):
        mine, theirs = [Ours(each) for each in "abc"], [side(each) for each in "abc"]
        for group in (mine, theirs):
            group[0].edit([(0, 0, base)])
            spread(group)
        for at, (one, other) in enumerate(zip(mine, theirs, strict=True)):
            runs = [(rng.randint(0, 10**6), rng.randint(0, 4), "ABC"[at] * rng.randint(0, 4)) for _ in range(3)]
            for edit in fitted(runs, len(base)):
                one.edit([edit])
                other.edit([edit])
        for group in (mine, theirs):
            spread(group)
        require_same([each.doc for each in mine])
        assert len({content(each) for each in theirs}) == 1
        assert Counter(content(mine[0])) == Counter(content(theirs[0]))
        base = content(theirs[0])


@pytest.mark.parametrize("name", sorted(LIBRARIES))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.tuples(st.integers(2, 6), st.booleans()), min_size=3, max_size=3), st.integers(0, 4),
    st.lists(st.integers(0, 3), max_size=2, unique=True),
)  # fmt: skip
def test_runs_typed_at_one_place_stay_whole(name: str, runs: list[tuple[int, bool]], at: int, gone: list[int]) -> None:
    """Letter by letter, forwards or backwards, beside letters that may be removed. In all are the same letters."""
    mine, theirs = [Ours(each) for each in "abc"], [require(name)(each) for each in "abc"]
    place = at - sum(1 for each in gone if each < at)
    for group in (mine, theirs):
        group[0].edit([(0, 0, "....")])
        for each in sorted(gone, reverse=True):
            group[0].edit([(each, 1, "")])
        spread(group)
        for one, letter, (size, backwards) in zip(group, "ABC", runs, strict=True):
            for typed in range(size):
                one.edit([(place + (0 if backwards else typed), 0, letter)])
        spread(group)
    shown = content(mine[0])
    for letter, (size, _) in zip("ABC", runs, strict=True):
        assert letter * size in shown
    assert {content(each) for each in mine} == {shown}
    assert Counter(shown) == Counter(content(theirs[0]))


def spread(group: list[Any]) -> None:
    """Everybody gets everything."""
    made = [list(each.made) for each in group]
    for at, each in enumerate(group):
        for source, updates in enumerate(made):
            if source != at:
                for update in updates:
                    each.take(update)


# -- traces -----------------------------------------------------------------------------------------------------------

here = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"no editing traces in {FOLDER}: name a folder in GOSSAMER_TRACES"
)
whole = [pytest.mark.soak, pytest.mark.timeout(900), here]


@pytest.mark.parametrize("name", [pytest.param(each, marks=whole) for each in SEQUENTIAL])
def test_a_whole_session_of_one_writer(name: str) -> None:
    """Writer and reader end with what the trace says."""
    alone(Ours, trace(name))


@pytest.mark.parametrize("name", [pytest.param(each, marks=whole) for each in CONCURRENT])
def test_a_whole_session_of_several(name: str) -> None:
    """Each transaction on exactly what its author had seen; all end with what the trace says, on every replica."""
    together(Ours, trace(name))
