"""VALUE and text: laws first."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.cli.values import ValueUnreadable, escape, parse, plain, show, to_json

scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary()
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
)


@given(values)
def test_every_value_is_strict_json_of_safe_characters(value: Any) -> None:
    text = to_json(value)
    assert text.isascii()
    assert text.isprintable()
    json.loads(text, parse_constant=pytest.fail)


@given(values.filter(lambda value: "$" not in repr(value) and "inf" not in repr(value)))
def test_what_is_printed_can_be_given_back(value: Any) -> None:
    assert parse(to_json(value)) == value


@given(st.text())
def test_no_text_can_move_a_cursor(text: str) -> None:
    shown = escape(text)
    assert all(each == " " or unicodedata.category(each)[0] not in "CZ" for each in shown)
    assert len(shown.splitlines()) <= 1


@given(st.text())
def test_any_text_is_a_value(text: str) -> None:
    try:
        parse(text)
    except ValueUnreadable:
        assert "$bytes" in text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3), ("-5", -5), ("1.5", 1.5), ("true", True), ("null", None), ('"3"', "3"), ("hello", "hello"),
        ("on and off", "on and off"), ('["a", 1]', ["a", 1]), ('{"$bytes": "AAE="}', b"\x00\x01"), ("NaN", "NaN"),
        ("[NaN]", "[NaN]"), ("", ""), ("{oops", "{oops"),
    ],
)  # fmt: skip
def test_values_as_people_type_them(text: str, value: Any) -> None:
    parsed = parse(text)
    assert (type(parsed), parsed) == (type(value), value)


@pytest.mark.parametrize("text", ['{"$bytes": "?"}', '{"$bytes": 3}', "[" * 100_000])
def test_a_broken_tag_and_a_bomb_are_refused(text: str) -> None:
    with pytest.raises(ValueUnreadable):
        parse(text)


def test_terminal_tricks_are_shown_not_played() -> None:
    assert escape("a\x1b[31mred\u202e\n[bold]é 木") == "a\\x1b[31mred\\u202e\\x0a[bold]é 木"
    assert show("plain") == "plain"
    assert show(["\x1b"]) == '["\\u001b"]'
    assert plain(float("inf")) == {"$float": "inf"}
