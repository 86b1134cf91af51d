"""Changes, bodies, snapshots, values and JSON: refused with nothing changed, or taken in whole."""

from __future__ import annotations

import functools
import random
from typing import Any

from crdt import BoundExceeded, Change, CrdtError, Document, InvalidValue, TypeClash
from crdt.plain import from_json, to_json
from crdt.value import check_packed, pack, unpack
from tests.laws import require_same, require_sound, state
from tests.strategies import Action, random_argument, random_steps, run
from transport.codec import decode_value, encode_value
from transport.errors import ValueRefused
from transport.frame import array_header

KINDS = ("bounded", "counter", "flag", "flag-disable-wins", "list", "multi", "register", "set", "set-remove-wins",
         "text")  # fmt: skip


@functools.cache
def reached() -> tuple[bytes, tuple[bytes, ...]]:
    """A state that three reached with every type, each also in a map and beside another; and what they did next."""
    rng = random.Random(11)
    history = run([], replicas=3)
    for who in range(3):
        for action in (("bounded", ("bounded",), 50), *[("list", ("list",), ("insert", 0, at)) for at in range(4)],
                       ("text", ("text",), ("insert", 0, 4)), ("text", ("text",), ("insert", 2, 4))):  # fmt: skip
            history.step(("do", who, [action], False))
    history.settle()
    for _ in range(90):
        history.step(("do", rng.randrange(3), [_act(rng)], False))
        if rng.random() < 0.3:
            history.step(("send", rng.randrange(3), rng.randrange(3), True))
    history.step(("do", 0, [("register", ("clash",), 1)], False))
    history.step(("do", 1, [("text", ("clash",), ("insert", 0, 2))], False))
    history.settle()
    doc = Document.load(history.docs[0].snapshot(), actor="observer")
    assert doc.value.keys() >= {*KINDS, "clash", "m"}
    made = len(history.changes)
    for turn in range(80):
        acts = [_act(rng) for _ in range(1 if turn % 4 else 3)]
        history.step(("do", rng.randrange(3), acts, False))
        if rng.random() < 0.2:
            history.step(("send", rng.randrange(3), rng.randrange(3), True))
    for who, kind in enumerate(KINDS):
        history.step(("do", who % 3, [("delete", (kind,), None)], False))
    history.settle()
    made_by_hand = list(history.changes[made:])
    for _ in range(4):  # what removals left behind is forgotten
        for each in history.docs:
            before = each.clock
            each.collect(lead=each is history.docs[0])
            made_by_hand += (fresh := each.changes_since(before))
            for other in history.docs:
                other.apply(fresh)
    before = history.docs[0].clock
    history.docs[0].retire("cyd")
    made_by_hand += history.docs[0].changes_since(before)
    return doc.snapshot(), tuple(each.encode() for each in made_by_hand)


def _act(rng: random.Random) -> Action:
    kind = rng.choice((*KINDS, "list", "text", "transfer"))
    key = "bounded" if kind == "transfer" else kind
    path = (key,) if rng.random() < 0.6 else ("m", key)
    return kind, path, random_argument(rng, kind)


def start() -> Document:
    return Document.load(reached()[0], actor="observer")


@functools.cache
def honest() -> list[Change]:
    return [Change.decode(each) for each in reached()[1]]


def require_alive(doc: Document) -> None:
    """What was let in is one whole state, that goes on working: it is read, written, taken in and thrown away."""
    require_sound(doc)
    doc.conflicts()
    doc.stats()
    twin = Document.load(doc.snapshot(), actor="twin")
    assert state(twin) == state(doc)
    made: list[Change] = []
    doc.on_change = made.append
    for act in (
        lambda: doc.counter("counter").decrement(2), lambda: doc.bounded("bounded").increment(),
        lambda: doc.bounded("bounded").decrement(1), lambda: doc.register("register").set(1),
        lambda: doc.multi("multi").set(1), lambda: doc.set("set").discard("e"),
        lambda: doc.set("set-remove-wins", remove_wins=True).add("e"), lambda: doc.flag("flag").disable(),
        lambda: doc.flag("flag-disable-wins", disable_wins=True).enable(), lambda: doc.map("m").list("list").append(1),
        lambda: doc.list("list").move(0, -1), lambda: doc.map("m").text("text").insert(0, "ab"),
        lambda: doc.text("text").delete(0), lambda: doc.text("text").append("z"), lambda: doc.list("list").pop(),
    ):  # fmt: skip
        try:
            act()
        except (TypeClash, BoundExceeded, IndexError):
            pass  # what a caller is told, not a defect
    for key in doc.live_keys():
        doc.delete(key)
    assert not doc.value
    require_sound(doc)
    twin.apply([Change.decode(each.encode()) for each in made])
    require_same([doc, twin])


def change(raw: bytes) -> None:
    """A change by itself: refused, or taken in whole, in whatever order it comes."""
    try:
        read = Change.decode(raw)
    except CrdtError:
        return
    again = Change.decode(read.encode())
    assert again == read and again.needs == read.needs
    require_taken_whole([read])


def items(raw: bytes) -> None:
    """The body of a frame."""
    try:
        read = Change.from_items("x", 1, 1 << 40, raw, _count(raw))
    except CrdtError:
        return
    body = array_header(len(read)) + b"".join(each.item() for each in read)
    assert Change.from_items("x", 1, 1 << 40, body, len(read)) == read
    require_taken_whole(read)


def _count(raw: bytes) -> int:
    if raw[:1] == b"\xdc":
        return int.from_bytes(raw[1:3], "big")
    return raw[0] & 0x0F if raw else 1


def require_taken_whole(read: list[Change]) -> None:
    """``read``, by one author, in the place of what that one wrote from there on: all of it counts, or nothing."""
    author, first = read[0].actor, read[0].seq
    before = [each for each in honest() if each.actor != author or each.last < first]
    doc = start()
    doc.apply(before)
    shown = state(doc)
    try:
        doc.apply(read)
    except CrdtError:
        assert state(doc) == shown
        return
    shown = state(doc)
    assert doc.apply(read) == [], "a repeat that does something"
    assert state(doc) == shown
    early = start()
    early.apply([*reversed(read), *before])
    require_same([doc, early])
    joined = start()
    joined.join(doc.snapshot())
    assert state(joined) == shown
    require_alive(doc)


def snapshot(raw: bytes) -> None:
    """A whole state: refused and nothing changed, or joined to one that goes on working."""
    doc = start()
    before, actors = state(doc), len(doc.actors)
    try:
        doc.join(raw)
    except CrdtError:
        assert state(doc) == before and len(doc.actors) == actors
        return
    shown = state(doc)
    assert doc.join(raw) == [] and state(doc) == shown
    try:
        fresh = Document.load(raw, actor="fresh")
    except CrdtError:
        assert shown == before, "let in here, and not there"  # its clock said that there is nothing new in it
        return
    assert state(Document.load(fresh.snapshot(), actor="again")) == state(fresh)
    require_alive(fresh)
    other = start()
    other.apply(honest())
    require_sound(other)
    other.join(doc.snapshot())
    require_alive(other)
    require_alive(doc)


def value(raw: bytes) -> None:
    """Canonical MessagePack: what one package lets pass the other does too, but for its stricter bounds."""
    try:
        check_packed(raw)
    except CrdtError:
        read: Any = None
        ours = False
    else:
        read = unpack(raw)
        ours = True
        assert pack(read) == raw
    try:
        other = decode_value(raw)
    except ValueRefused as refused:
        assert not ours or "in all" in refused.rule, refused
    else:
        assert ours, "let in by transport, not by crdt"
        assert repr(other) == repr(read) and encode_value(other) == raw


def json(raw: bytes) -> None:
    """JSON text, and a document of it."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return
    try:
        read = from_json(text)
    except InvalidValue:
        return
    try:
        doc = Document.from_json(text, actor="a")
    except CrdtError:
        return
    assert isinstance(read, dict)
    assert pack(from_json(doc.to_json())) == pack(doc.value)
    assert Document.from_json(doc.to_json(), actor="b").value == doc.value


def snapshots() -> list[bytes]:
    """Of all types, and of each by itself, so that one number changed hits something."""
    whole = start()
    out = [whole.snapshot(), Document("empty").snapshot()]
    late = start()
    late.apply(honest())
    out.append(late.snapshot())
    for seed in range(40):
        history = run(random_steps(random.Random(seed), 8, 3), replicas=3)
        history.settle()
        out.append(history.docs[0].snapshot())
    return out


def values() -> list[bytes]:
    some: tuple[Any, ...] = (
        None, True, 0, -1, 1 << 63, 1.5, "é" * 40, b"x" * 300, [1, [2, [3]]], {"a": {"b": [b""]}, "": None},
        [[]] * 20, list(range(200)), "k" * 70_000,
    )  # fmt: skip
    return [pack(each) for each in some]


def texts() -> list[bytes]:
    some = ({"a": [1, {"b": b"x"}], "é": float("inf")}, {"$dict": {"$bytes": ""}}, {"t": [[], {}, None, -0.0]}, {})
    return [to_json(each).encode() for each in some]
