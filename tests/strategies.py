"""One shop for generators: values, and histories of documents that write, talk and forget."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from crdt import BoundExceeded, Change, Document, TypeClash
from crdt.map import Objects
from crdt.retirement import Mark
from tests.crdt.oracle import Operation

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=12)
    | st.binary(max_size=12)
)
values = st.recursive(
    scalars,
    lambda each: st.lists(each, max_size=4) | st.dictionaries(st.text(max_size=6), each, max_size=4),
    max_leaves=12,
)

Action = tuple[str, tuple[str, ...], Any]
PATHS = (("a",), ("b",), ("m", "x"), ("m", "y"), ("m", "n", "z"), ("a", "x"))
ELEMENTS = ("e", 1, 1.0, True, "f")
ACTORS = ("ann", "bob", "cyd", "dan")  # their interned numbers differ from their order on most replicas

ARGUMENTS: dict[str, st.SearchStrategy[Any]] = {
    "counter": st.integers(-3, 5),
    "bounded": st.integers(-3, 5),
    "transfer": st.tuples(st.integers(0, 3), st.sampled_from(ACTORS)),
    "register": st.sampled_from(ELEMENTS),
    "multi": st.sampled_from(ELEMENTS),
    "set": st.tuples(st.booleans(), st.sampled_from(ELEMENTS)),
    "set-remove-wins": st.tuples(st.booleans(), st.sampled_from(ELEMENTS)),
    "flag": st.booleans(),
    "flag-disable-wins": st.booleans(),
    "delete": st.none(),
    "list": st.tuples(st.sampled_from(("insert", "erase", "move")), st.integers(0, 7), st.integers(0, 7)),
    "text": st.tuples(st.sampled_from(("insert", "insert", "erase")), st.integers(0, 7), st.integers(1, 4)),
}
DELETABLE = (*PATHS, ("m",), ("m", "n"))


def actions(kinds: Iterable[str] = tuple(ARGUMENTS), path: tuple[str, ...] | None = None) -> st.SearchStrategy[Action]:
    """What may be done: a kind, a path, and what that kind takes."""
    return st.one_of(
        st.tuples(
            st.just(kind),
            st.sampled_from(DELETABLE if kind == "delete" else PATHS) if path is None else st.just(path),
            ARGUMENTS[kind],
        )
        for kind in sorted(kinds)
    )


def perform(doc: Document, action: Action) -> tuple[str, str, Any] | None:
    """Do ``action``. Returns (kind, verb, argument) as the oracle counts it; ``None`` when it was refused."""
    kind, path, argument = action
    try:
        place: Objects = doc
        for key in path[:-1]:
            place = place.map(key)
        key = path[-1]
        match kind:
            case "counter":
                handle = place.counter(key)
                (handle.increment if argument >= 0 else handle.decrement)(abs(argument))
                return kind, "add", argument
            case "bounded":
                escrow = place.bounded(key)
                debt = min(0, escrow._held())
                (escrow.increment if argument >= 0 else escrow.decrement)(abs(argument))
                return kind, "grant", argument - debt if argument >= 0 else argument
            case "transfer":
                if argument[1] == doc.actor:
                    return None
                place.bounded(key).transfer(argument[0], to=argument[1])
                return "bounded", "move", argument
            case "register":
                place.register(key).set(argument)
                return kind, "write", argument
            case "multi":
                place.multi(key).set(argument)
                return kind, "write", argument
            case "set" | "set-remove-wins":
                present, element = argument
                members = place.set(key, remove_wins=kind != "set")
                (members.add if present else members.discard)(element)
                return kind, "add" if present else "remove", element
            case "flag" | "flag-disable-wins":
                flag = place.flag(key, disable_wins=kind != "flag")
                (flag.enable if argument else flag.disable)()
                return kind, "add" if argument else "remove", True
            case "list":
                return edit_list(place.list(key), argument)
            case "text":
                return edit_text(place.text(key), argument)
            case "delete":
                place.delete(key)
                return "", "delete", None
    except (TypeClash, BoundExceeded):
        return None
    raise AssertionError(kind)


def names(handle: Any) -> list[Any]:
    """What the elements that show are called everywhere, behind the name of the beginning."""
    every = [handle.cursor(at).name for at in range(len(handle))]
    return [("", 0, 0), *every]


def places(handle: Any) -> list[Any]:
    """The same of the places that show them: slots, where elements were moved."""
    store = handle._doc.find(handle._path, handle._store)
    actors = handle._doc.actors.names
    every = [store.outside(store.element_at(at)) for at in range(len(handle))]
    return [("", 0, 0), *((actors[actor], seq, offset) for actor, seq, offset in every)]


def edit_text(text: Any, argument: tuple[str, int, int]) -> tuple[str, str, Any] | None:
    verb, at, count = argument
    if verb == "insert":
        at %= len(text) + 1
        behind, letters = places(text)[at], "xyzw"[:count]
        text.insert(at, letters)
        return "text", "insert", (behind, list(letters))
    if not len(text):
        return None
    at %= len(text)
    count = min(count, len(text) - at)
    gone = names(text)[at + 1 : at + 1 + count]
    text.delete(at, count)
    return "text", "erase", gone


def edit_list(values: Any, argument: tuple[str, int, int]) -> tuple[str, str, Any] | None:
    verb, at, to = argument
    size = len(values)
    if verb == "insert":
        at %= size + 1
        behind = places(values)[at]
        values.insert(at, to)
        return "list", "insert", (behind, [to])
    if not size or (verb == "move" and at % size == to % size):
        return None
    at, to = at % size, to % size
    what = names(values)[at + 1]
    if verb == "erase":
        del values[at]
        return "list", "erase", [what]
    behind = places(values)[to if to < at else to + 1]
    values.move(at, to)
    return "list", "move", (behind, [what])


class Boom(Exception):
    """Ends a transaction in the middle."""


@dataclass
class Replica:
    """A document, and every operation it made, as the oracle needs it."""

    doc: Document
    made: list[Operation] = field(default_factory=list)
    backup: bytes = b""
    restored: int = 0

    def do(self, acts: list[Action], *, fail: bool = False, marks: Iterable[tuple[str, int]] = ()) -> None:
        """One action by itself, or several in a transaction that may fail at its end. ``marks``: all there are."""
        doc, done = self.doc, []
        clock = dict(doc.clock)
        own = clock.get(doc.actor, 0)
        out: list[Change] = []
        doc.on_change = out.append
        if len(acts) == 1 and not fail:
            done.append(perform(doc, acts[0]))
        else:
            before = doc.digest(), doc.value
            try:
                with doc.transaction():
                    for each in acts:
                        count = len(doc._transaction._ops)  # type: ignore[union-attr]
                        meant = perform(doc, each)
                        if len(doc._transaction._ops) > count:  # type: ignore[union-attr]
                            done.append(meant)
                    if fail:
                        raise Boom
            except Boom:
                assert (doc.digest(), doc.value) == before
                assert not out
                return
        for change in out:
            meanings = [each for each in done if each is not None]
            assert change.count == len(meanings)
            for at, (kind, verb, argument) in enumerate(meanings):
                path = acts[0][1] if len(acts) == 1 else as_path(change.ops[at].path)
                seen = {**clock, doc.actor: own + at}
                forgets = any(seq <= seen.get(actor, 0) for actor, seq in marks)
                place = own + at + 1
                self.made.append(Operation(doc.actor, place, kind, path, verb, argument, seen, change.hlc, forgets))


def as_path(path: Any) -> tuple[str, ...]:
    return (path,) if isinstance(path, str) else tuple(path)


@dataclass
class History:
    """Some replicas after some steps. ``changes`` are all that were made, ``operations`` what they mean."""

    replicas: list[Replica]
    changes: list[Change] = field(default_factory=list)
    clock: Callable[[], int] | None = None
    marks: list[tuple[str, int]] = field(default_factory=list)  # actor and sequence

    @property
    def docs(self) -> list[Document]:
        return [each.doc for each in self.replicas]

    @property
    def operations(self) -> list[Operation]:
        return [each for replica in self.replicas for each in replica.made]

    def seen_by(self, doc: Document) -> list[Operation]:
        return [each for each in self.operations if each.seq <= doc.clock.get(each.actor)]

    def step(self, command: tuple[Any, ...]) -> None:
        match command:
            case ("do", at, acts, fail):
                replica = self.replicas[at % len(self.replicas)]
                before = replica.doc.clock
                replica.do(acts, fail=fail, marks=self.marks)
                self.changes += replica.doc.changes_since(before)
            case ("send", source, to, shuffled):
                one, other = self._pair(source, to)
                batch = wire(self.lacking(other, one.clock))
                if shuffled:
                    random.Random(len(batch)).shuffle(batch)
                other.apply(batch)
            case ("part", source, to, count):
                one, other = self._pair(source, to)
                other.apply(wire(self.lacking(other, one.clock)[:count]))
            case ("snapshot", source, to):
                one, other = self._pair(source, to)
                other.join(one.snapshot())
            case ("collect", at, lead):
                doc = self.docs[at % len(self.replicas)]
                before = doc.clock
                doc.on_change = None
                doc.collect(lead=lead)
                made = doc.changes_since(before)
                self.changes += made
                self.marks += [
                    (each.actor, each.seq + at) for each in made for at, op in enumerate(each.ops) if type(op) is Mark
                ]
            case ("round", at):  # of questions and answers; what makes everybody forget is known to one only
                self.settle()
                self.step(("collect", at, True))
                self.settle()
                for other in range(len(self.replicas)):
                    self.step(("collect", other, False))
                self.settle()
                self.step(("collect", at, False))
            case ("backup", at):
                replica = self.replicas[at % len(self.replicas)]
                replica.backup = replica.doc.snapshot()
            case ("restore", at):
                replica = self.replicas[at % len(self.replicas)]
                if replica.backup:
                    replica.restored += 1
                    replica.doc = Document.load(replica.backup, actor=replica.doc.actor, clock_ms=self.clock)
                    replica.doc.renew(f"{replica.doc.actor[:3]}{replica.restored}")

    def _pair(self, source: int, to: int) -> tuple[Document, Document]:
        size = len(self.replicas)
        return self.replicas[source % size].doc, self.replicas[to % size].doc

    def lacking(self, doc: Document, known: Any) -> list[Change]:
        """Changes ``known`` covers and ``doc`` does not, in an order that can be applied."""
        return [c for c in self.changes if c.last <= known.get(c.actor, 0) and c.seq > doc.clock.get(c.actor)]

    def settle(self) -> None:
        """Everybody gets everything."""
        for doc in self.docs:
            doc.apply(wire([c for c in self.changes if c.seq > doc.clock.get(c.actor)]))


def wire(changes: list[Change]) -> list[Change]:
    """As they come out at the other end."""
    return [Change.decode(each.encode()) for each in changes]


def commands(acts: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    who = st.integers(0, 3)
    return st.one_of(
        st.tuples(st.just("do"), who, st.lists(acts, min_size=1, max_size=1), st.just(False)),
        st.tuples(st.just("do"), who, st.lists(acts, min_size=1, max_size=1), st.just(False)),
        st.tuples(st.just("do"), who, st.lists(acts, min_size=1, max_size=4), st.booleans()),
        st.tuples(st.just("send"), who, who, st.booleans()),
        st.tuples(st.just("part"), who, who, st.integers(1, 4)),
        st.tuples(st.just("snapshot"), who, who),
        st.tuples(st.sampled_from(("backup", "restore")), who),
    )


def run(steps: list[tuple[Any, ...]], replicas: int = 3, clock: Callable[[], int] | None = None) -> History:
    history = History([Replica(Document(actor, clock)) for actor in ACTORS[:replicas]], clock=clock)
    for step in steps:
        history.step(step)
    return history


def narrow_histories(kind: str, replicas: int = 3, steps: int = 30) -> st.SearchStrategy[History]:
    """Histories of one object of one type, and deletes of it: much concurrency in little space."""
    kinds = {kind, "delete"} | ({"transfer"} if kind == "bounded" else set())
    return st.lists(commands(actions(kinds, ("m", "x"))), max_size=steps).map(lambda drawn: run(drawn, replicas))


def histories(
    replicas: int = 3, steps: int = 24, kinds: Iterable[str] = tuple(ARGUMENTS)
) -> st.SearchStrategy[History]:  # fmt: skip
    """Histories of a few documents: reached states, never invented ones."""
    return st.lists(commands(actions(kinds)), max_size=steps).map(lambda drawn: run(drawn, replicas))


def random_argument(rng: random.Random, kind: str) -> Any:
    """What an action of that kind takes."""
    match kind:
        case "counter" | "bounded":
            return rng.randint(-3, 5)
        case "transfer":
            return rng.randint(0, 3), rng.choice(ACTORS)
        case "register" | "multi":
            return rng.choice(ELEMENTS)
        case "set" | "set-remove-wins":
            return rng.random() < 0.6, rng.choice(ELEMENTS)
        case "list" | "text":
            verb = rng.choice(("insert", "erase", "move") if kind == "list" else ("insert", "insert", "erase"))
            return verb, rng.randint(0, 7), rng.randint(1, 4)
        case "delete":
            return None
    return rng.random() < 0.6


def random_steps(rng: random.Random, count: int, replicas: int) -> list[tuple[Any, ...]]:
    """The same from a plain generator, for long runs."""

    def act() -> Action:
        kind = rng.choice(
            ("counter", "bounded", "transfer", "register", "multi", "set", "set-remove-wins", "flag",
             "flag-disable-wins", "delete", "list", "text")
        )  # fmt: skip
        path = rng.choice(PATHS)
        if kind == "delete":
            path = rng.choice((*PATHS, ("m",), ("m", "n")))
        return kind, path, random_argument(rng, kind)

    steps: list[tuple[Any, ...]] = []
    for _ in range(count):
        if rng.random() < 0.04:
            steps.append((rng.choice(("backup", "restore")), rng.randrange(replicas)))
        match rng.randrange(6):
            case 0 | 1 | 2:
                steps.append(("do", rng.randrange(replicas), [act()], False))
            case 3:
                acts = [act() for _ in range(rng.randint(1, 4))]
                steps.append(("do", rng.randrange(replicas), acts, rng.random() < 0.2))
            case 4:
                steps.append(("send", rng.randrange(replicas), rng.randrange(replicas), rng.random() < 0.5))
            case 5 if rng.random() < 0.5:
                steps.append(("part", rng.randrange(replicas), rng.randrange(replicas), rng.randint(1, 4)))
            case _:
                steps.append(("snapshot", rng.randrange(replicas), rng.randrange(replicas)))
    return steps
