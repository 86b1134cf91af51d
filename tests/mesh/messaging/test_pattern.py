"""Patterns against a dumb oracle, and what is no topic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.messaging.pattern import Pattern, check_topic

names = st.lists(st.sampled_from(["a", "b", "ab"]), min_size=1, max_size=5)
wishes = st.lists(st.sampled_from(["a", "b", "ab", "*", "**"]), min_size=1, max_size=5)


def oracle(pattern: list[str], topic: list[str]) -> bool:
    if not pattern:
        return not topic
    if pattern[0] == "**":
        return any(oracle(pattern[1:], topic[at:]) for at in range(len(topic) + 1))
    return bool(topic) and pattern[0] in ("*", topic[0]) and oracle(pattern[1:], topic[1:])


@given(wishes, names)
def test_a_pattern_means_what_the_oracle_says(pattern: list[str], topic: list[str]) -> None:
    assert Pattern(".".join(pattern)).matches(".".join(topic)) == oracle(pattern, topic)


def test_examples_a_reader_expects() -> None:
    assert Pattern("orders.*.new").matches("orders.eu.new")
    assert not Pattern("orders.*.new").matches("orders.eu.de.new")
    assert Pattern("orders.**").matches("orders.eu.de.new")
    assert Pattern("orders.**").matches("orders")
    assert Pattern("**").matches("anything.at.all")


@pytest.mark.parametrize("wrong", ["", ".", "a..b", "a.", "x" * 257, ".".join("a" * 33)])
def test_what_is_no_name_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError):
        Pattern(wrong)
    with pytest.raises(ValueError):
        check_topic(wrong)


def test_stars_are_for_patterns_and_stand_alone() -> None:
    with pytest.raises(ValueError, match="no '\\*'"):
        check_topic("orders.*")
    with pytest.raises(ValueError, match="alone"):
        Pattern("orders.e*")
    with pytest.raises(TypeError, match="int"):
        check_topic(7)  # type: ignore[arg-type]
