"""The table of DESIGN section 6, row by row, as plain examples."""

from __future__ import annotations

import pytest

from crdt import BoundExceeded, Document, TypeClash


def apart(*actors: str) -> list[Document]:
    return [Document(actor) for actor in actors]


def meet(*docs: Document) -> None:
    """Everybody gets everything."""
    for source in docs:
        for target in docs:
            target.apply(source.changes_since(target.clock))
    assert len({doc.digest() for doc in docs}) == 1


def test_a_counter_sums_and_a_removal_takes_what_it_saw_once() -> None:
    a, b, c = apart("a", "b", "c")
    a.counter("n").increment(5)
    meet(a, b, c)
    a.counter("n").increment(2)
    b.delete("n")
    c.delete("n")
    assert "n" not in b.value
    meet(a, b, c)
    assert a.value == {"n": 2}


def test_a_counter_at_zero_stays_until_deleted() -> None:
    (a,) = apart("a")
    a.counter("n").increment(1)
    a.counter("n").decrement(1)
    assert a.value == {"n": 0}
    a.delete("n")
    assert a.value == {}
    a.counter("n").increment(4)
    assert a.value == {"n": 4}


def test_counters_keep_sums_past_64_bits() -> None:
    a, b = apart("a", "b")
    for _ in range(3):
        a.counter("n").increment((1 << 63) - 1)
    meet(a, b)
    b.delete("n")
    a.counter("n").increment(1)
    assert Document.load(a.snapshot(), actor="c").value == {"n": 3 * ((1 << 63) - 1) + 1}
    meet(a, b)
    assert a.value == {"n": 1}


def test_a_bounded_counter_says_who_holds_the_rest() -> None:
    a, b = apart("a", "b")
    a.bounded("quota").increment(10)
    meet(a, b)
    clock = b.clock
    with pytest.raises(BoundExceeded) as refused:
        b.bounded("quota").decrement(3)
    assert refused.value.holders == {"a": 10}
    assert b.clock == clock
    a.bounded("quota").transfer(4, to="b")
    assert (a.bounded("quota").rights, a.bounded("quota").value) == (6, 10)
    meet(a, b)
    b.bounded("quota").decrement(3)
    a.bounded("quota").decrement(6)
    meet(a, b)
    assert a.value == {"quota": 1}
    assert (a.bounded("quota").rights, b.bounded("quota").rights) == (0, 1)


def test_a_bounded_counter_deleted_beside_a_decrement_stays_above_zero() -> None:
    a, b = apart("a", "b")
    a.bounded("q").increment(5)
    meet(a, b)
    b.delete("q")
    a.bounded("q").decrement(2)
    meet(a, b)
    assert a.value == {"q": 0}
    a.bounded("q").increment(3)
    meet(a, b)
    assert b.value == {"q": 3}
    assert a.bounded("q").rights == 3


def test_a_write_beats_what_it_saw_whatever_the_stamps() -> None:
    a = Document("a", clock_ms=lambda: 10**9)
    b = Document("b", clock_ms=lambda: 5)
    a.register("title").set("early, with a clock far ahead")
    meet(a, b)
    b.register("title").set("later")
    meet(a, b)
    assert a.value == {"title": "later"}


def test_concurrent_writes_show_one_and_keep_the_rest() -> None:
    a, b = Document("a", clock_ms=lambda: 20), Document("b", clock_ms=lambda: 10)
    a.register("title").set("x")
    b.register("title").set("y")
    meet(a, b)
    assert a.register("title").value == "x"
    assert b.register("title").conflicts() == ["y"]
    assert [each.others for each in a.conflicts()] == [("y",)]
    b.register("title").set("z")
    meet(a, b)
    assert a.value == {"title": "z"}
    assert a.conflicts() == []


def test_a_multi_value_register_shows_all_until_a_write_that_saw_them() -> None:
    a, b = apart("a", "b")
    a.multi("m").set("y")
    b.multi("m").set("x")
    meet(a, b)
    assert a.value == {"m": ["x", "y"]}
    a.multi("m").set("z")
    meet(a, b)
    assert b.multi("m").value == ["z"]


def test_elements_differ_by_their_canonical_bytes() -> None:
    (a,) = apart("a")
    members = a.set("s")
    for each in (1, 1.0, True, "1", b"1", [1], {"k": 1}):
        members.add(each)
    assert len(members) == 7
    assert 1 in members and 1.0 in members
    members.discard(1)
    assert 1 not in members and True in members
    assert list(map(repr, members)) == sorted(map(repr, members), key=[*map(repr, members.value)].index)


@pytest.mark.parametrize(("remove_wins", "left"), [(False, ["x"]), (True, [])])
def test_add_beside_remove(remove_wins: bool, left: list[str]) -> None:
    a, b = apart("a", "b")
    a.set("s", remove_wins=remove_wins).add("x")
    meet(a, b)
    a.set("s", remove_wins=remove_wins).add("x")
    b.set("s", remove_wins=remove_wins).discard("x")
    meet(a, b)
    assert a.set("s", remove_wins=remove_wins).value == left
    b.set("s", remove_wins=remove_wins).add("x")
    meet(a, b)
    assert a.value == {"s": ["x"]}


@pytest.mark.parametrize("disable_wins", [False, True])
def test_enable_beside_disable(disable_wins: bool) -> None:
    a, b = apart("a", "b")
    a.flag("f", disable_wins=disable_wins).enable()
    meet(a, b)
    a.flag("f", disable_wins=disable_wins).enable()
    b.flag("f", disable_wins=disable_wins).disable()
    meet(a, b)
    assert a.flag("f", disable_wins=disable_wins).value is not disable_wins


def test_concurrently_made_children_are_one() -> None:
    a, b = apart("a", "b")
    a.map("lights").map("hall")["lamp"] = "on"
    b.map("lights").map("hall")["door"] = "shut"
    meet(a, b)
    assert a.value == {"lights": {"hall": {"door": "shut", "lamp": "on"}}}


def test_an_update_survives_a_concurrent_delete_with_only_what_it_wrote() -> None:
    a, b = apart("a", "b")
    a.map("m")["old"] = 1
    a.map("m").counter("n").increment(7)
    meet(a, b)
    a.delete("m")
    b.map("m")["new"] = 2
    b.map("m").counter("n").increment(1)
    meet(a, b)
    assert a.value == {"m": {"n": 1, "new": 2}}
    a.map("m")["old"] = 3
    b.delete("m")
    meet(a, b)
    assert b.value == {"m": {"old": 3}}


def test_what_became_empty_vanishes_from_its_parent() -> None:
    (a,) = apart("a")
    tags = a.map("m").map("deep").set("tags")
    tags.add("x")
    tags.discard("x")
    assert a.value == {}
    assert a._root.children == {}  # and nothing is left of it
    assert tags.value == []


def test_a_clash_of_types_is_refused_here_and_kept_when_it_came_about_apart() -> None:
    a, b = apart("a", "b")
    a.register("k").set("x")
    b.counter("k").increment()
    with pytest.raises(TypeClash):
        a.counter("k")
    with pytest.raises(TypeClash):
        a.map("k").map("deeper")
    late = a.map("free")
    a.counter("free").increment()
    clock = a.clock
    with pytest.raises(TypeClash):
        late["key"] = 1
    assert a.clock == clock
    a.delete("free")
    meet(a, b)
    assert a.value == {"k": 1}  # "counter" sorts before "register"
    assert a.register("k").value == "x"
    assert [each.types for each in a.conflicts()] == [("counter", "register")]
    b.delete("k")
    meet(a, b)
    assert a.value == {}
    a.map("k")["now"] = "free"
    assert a.value == {"k": {"now": "free"}}


def test_a_map_reads_like_a_dict() -> None:
    (a,) = apart("a")
    m = a.map("m")
    assert (m.value, len(m), "x" in m, m.get("x"), m.get("x", 4)) == ({}, 0, False, None, 4)
    m["x"], m["longer"], m["b"] = None, [1, {"z": 1}], b"raw"
    m.counter("n").increment(2)
    assert "x" in m and m["x"] is None
    assert list(m) == ["b", "n", "x", "longer"]  # by canonical bytes: shorter first
    assert m.items()[1] == ("n", 2)
    del m["x"]
    with pytest.raises(KeyError):
        del m["x"]
    with pytest.raises(KeyError):
        m["x"]


def test_handles_write_nothing_and_show_the_bottom() -> None:
    (a,) = apart("a")
    shown = (
        a.counter("k").value, a.bounded("k").value, a.register("k").value, a.multi("k").value, a.set("k").value,
        a.flag("k").value, a.map("k").value, a.bounded("k").rights, a.register("k").conflicts(),
    )  # fmt: skip
    assert shown == (0, 0, None, [], [], False, {}, 0, [])
    a.set("k").discard("x")
    a.flag("k").disable()
    a.delete("k")
    assert (a.value, dict(a.clock), a.changes_since({})) == ({}, {}, [])
