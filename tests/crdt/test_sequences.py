"""Texts and lists: what is special about them. The laws they share with all types are in test_laws."""

from __future__ import annotations

import random
import time
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from crdt import Change, ChangeTooLarge, CrdtError, Document, InvalidBytes, InvalidValue, TypeClash
from crdt.difference import difference
from crdt.fugue import SPAN_MAX
from crdt.list import EraseValues, InsertValues, Move
from crdt.text import EraseText, InsertText
from tests.laws import require_same, require_sound, state
from tests.strategies import wire

some = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
ACTORS = ("ann", "bob", "cyd")


def apart(*actors: str) -> list[Document]:
    return [Document(actor) for actor in actors]


def meet(*docs: Document) -> None:
    for source in docs:
        for target in docs:
            target.apply(wire(source.changes_since(target.clock)))
    require_same(list(docs))


# -- one writer ---------------------------------------------------------------------------------------------------


@some
@given(st.randoms(use_true_random=False), st.integers(1, 60))
def test_a_text_is_a_str_to_its_only_writer(rng: random.Random, steps: int) -> None:
    doc, plain = Document("a"), ""
    text = doc.text("t")
    for _ in range(steps):
        at, letters = rng.randint(0, len(plain)), "".join(rng.choice("aé☃🙂") for _ in range(rng.randint(1, 5)))
        count = rng.randint(0, len(plain) - at)
        match rng.randrange(4):
            case 0 | 1:
                text.insert(at, letters)
                plain = plain[:at] + letters + plain[at:]
            case 2:
                text.delete(at, count) if at < len(plain) else text.delete(at, 0)
                plain = plain[:at] + plain[at + count :]
            case 3:
                text.replace(at, count, letters)
                plain = plain[:at] + letters + plain[at + count :]
        assert (str(text), len(text)) == (plain, len(plain))
    require_sound(doc)
    twin = Document.load(doc.snapshot(), actor="b")
    assert twin.text("t").value == plain
    require_sound(twin)


@some
@given(st.randoms(use_true_random=False), st.integers(1, 60))
def test_a_list_is_a_list_to_its_only_writer(rng: random.Random, steps: int) -> None:
    doc, plain = Document("a"), list[Any]()
    values = doc.list("l")
    for step in range(steps):
        at, other = rng.randint(-2, len(plain) + 2), rng.randint(-len(plain), len(plain))
        match rng.randrange(6):
            case 0 | 1:
                values.insert(at, step)
                plain.insert(at, step)
            case 2:
                values.extend([step, None])
                plain.extend([step, None])
            case 3 if plain:
                assert values.pop(at % len(plain)) == plain.pop(at % len(plain))
            case 4 if plain:
                values.move(at % len(plain), other)
                plain.insert(other, plain.pop(at % len(plain)))
            case 5 if plain:
                values[at % len(plain)] = "new"
                plain[at % len(plain)] = "new"
        assert (values.value, len(values), list(values)) == (plain, len(plain), plain)
        assert [values[each] for each in range(-len(plain), len(plain))] == plain + plain
    require_sound(doc)
    assert Document.load(doc.snapshot(), actor="b").list("l").value == plain


def test_slices_read_and_remove() -> None:
    (doc,) = apart("a")
    text, values = doc.text("t"), doc.list("l")
    text.append("0123456789")
    values.extend(list(range(10)))
    assert (text[2:4], text[-1], text[::3], values[2:4], values[-1]) == ("23", "9", "0369", [2, 3], 9)
    del text[1:3], text[-1], values[::2]
    assert (str(text), values.value) == ("0345678", [1, 3, 5, 7, 9])
    assert "345" in text and 7 in values and 2 not in values


def test_what_is_out_of_range_is_refused() -> None:
    (doc,) = apart("a")
    text, values = doc.text("t"), doc.list("l")
    text.insert(0, "abc")
    values.append(1)
    clock = doc.clock
    for wrong in (
        lambda: text.insert(4, "x"), lambda: text.insert(-4, "x"), lambda: text.delete(1, 3), lambda: text.delete(-4),
        lambda: text.delete(0, -1), lambda: values[1], lambda: values.__delitem__(1), lambda: values.move(1, 0),
        lambda: values.pop(3), lambda: text.cursor(4), lambda: values.__setitem__(-2, 0), lambda: text.delete(3),
    ):  # fmt: skip
        with pytest.raises(IndexError):
            wrong()  # type: ignore[no-untyped-call]
    for bad in ("\ud800", 7, None, b"x"):
        with pytest.raises(InvalidValue):
            text.insert(0, bad)  # type: ignore[arg-type]
    with pytest.raises(InvalidValue):
        values.append(float("nan"))
    with pytest.raises(TypeClash):
        doc.list("t")
    text.insert(1, "")
    values.extend([])
    values.move(0, 0)
    assert doc.clock == clock


def test_an_insertion_of_any_length_is_one_operation_or_a_few() -> None:
    (doc,) = apart("a")
    doc.text("t").append("x")
    assert dict(doc.clock) == {"a": 1}
    doc.text("t").append("yz" * 100)
    assert dict(doc.clock) == {"a": 2}  # operations are counted, not letters
    doc.text("t").insert(1, "é" * 300_000)
    assert dict(doc.clock) == {"a": 7}
    assert doc.text("t").value == "x" + "é" * 300_000 + "yz" * 100
    assert len(doc.changes_since({})) == 3
    with pytest.raises(ChangeTooLarge):
        doc.text("t").append("x" * (1 << 20))
    doc.list("l").extend(["x" * 1000] * 600)
    assert len(doc.list("l")) == 600
    require_sound(doc)


def test_a_long_run_is_cut_into_spans_and_one_in_a_snapshot() -> None:
    (doc,) = apart("a")
    for _ in range(SPAN_MAX * 3):
        doc.text("t").append("x")
    assert len(list(doc.find(("t",), doc.text("t")._store).spans)) == 3
    assert len(doc.snapshot()) < SPAN_MAX * 3 + 60
    twin = Document.load(doc.snapshot(), actor="b")
    assert state(twin) == state(doc)


def test_a_transaction_that_fails_leaves_no_trace() -> None:
    a, b = apart("a", "b")
    a.text("t").append("hello")
    a.list("l").extend([1, 2, 3])
    b.apply(a.changes_since({}))
    b.text("t").insert(5, "!")
    meet(a, b)
    before = state(a)
    with pytest.raises(ZeroDivisionError), a.transaction():
        a.text("t").insert(2, "XX")
        a.text("t").insert(3, "Y")
        a.text("t").delete(1, 5)
        a.text("t").append("?")
        a.list("l").move(0, 2)
        a.list("l").move(2, 1)
        a.list("l").pop(0)
        a.list("l").move(0, 1)
        a.list("l").append(4)
        a.text("new").append("z")
        a.delete("t")
        a.text("t").append("again")
        raise ZeroDivisionError
    assert state(a) == before
    require_sound(a)
    a.text("t").insert(3, "-")
    meet(a, b)
    assert b.value == {"t": "hel-lo!", "l": [1, 2, 3]}


# -- several writers --------------------------------------------------------------------------------------------------


@some
@given(
    st.lists(
        st.tuples(st.sampled_from(("forwards", "backwards", "at once")), st.integers(1, 6)), min_size=3, max_size=3
    ),
    st.integers(0, 4),
    st.booleans(),
)
@example([("backwards", 3), ("forwards", 3), ("backwards", 2)], 2, True)
def test_what_several_type_at_one_place_is_never_mixed(runs: list[Any], at: int, gone: bool) -> None:
    docs = apart(*ACTORS)
    docs[0].text("t").append("....")
    if gone:
        docs[0].text("t").delete(max(0, at - 1))
        at = max(0, at - 1)
    meet(*docs)
    at = min(at, len(docs[0].text("t")))
    for doc, letter, (how, size) in zip(docs, "abc", runs, strict=True):
        for typed in range(size):
            doc.text("t").insert(at + (typed if how == "forwards" else 0), letter * (size if how == "at once" else 1))
            if how == "at once":
                break
    meet(*docs)
    shown = str(docs[0].text("t"))
    for letter, (_, size) in zip("abc", runs, strict=True):
        assert letter * size in shown
    for doc in docs:
        require_sound(doc)


@pytest.mark.parametrize("first", [2, 1])
def test_what_hangs_beside_a_hidden_run_is_kept(first: int) -> None:
    """Found by breaking the code on purpose: no law had met it."""
    a, b = apart("a", "b")
    a.text("t").append("xay")
    meet(a, b)
    a.text("t").insert(3, "b")
    b.text("t").insert(3, "c")
    meet(a, b)
    a.text("t").insert(1, "-")
    for at in (4, 3) if first == 2 else (0, 2):
        a.text("t").delete(at)
        require_sound(a)
    meet(a, b)
    require_sound(b)
    assert str(b.text("t")) == ("x-ac" if first == 2 else "-abc")


def test_concurrent_moves_leave_one_copy_and_a_removal_none() -> None:
    a, b = apart("a", "b")
    a.list("l").extend(["x", 1, 2, 3])
    meet(a, b)
    a.list("l").move(0, 1)
    b.list("l").move(0, 3)
    meet(a, b)
    assert a.list("l").value == [1, 2, 3, "x"]  # "b" sorts after "a"
    a.list("l").move(3, 0)
    meet(a, b)
    assert b.list("l").value == ["x", 1, 2, 3]  # a move beats those it saw
    a.list("l").move(0, 3)
    del b.list("l")[0]
    meet(a, b)
    assert a.list("l").value == [1, 2, 3]
    for doc in (a, b, Document.load(a.snapshot(), actor="c")):
        require_sound(doc)


def test_an_edit_survives_a_concurrent_delete_with_only_what_it_wrote() -> None:
    a, b = apart("a", "b")
    a.map("m").text("t").append("old")
    a.map("m").list("l").extend([1, 2])
    meet(a, b)
    a.delete("m")
    b.map("m").text("t").insert(3, " new")
    b.map("m").list("l").move(0, 1)
    b.map("m").list("l").append(3)
    meet(a, b)
    assert a.value == {"m": {"t": " new", "l": [3]}}
    del a.map("m").list("l")[0]
    a.map("m").text("t").delete(0, 4)
    assert a.value == {}
    meet(a, b)
    b.map("m").text("t").append("again")
    meet(a, b)
    assert a.value == {"m": {"t": "again"}}


def test_a_cursor_stays_with_its_neighbour() -> None:
    a, b = apart("a", "b")
    a.text("t").append("hello world")
    a.list("l").extend([0, 1, 2])
    meet(a, b)
    caret, end, item = b.text("t").cursor(6), b.text("t").cursor(11), b.list("l").cursor(1)
    a.text("t").insert(0, "oh, ")
    a.text("t").delete(4, 5)
    a.list("l").move(1, 0)
    meet(a, b)
    assert str(b.text("t")) == "oh,  world"
    assert (caret.index, end.index, item.index) == (5, 10, 0)
    a.text("t").delete(3, 4)
    meet(a, b)
    assert (str(b.text("t")), caret.index) == ("oh,rld", 3)  # its neighbour is gone: where it was
    assert item.name == ("a", 2, 1)


# -- others' bytes ----------------------------------------------------------------------------------------------------

numbers = st.integers(0, 4)
forged_places = st.one_of(
    st.integers(-3, 3), st.tuples(st.integers(1, 4), numbers).map(list),
    st.tuples(st.integers(0, 1), st.integers(1, 5), numbers).map(list),
)  # fmt: skip


@st.composite
def forged_targets(draw: st.DrawFn) -> Any:
    if draw(st.booleans()):
        return draw(st.integers(1, 4))
    who, seq, offset, more, end = (draw(st.integers(0, 2)), draw(st.integers(1, 4)), *draw(st.tuples(*[numbers] * 3)))
    return [who, seq, offset, min(more, seq - 1) if not who else more, end]


def forged(kind: str) -> st.SearchStrategy[Any]:
    if kind == "text":
        return st.one_of(
            st.builds(InsertText, st.just("k"), forged_places, st.sampled_from(("x", "yz", "abc"))),
            st.builds(EraseText, st.just("k"), forged_targets()),
        )
    element = st.tuples(st.integers(0, 2), st.integers(1, 4), numbers).map(list)
    return st.one_of(
        st.builds(InsertValues, st.just("k"), forged_places, st.sampled_from(([b"\x01"], [b"\x02", b"\x03"]))),
        st.builds(EraseValues, st.just("k"), forged_targets()),
        st.builds(Move, st.just("k"), forged_places, element, st.integers(1, 3)),
    )


@pytest.mark.parametrize("kind", ["text", "list"])
@some
@given(data=st.data())
def test_whatever_is_let_in_ends_the_same_in_every_order(kind: str, data: st.DataObject) -> None:
    """Places, ranges and moves that no correct replica writes, of elements that may not be there."""
    changes, counts = [], dict.fromkeys(ACTORS, 0)
    for _ in range(data.draw(st.integers(1, 14))):
        actor = data.draw(st.sampled_from(ACTORS))
        ops = data.draw(st.lists(forged(kind), min_size=1, max_size=3))
        others = [each for each in ACTORS if each != actor]
        change = Change(actor, counts[actor] + 1, len(changes) + 1, 1, ops, others)
        counts[actor] += len(ops)
        try:
            changes.append(Change.decode(change.encode()))
        except InvalidBytes:
            counts[actor] -= len(ops)
    docs = []
    for _ in range(3):
        doc = Document("observer")
        order = changes * 2
        data.draw(st.randoms(use_true_random=False)).shuffle(order)
        for each in order:
            doc.apply([each])
        require_sound(doc)
        docs.append(doc)
    require_same(docs)
    twin = Document("joiner")
    twin.apply(changes[: len(changes) // 2])
    docs[0].join(twin.snapshot())
    twin.join(docs[0].snapshot())
    require_sound(twin)
    require_same([docs[0], docs[1], twin])


@pytest.mark.parametrize("place", [0, -1])
def test_hanging_everything_at_one_place_costs_no_more_than_its_bytes(place: int) -> None:
    """A whole frame of insertions at one place, each its own operation, behind a chain of many spans."""
    count = 60_000
    ops = [InsertText("k", 0, "x"), *(InsertText("k", place and -(at + 1), "x") for at in range(count))]
    raw = Change("x", 1, 1, 1, ops).encode()
    began = time.process_time()
    doc = Document("a")
    doc.apply([Change.decode(raw)])
    assert len(doc.text("k")) == count + 1
    assert time.process_time() - began < 10.0
    require_same([doc, Document.load(doc.snapshot(), actor="b")])


@some
@given(st.text("ab \n", max_size=30), st.text("ab \n", max_size=30))
def test_the_difference_leads_from_one_to_the_other(old: str, new: str) -> None:
    made = old
    for begin, end, text in reversed(difference(old, new)):
        made = made[:begin] + text + made[end:]
    assert made == new
    (doc,) = apart("a")
    doc.text("t").append(old)
    doc.text("t").edit(new)
    assert str(doc.text("t")) == new
    assert doc.text("t").edit(new) is None and len(doc.changes_since({})) <= 2


@some
@given(*[st.lists(st.sampled_from(("one ", "two ", "three\n", "four ")), max_size=8) for _ in range(3)])
def test_an_edit_of_an_older_text_leaves_what_others_changed(old: list[str], new: list[str], now: list[str]) -> None:
    """Letters of the old text are there if both kept them; what either put in is there."""
    base, mine, theirs = "".join(old), "".join(new), "".join(now)
    (doc,) = apart("a")
    doc.text("t").append(theirs)
    doc.text("t").edit(mine, base)
    got = str(doc.text("t"))
    kept = len(base) - sum(end - begin for begin, end, _ in difference(base, mine))
    put = sum(len(text) for _, _, text in difference(base, mine))
    assert put <= len(got) <= put + len(theirs)
    if base == theirs:
        assert got == mine and len(got) == kept + put
    if base == mine:
        assert got == theirs


def test_two_who_edit_a_copy_each_keep_both_changes() -> None:
    (doc,) = apart("a")
    base = "the quick fox\njumps over\nthe dog\n"
    doc.text("t").append(base)
    doc.text("t").edit("the quick brown fox\njumps over\nthe lazy dog\n", base)
    doc.text("t").edit("The quick fox\njumps\nthe dog\nagain\n", base)
    assert str(doc.text("t")) == "The quick brown fox\njumps\nthe lazy dog\nagain\n"
    assert len(difference("x\n" * 5000 + "a", "x\n" * 5000 + "b")) == 1


def test_found_two_histories_of_one_name_that_moved_other_values() -> None:
    """Found by the law below: what is a slot to one is a value to the other, and nobody could load the snapshot."""
    one, other = apart("x", "x")
    for doc in (one, other):
        doc.list("l").extend([1, 2, 3])
    one.list("l").move(0, 2)
    other.list("l").append(4)
    other.list("l").move(3, 0)
    reader = Document.load(one.snapshot(), actor="a")
    reader.join(other.snapshot())
    require_sound(reader)
    require_same([reader, Document.load(reader.snapshot(), actor="b")])


def test_a_snapshot_that_claims_billions_costs_its_bytes() -> None:
    """Four billion removed letters in forty bytes: nothing counts them one by one."""
    many = (1 << 32) - 1
    tree = [["k", "text", [[[0, [1, -many, 1]]], [1], [-many], [1], ""]]]
    raw = msgpack.packb([2, ["x"], [many + 1], [], False, 1, tree])
    doc = Document("a")
    doc.text("k").append("mine")
    began = time.process_time()
    doc.join(raw)
    doc.text("k").insert(0, "still ")
    doc.delete("k")
    doc.join(doc.snapshot())
    assert Document.load(doc.snapshot(), actor="b").digest() == doc.digest()
    assert time.process_time() - began < 1.0
    tree[0][2][0][0][1] = [1, -many, many]
    with pytest.raises(InvalidBytes):
        Document("c").join(msgpack.packb([2, ["x"], [1 << 41], [], False, 1, tree]))


def reached(rng: random.Random, kind: str) -> Document:
    """A document with a text or a list that three wrote on."""
    docs = apart(*ACTORS)
    for _ in range(rng.randint(1, 12)):
        doc = rng.choice(docs)
        handle: Any = doc.text("k") if kind == "text" else doc.list("k")
        size = len(handle)
        match rng.randrange(4):
            case 0 if size:
                del handle[rng.randrange(size)]
            case 1 if size > 1 and kind == "list":
                handle.move(rng.randrange(size), rng.randrange(size))
            case 2:
                meet(*docs)
            case _:
                at = rng.randint(0, size)
                handle.insert(at, "abc"[: rng.randint(1, 3)])
    meet(*docs)
    return docs[0]


@pytest.mark.parametrize("kind", ["text", "list"])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rng=st.randoms(use_true_random=False), data=st.data())
def test_a_snapshot_with_wrong_columns_is_refused_or_whole(kind: str, rng: random.Random, data: st.DataObject) -> None:
    """Not noise: one number in the columns is another. What is let in is one tree that goes on working."""
    plain = msgpack.unpackb(reached(rng, kind).snapshot())
    if not plain[4]:
        return
    columns = plain[5][0][2]
    place: Any = columns
    while True:
        at = data.draw(st.integers(0, max(0, len(place) - 1)))
        if not place or not isinstance(place[at], list):
            break
        place = place[at]
    if not place:
        return
    match data.draw(st.sampled_from(("number", "drop", "twice", "swap"))):
        case "number" if isinstance(place[at], int):
            place[at] += data.draw(st.sampled_from((-3, -2, -1, 1, 2, 3, 7, 1 << 40)))
        case "drop":
            del place[at]
        case "twice":
            place.insert(at, place[at])
        case _:
            other = data.draw(st.integers(0, len(place) - 1))
            place[at], place[other] = place[other], place[at]
    doc = Document("observer")
    doc.text("mine").append("x")
    before = state(doc)
    try:
        doc.join(msgpack.packb(plain))
    except CrdtError:
        assert state(doc) == before
        return
    require_sound(doc)
    honest = reached(rng, kind)
    for join in (lambda: doc.join(honest.snapshot()), lambda: honest.join(doc.snapshot())):
        join()
        require_sound(doc)
        require_sound(honest)
    handle: Any = doc.text("k") if kind == "text" else doc.list("k")
    handle.insert(len(handle) // 2, "x")
    del handle[0]
    require_sound(doc)
    require_same([doc, Document.load(doc.snapshot(), actor="z")])


@pytest.mark.parametrize("kind", ["text", "list"])
@pytest.mark.parametrize("seed", range(4))
def test_a_long_session_in_narrow_nodes(kind: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trees as deep as a book's, with little text: everything that is rare in one of the usual width happens here."""
    monkeypatch.setattr("crdt.spans.NODE_MAX", 4)
    monkeypatch.setattr("crdt.spans.NODE_LOADED", 2)
    monkeypatch.setattr("crdt.fugue.SPAN_MAX", 3)
    rng, docs = random.Random(seed), apart(*ACTORS)
    carets, made = dict.fromkeys(ACTORS, 0), list[Change]()
    for doc in docs:
        doc.on_change = made.append
    for turn in range(600):
        doc = rng.choice(docs)
        handle: Any = doc.text("k") if kind == "text" else doc.list("k")
        size = len(handle)
        at = carets[doc.actor] = min(size, carets[doc.actor] if rng.random() < 0.7 else rng.randint(0, size))
        match rng.randrange(8):
            case 0 | 1 if size:
                count = min(rng.randint(1, 6), size)
                start = max(0, min(at, size - count))
                del handle[start : start + count]
            case 2 if size > 1 and kind == "list":
                handle.move(rng.randrange(size), rng.randrange(size))
            case 3:
                seen = rng.choice(docs).clock
                doc.apply([each for each in made if each.last <= seen.get(each.actor)])
            case 4 if turn % 40 == 0:
                doc.join(rng.choice(docs).snapshot())
            case _:
                letters = "abcdef"[: rng.randint(1, 4)]
                if kind == "text":
                    handle.insert(at, letters)
                    carets[doc.actor] += len(letters)
                else:
                    handle.insert(at, turn)
                    carets[doc.actor] += 1
        if turn % 100 == 0:
            require_sound(doc)
    first = docs[0]
    for doc in docs[1:]:
        first.join(doc.snapshot())
    for doc in docs[1:]:
        doc.join(first.snapshot())
    loaded = Document.load(first.snapshot(), actor="z")
    for doc in (*docs, loaded):
        require_sound(doc)
    require_same([*docs, loaded])


def test_a_removal_in_a_transaction_that_named_others_in_another_order_can_be_read() -> None:
    """Ranges go by reference; a transaction may have named the later actor first (found by the law of growth)."""
    ann, bob, cyd = Document("ann"), Document("bob"), Document("cyd")
    bob.text("t").append("bob")
    cyd.apply(bob.changes_since({}))
    cyd.text("t").append("cyd")
    ann.apply(cyd.changes_since({}))
    with ann.transaction():
        ann.text("t").delete(5)  # cyd's comes first
        ann.text("t").delete(1, 3)
    fresh = Document("dan")
    fresh.apply(wire(ann.changes_since({})))
    assert fresh.value == ann.value == {"t": "by"}
