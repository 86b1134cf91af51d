"""What removals leave behind goes, and nothing else; a closed log ends at the same place for everybody."""

from __future__ import annotations

import random
from typing import Any

import pytest

from crdt import Change, Document, HistoryCut, InvalidValue, LogClosed
from tests.crdt.oracle import value_of
from tests.laws import joined, require_join_laws, require_same, require_sound
from tests.strategies import ACTORS, ELEMENTS, History, Replica, run, wire

FIRST: list[tuple[Any, ...]] = [  # everybody has written, and everybody has heard of everybody
    *(("do", at, [("register", ("z",), at)], False) for at in range(3)),
    *(("send", one, other, False) for one in range(3) for other in range(3)),
]
FORGETFUL = ("bounded", "counter", "flag-disable-wins", "list", "set-remove-wins", "text")


def removing(rng: random.Random, kind: str, steps: int) -> list[tuple[Any, ...]]:
    """Steps on one object, of which many are removals, deliveries and collections."""

    def act() -> tuple[str, tuple[str, ...], Any]:
        chosen = "delete" if rng.random() < 0.2 else "transfer" if kind == "bounded" and rng.random() < 0.3 else kind
        arguments: dict[str, Any] = {
            "transfer": (rng.randint(0, 3), rng.choice(ACTORS)),
            "flag-disable-wins": rng.random() < 0.5,
            "set-remove-wins": (rng.random() < 0.5, rng.choice(ELEMENTS)),
            "list": (rng.choice(("insert", "erase", "move")), rng.randrange(8), rng.randrange(8)),
            "text": (rng.choice(("insert", "erase")), rng.randrange(8), rng.randint(1, 4)),
            "delete": None,
        }
        return chosen, ("k",), arguments.get(chosen, rng.randint(-3, 5))

    drawn: list[tuple[Any, ...]] = []
    for _ in range(steps):
        at, other = rng.randrange(3), rng.randrange(3)
        drawn.append(
            rng.choices(
                (
                    ("do", at, [act() for _ in range(rng.choice((1, 1, 3)))], rng.random() < 0.1),
                    ("send", at, other, rng.random() < 0.5),
                    ("part", at, other, rng.randint(1, 4)),
                    ("snapshot", at, other),
                    ("collect", at, rng.random() < 0.7),
                    ("round", at),
                ),
                (45, 30, 3, 4, 14, 4),
            )[0]
        )
    return drawn


@pytest.mark.parametrize("kind", FORGETFUL)
@pytest.mark.parametrize("seed", range(6))
def test_collecting_changes_no_value_and_no_later_operation(kind: str, seed: int) -> None:
    """Each replica shows at all times what the definition says of the operations it has seen, whatever was forgotten by
    then; and equal clocks mean equal states, with what is kept for late returners."""
    rng = random.Random(f"{kind}/{seed}")
    history = run(FIRST)
    for step in removing(rng, kind, 70):
        history.step(step)
        doc = history.docs[step[2 if step[0] in ("send", "part", "snapshot") else 1]]
        assert repr(doc.value) == repr(value_of(history.seen_by(doc)))
        require_sound(doc)
    require_join_laws(*(doc.snapshot() for doc in history.docs))
    late = Document("observer")
    batch = wire(history.changes)
    rng.shuffle(batch)
    late.apply(batch)
    history.settle()
    require_same([late, joined(*(each.snapshot() for each in history.docs)), *history.docs])
    assert repr(late.value) == repr(value_of(history.operations))


@pytest.mark.parametrize("kind", FORGETFUL)
def test_when_everybody_has_answered_nothing_is_left_of_what_was_removed(kind: str) -> None:
    for seed in range(6):
        history = run([*FIRST, *removing(random.Random(seed), kind, 40)])
        for _ in range(3):
            history.step(("round", 0))
        history.settle()
        require_same(history.docs)
        doc = history.docs[0]
        kept = doc.stats()["keys"].get("k")
        assert (kept is not None) is ("k" in doc.value)
        if kept is not None and kind not in ("list", "text"):  # what holds up something visible stays there
            assert kept["removed"] == 0
        fresh = Document.load(doc.snapshot(), actor="observer")
        assert (fresh.digest(), fresh.value) == (doc.digest(), doc.value)


# -- named examples ----------------------------------------------------------------------------------------------------


def tell(source: Document, *others: Document) -> None:
    for each in others:
        each.apply(wire(source.changes_since(each.clock)))


def known(*names: str) -> list[Document]:
    """Documents whose actors have written and heard of each other."""
    docs = [Document(name) for name in names]
    for doc in docs:
        doc.register("z").set(1)
    for one in docs:
        tell(one, *docs)
    return docs


def collected(leader: Document, *others: Document) -> int:
    """One round of question and answer; what makes everybody forget is told to nobody yet."""
    leader.collect()
    tell(leader, *others)
    for each in others:
        each.collect(lead=False)
        tell(each, leader)
    return leader.collect(lead=False)


def test_nothing_goes_before_everybody_has_answered() -> None:
    ann, bob = known("ann", "bob")
    ann.set("s", remove_wins=True).add(1)
    tell(ann, bob)
    ann.set("s", remove_wins=True).discard(1)
    bob.set("s", remove_wins=True).add(1)  # has not seen it, so it loses
    bob_said = bob.changes_since(ann.clock)
    assert ann.collect() == 0
    ann.apply(wire(bob_said))  # was made before the question: no answer
    assert ann.collect() == 0
    tell(ann, bob)
    bob.collect(lead=False)
    tell(bob, ann)
    assert ann.value == bob.value == {"z": 1}
    assert ann.collect(lead=False) == 0  # bob's addition came after the question, so it holds the removal up
    assert collected(ann, bob) == 1
    tell(ann, bob)
    assert ann.stats()["keys"].keys() == bob.stats()["keys"].keys() == {"z"}


def test_an_increment_after_a_removal_is_not_taken_for_the_old_ones() -> None:
    """Its author had not forgotten the old row yet, and a removal names the totals of the new one."""
    ann, bob, cyd = known("ann", "bob", "cyd")
    bob.counter("n").increment(5)
    tell(bob, ann, cyd)
    ann.delete("n")
    tell(ann, bob, cyd)
    assert collected(ann, bob, cyd) == 1
    bob.counter("n").increment(2)
    tell(bob, cyd)
    cyd.delete("n")
    bob.counter("n").increment(1)
    for one in (ann, bob, cyd, ann):
        tell(one, ann, bob, cyd)
    require_same([ann, bob, cyd])
    assert ann.value == {"n": 1, "z": 1}


def test_what_hangs_beside_a_forgotten_element_stays_where_it_was_put() -> None:
    zoe, bob = known("zoe", "bob")  # at the root, bob's would be read first
    zoe.text("t").append("hello")
    tell(zoe, bob)
    zoe.text("t").delete(3, 2)
    tell(zoe, bob)
    assert collected(zoe, bob) == 2
    bob.text("t").insert(3, "XY")
    tell(zoe, bob)
    tell(bob, zoe)
    require_same([zoe, bob])
    assert zoe.value["t"] == "helXY"


def test_what_hung_on_a_removed_element_before_the_mark_holds_it_up() -> None:
    """What was put in beside it is removed meanwhile, and not everybody has seen that: nothing may move."""
    ann, bob, cyd = known("ann", "bob", "cyd")
    ann.text("t").append("12")
    ann.text("t").insert(1, "x")
    tell(ann, bob, cyd)
    ann.text("t").delete(1)
    bob.text("t").insert(2, "y")  # to the right of the "x" that ann removes
    ann.collect()  # what is removed here may go when everybody has answered
    tell(ann, bob, cyd)
    tell(bob, cyd)
    bob.collect(lead=False)
    cyd.collect(lead=False)
    tell(bob, ann, cyd)
    tell(cyd, ann)
    bob.text("t").delete(1)
    cyd.text("t").insert(2, "z")  # behind the "y", which is there to see
    tell(bob, ann)
    ann.collect()
    for one in (ann, bob, cyd, ann):
        tell(one, ann, bob, cyd)
    require_same([ann, bob, cyd])
    assert ann.value["t"] == "1z2"


def test_a_transaction_taken_back_where_the_latest_letters_were_forgotten() -> None:
    """What is left stays as long as it is (text/116 of the law above)."""
    ann, bob = known("ann", "bob")
    ann.text("t").append("ab")
    ann.text("t").append("cde")
    ann.text("t").delete(3, 2)
    tell(ann, bob)
    assert collected(ann, bob) == 2
    with pytest.raises(ZeroDivisionError), ann.transaction():
        ann.text("t").insert(1, "x")
        1 / 0  # noqa: B018
    require_sound(ann)
    assert ann.value["t"] == "abc"


@pytest.mark.parametrize("first", ["the purge", "the newcomer"])
def test_who_was_never_heard_of_and_knows_an_old_copy_is_the_same_for_all(first: str) -> None:
    ann, bob = known("ann", "bob")
    ann.text("t").append("abc")
    ann.list("l").extend(["x", "y"])
    tell(ann, bob)
    copy = ann.snapshot()
    ann.text("t").delete(0, 3)
    ann.list("l").pop(1)
    tell(ann, bob)
    cyd = Document.load(copy, actor="cyd")
    cyd.text("t").insert(3, "!")
    cyd.list("l").move(1, 0)
    cyd.list("l").append("w")
    said = cyd.changes_since(Document.load(copy, actor="o").clock)
    assert collected(ann, bob) > 0
    if first == "the newcomer":
        bob.apply(wire(said))
    tell(ann, bob)
    bob.apply(wire(said))
    ann.apply(wire(said))
    tell(bob, ann)
    require_same([ann, bob, joined(ann.snapshot(), bob.snapshot(), cyd.snapshot())])
    require_sound(ann)
    assert ann.value["t"] == "!"


def test_a_slot_that_was_forgotten_on_one_side_leaves_its_value_on_both() -> None:
    """The join with somebody who shows the value where it was moved from later."""
    ann, bob = known("ann", "bob")
    ann.list("l").extend(["a", "b", "c"])
    ann.list("l").move(0, 2)
    tell(ann, bob)
    stale = Document.load(bob.snapshot(), actor="cyd")
    ann.list("l").move(2, 0)
    tell(ann, bob)
    assert collected(ann, bob) > 0
    assert ann.value["l"] == ["a", "b", "c"]
    for one, other in ((stale.snapshot(), ann.snapshot()), (ann.snapshot(), stale.snapshot())):
        doc = joined(one, other)
        assert doc.digest() == ann.digest() and doc.value == ann.value
        require_sound(doc)


# -- retirement --------------------------------------------------------------------------------------------------------


def test_a_retired_log_ends_for_everybody_and_its_owner_is_told() -> None:
    ann, bob, cyd = known("ann", "bob", "cyd")
    cyd.counter("n").increment(7)  # unheard
    ann.retire("cyd")
    tell(ann, bob)
    with pytest.raises(LogClosed) as refused:
        bob.apply(wire([*cyd.changes_since(bob.clock), *ann.changes_since(bob.clock)]))
    assert (refused.value.closed, refused.value.refused) == ({"cyd": 1}, {"cyd": (2, 2)})
    require_same([ann, bob])
    with pytest.raises(LogClosed):
        bob.join(cyd.snapshot())
    tell(ann, cyd)
    for act in (lambda: cyd.counter("n").increment(), lambda: cyd.renew("cyd2"), lambda: cyd.transaction().__enter__()):
        with pytest.raises(LogClosed):
            act()
    back = Document.load(bob.snapshot(), actor="cyd2")
    back.counter("n").increment(7)
    tell(back, ann, bob)
    require_same([ann, bob, back])
    assert ann.value == {"n": 7, "z": 1} and ann.retired == {"cyd": 1}
    with pytest.raises(InvalidValue):
        ann.retire("ann")
    with pytest.raises(InvalidValue):
        ann.retire("nobody")


def test_who_had_taken_in_more_closes_the_log_further_up() -> None:
    ann, bob, cyd = known("ann", "bob", "cyd")
    cyd.counter("n").increment(7)
    tell(cyd, bob)
    ann.retire("cyd")
    tell(ann, bob)
    assert (bob.overtaken, ann.overtaken) == (["cyd"], [])
    assert bob.collect(lead=False) == 0  # raises it
    tell(bob, ann)
    require_same([ann, bob])
    assert ann.retired == {"cyd": 2} and ann.value == {"n": 7, "z": 1} and bob.overtaken == []


def test_what_an_open_log_rests_on_is_taken_in() -> None:
    """Bob's next change came after two of cyd's, before he heard that her log is closed; it could never enter else."""
    ann, bob, cyd = known("ann", "bob", "cyd")
    cyd.counter("n").increment(7)
    tell(cyd, bob)
    bob.counter("n").increment(1)
    ann.retire("cyd")
    said = wire([*cyd.changes_since(ann.clock), *bob.changes_since(ann.clock)])
    with pytest.raises(LogClosed):
        ann.apply(said[:1])
    ann.apply([each for each in said if each.actor == "bob"])  # waits for hers
    ann.apply(said[:1])
    assert ann.value == {"n": 8, "z": 1}
    late = known("ann", "bob", "cyd")[0]
    late.retire("cyd")
    late.apply(said)  # both in one batch, hers first
    assert late.value == ann.value


def test_garbage_goes_when_who_holds_it_up_is_retired() -> None:
    ann, bob, cyd = known("ann", "bob", "cyd")
    for each in range(20):
        ann.set("s", remove_wins=True).add(each)
        ann.set("s", remove_wins=True).discard(each)
    ann.text("t").append("gone")
    ann.text("t").delete(0, 4)
    before = len(ann.snapshot())
    assert collected(ann, bob) == 0  # cyd is silent
    ann.retire("cyd")
    assert [collected(ann, bob) for _ in range(2)] == [24, 0]
    assert len(ann.snapshot()) < before / 2
    cyd.set("s", remove_wins=True).add(3)
    with pytest.raises(LogClosed):
        tell(cyd, ann)
    tell(ann, bob)
    require_same([ann, bob])


@pytest.mark.parametrize("seed", (0, 1, 3, 4, 5, 6))
def test_logs_retired_while_they_are_written_end_alike_everywhere(seed: int) -> None:
    """Random writes, deliveries, retirements, collections and returns under new names; then everybody is the same."""
    rng = random.Random(seed)
    history = History([Replica(Document(actor)) for actor in ACTORS])
    for _ in range(3):
        for kind in rng.sample(FORGETFUL, 2):
            for step in removing(rng, kind, 20):
                attempt(history, rng, step)
                if rng.random() < 0.03:
                    attempt(history, rng, ("retire", rng.randrange(4), rng.randrange(4)))
    for _ in range(12):
        for doc in history.docs:
            attempt(history, rng, ("deliver", doc))
            if doc.index not in doc._root.closed:
                before = doc.clock
                doc.collect(lead=False)
                history.changes += doc.changes_since(before)
    alive = [doc for doc in history.docs if doc.index not in doc._root.closed]
    assert len(alive) == 4 and any(doc.retired for doc in alive), "a run without retirement"
    require_same(alive)
    for doc in alive:
        require_sound(doc)


def attempt(history: History, rng: random.Random, step: tuple[Any, ...]) -> None:
    """A step where logs may be closed: a replica whose own is begins anew, from what another has."""
    for replica in history.replicas:
        if replica.doc.index in replica.doc._root.closed:
            others = [each.doc for each in history.replicas if each.doc.index not in each.doc._root.closed]
            replica.restored += 1
            name = f"{replica.doc.actor[:3]}{replica.restored}"
            replica.doc = Document.load(rng.choice(others).snapshot(), actor=name) if others else Document(name)
    try:
        if step[0] == "retire":
            doc, other = (history.docs[at] for at in step[1:])
            if doc is not other and doc.clock.get(other.actor):
                before = doc.clock
                doc.retire(other.actor)
                history.changes += doc.changes_since(before)
        elif step[0] == "deliver":
            step[1].apply(wire([each for each in history.changes if each.seq > step[1].clock.get(each.actor)]))
        else:
            history.step(step)
    except LogClosed:
        pass  # what was refused stays out, the rest is in


def test_changes_of_a_past_actor_survive_a_snapshot_of_many() -> None:
    """Ten thousand past logs cost about ten bytes each."""
    doc = Document("me")
    for at in range(10_000):
        writer = Document(f"node-7/{at:05}")
        writer.set("s").add(at % 7)
        doc.apply(writer.changes_since({}))
    few = len(doc.snapshot())
    doc.retire(*(actor for actor in doc.clock if actor != "me"))
    assert len(doc.snapshot()) < 11 * 10_000  # the dot of what each wrote, which shows, is in it
    assert few < len(doc.snapshot())
    twin = Document.load(doc.snapshot(), actor="you")
    assert twin.retired == doc.retired and twin.clock == doc.clock
    assert Change.decode(doc.changes_since({"me": 0})[-1].encode()).count == 1


# -- churn -------------------------------------------------------------------------------------------------------------


def churn(doc: Document, rng: random.Random) -> None:
    """One round of writing over the same keys, of all types, that leaves them about as large as they were."""
    for at in range(3):
        doc.counter(f"counter{at}").increment(rng.randint(1, 9))
        doc.bounded(f"bounded{at}").increment(2)
        doc.register(f"register{at}").set(rng.randrange(100))
        doc.multi(f"multi{at}").set(rng.randrange(100))
        doc.map("m").map("n").set(f"set{at}").add(rng.randrange(8))
        doc.set(f"set{at}").discard(rng.randrange(8))
        for strict in (doc.set("strict", remove_wins=True), doc.map("m").set("strict", remove_wins=True)):
            strict.add(rng.randrange(20))
            strict.discard(rng.randrange(20))
    (doc.flag("flag").enable if rng.random() < 0.5 else doc.flag("flag").disable)()
    (doc.flag("off", disable_wins=True).enable if rng.random() < 0.5 else doc.flag("off", disable_wins=True).disable)()
    text, values = doc.text("text"), doc.list("list")
    text.delete(0, len(text))
    text.append("forty letters, of which none will be left")
    del values[:]
    values.extend(range(10))
    values.move(rng.randrange(10), rng.randrange(10))
    doc.delete(rng.choice(("counter0", "bounded0", "m", "multi1", "set2", "strict", "off")))


def objects(doc: Document) -> int:
    """How many objects of ours a document is made of, and entries of its tables."""
    from crdt.garbage import walk
    from crdt.sequence import SequenceStore

    count = len(doc.actors) + len(doc._history._kept)  # type: ignore[union-attr]
    for _, store in walk(doc._root):
        count += 1 + sum(1 for _ in store.dots()) + store.removed_count() * (not isinstance(store, SequenceStore))
        if isinstance(store, SequenceStore):
            count += sum(1 for _ in store.spans) + sum(len(author.seqs) for author in store.authors.values())
    return count


@pytest.mark.parametrize("loses_disks", [False, True])
def test_two_hundred_rounds_of_churn_cost_no_more_room_than_ten(loses_disks: bool) -> None:
    """Every ten rounds a node may lose its disk and go on under a new name; somebody closes its old log, and of a past
    writer stay its name and what it added to the counters that are still there."""
    rng = random.Random(4)
    docs = [Document(f"node-{at}/00000000") for at in range(3)]
    sizes: dict[int, tuple[int, int]] = {}
    for number in range(1, 201):
        if loses_disks and number % 10 == 5:
            lost = number // 10 % 3
            old, other = docs[lost].actor, docs[lost - 1]
            docs[lost] = Document.load(other.snapshot(), actor=f"node-{lost}/{rng.getrandbits(32):08x}")
            other.retire(old)
        for doc in docs:
            churn(doc, rng)
        exchange(docs)
        for _ in range(2):
            for at, doc in enumerate(docs):
                doc.collect(lead=at == 0)
            exchange(docs)
        for doc in docs:
            doc.compact(doc.clock)
        if number in (10, 200):
            sizes[number] = len(docs[0].snapshot()), objects(docs[0])
    require_same(docs)
    past = len(docs[0].retired)
    assert past == (20 if loses_disks else 0)
    assert sizes[200][0] <= 1.2 * sizes[10][0] + 80 * past, sizes  # 10 B in each of 6 counters, and its name
    assert sizes[200][1] <= 1.2 * sizes[10][1] + 10 * past, sizes


def exchange(docs: list[Document]) -> None:
    for one in docs:
        for other in docs:
            if one is not other:
                try:
                    other.apply(wire(one.changes_since(other.clock)))
                except HistoryCut:
                    other.join(one.snapshot())
