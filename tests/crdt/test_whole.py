"""Documents as a whole: from a plain value, as JSON, and what takes room in them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crdt import Change, Document, InvalidValue
from crdt.plain import from_json, to_json
from crdt.value import pack
from tests.laws import require_same
from tests.strategies import values

some = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
trees = st.dictionaries(st.text(max_size=6), values, max_size=5)


@some
@given(trees)
def test_who_begins_with_the_same_value_has_it_once(value: dict[str, Any]) -> None:
    a, b = (Document.from_value(value, actor=actor, clock_ms=lambda: 5) for actor in "ab")
    assert pack(a.value) == pack(value)
    a.counter("hits!").increment()
    b.apply([Change.decode(each.encode()) for each in a.changes_since(b.clock)])
    a.join(b.snapshot())
    require_same([a, b])
    assert b.counter("hits!").value == 1
    b.delete("hits!")
    assert pack(b.value) == pack(Document.from_json(to_json(value), actor="c").value)


def test_defaults_of_two_versions_are_joined() -> None:
    a = Document.from_value({"title": "x", "tags": ["one"]}, actor="a")
    b = Document.from_value({"title": "x", "tags": ["one"], "new": {"deep": True}}, actor="b")
    a.join(b.snapshot())
    assert a.value["new"] == {"deep": True}
    assert a.value["title"] == "x"
    assert a.conflicts() == []  # they agree about the title


@some
@given(values)
def test_json_there_and_back(value: Any) -> None:
    assert pack(from_json(to_json(value))) == pack(value)


def test_what_looks_like_a_mark_is_kept_apart() -> None:
    for value in ({"$bytes": "AA=="}, {"$dict": {"$float": "inf"}}, {"$float": 1}, {"$bytes": b"x"}, float("-inf")):
        assert from_json(to_json(value)) == value
    for bad in ("", "{", "NaN", '{"$bytes": "?"}', '{"$bytes": 1}', '{"$float": "x"}', "[" * 100_000):
        with pytest.raises(InvalidValue):
            from_json(bad)
    with pytest.raises(InvalidValue):
        Document.from_json("[1]", actor="a")
    with pytest.raises(InvalidValue):
        Document.from_value({"k": float("nan")}, actor="a")


@pytest.mark.parametrize(
    ("value", "path", "said"),
    [
        ({"a": {"b": [1, float("nan")]}}, ("a", "b", 1), "a.b[1]: NaN"),
        ({"cfg": {"size": (1, 2)}}, ("cfg", "size"), "cfg.size: "),
        ({"n": [[1 << 70]]}, ("n", 0, 0), "n[0][0]: "), ({"k": {"x" * 600: 1}}, ("k", "x" * 600), "k.xxxx"),
        ({"k": [{"\ud800": 1}]}, ("k", 0), "k[0]: "), ({"k": [{"t": "\ud800"}]}, ("k", 0, "t"), "k[0].t: "),
        ({"k": {"body": "x" * 300_000}}, ("k", "body"), "k.body: a value of 300005"),
        ({"k": {1: 2}}, ("k",), "k: keys"),
        ({1: 2}, (), "a key is a str, got int"), ({"a": {"$bytes": 1}}, None, ""),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named_by_its_place(value: Any, path: Any, said: str) -> None:
    if path is None:
        with pytest.raises(InvalidValue, match=r"^a: \$bytes"):
            Document.from_json('{"a": {"$bytes": 1}}', actor="a")
        return
    with pytest.raises(InvalidValue) as wrong:
        Document.from_value(value, actor="a")
    assert wrong.value.path == path
    assert str(wrong.value).startswith(said)


def test_a_beginning_may_be_larger_than_a_change() -> None:
    """Found by hand: a list of two megabytes was refused as if it were one value."""
    rows = [f"{at:100}" for at in range(20_000)]
    one, other = (Document.from_value({"rows": rows, "deep": {"rows": rows[:9]}}, actor=actor) for actor in "ab")
    require_same([one, other])
    assert one.list("rows").value == rows


def test_stats_say_what_takes_room() -> None:
    doc = Document("a")
    doc.text("t").append("hello")
    doc.text("t").delete(0, 2)
    doc.set("s", remove_wins=True).discard("x")
    doc.map("m").list("l").extend([1, 2, 3])
    doc.map("m").list("l").pop(0)
    stats = doc.stats()
    assert (stats["actors"], stats["operations"], stats["waiting"]) == (1, 5, 0)
    assert stats["changes"]["kept"] == 5
    rows = {key: (row["type"], row["elements"], row["removed"]) for key, row in stats["keys"].items()}
    assert rows == {"m": ("map", 1, 1), "s": ("set-remove-wins", 0, 1), "t": ("text", 3, 2)}
    assert sum(row["bytes"] for row in stats["keys"].values()) < len(doc.snapshot())
    doc.compact(doc.clock)
    assert doc.stats()["changes"] == {"kept": 0, "bytes": 0}


def test_two_hundred_rounds_over_the_same_keys_leave_what_ten_leave() -> None:
    doc, sizes = Document("a", keep_history=False), {}
    for turn in range(1, 201):
        for key in range(10):
            doc.map("m")[f"k{key}"] = turn
            doc.map("m").counter(f"c{key}").increment()
            doc.set("s").add(f"k{key}")
            doc.set("strict", remove_wins=True).add(f"k{key}")
            doc.flag(f"f{key}").enable()
        for key in range(10):
            doc.map("m").delete(f"k{key}")
            doc.map("m").delete(f"c{key}")
            doc.set("s").discard(f"k{key}")
            doc.set("strict", remove_wins=True).discard(f"k{key}")
            doc.flag(f"f{key}").disable()
        sizes[turn] = len(doc.snapshot())
    assert sizes[200] <= 1.2 * sizes[10] + 60
