"""Bytes that may never change: every operation, a snapshot, a digest. Nodes of different versions live on one mesh.

The tables of docs/wire.md are written from these.
"""

from __future__ import annotations

from collections.abc import Callable

from crdt import Change, Document
from crdt.causal import OPERATIONS

Step = tuple[str, Callable[[Document], object], str]

STEPS: list[Step] = [
    (
        "the first one names its dependencies",
        lambda a: a.counter("hits").increment(3),
        "949200090a919301a4686974730391a3626f62",
    ),
    ("increment, negative", lambda a: a.counter("hits").decrement(1), "930001919301a468697473ff"),
    ("grant", lambda a: a.bounded("quota").increment(10), "930001919302a571756f74610a"),
    ("spend", lambda a: a.bounded("quota").decrement(2), "930001919302a571756f7461fe"),
    ("transfer", lambda a: a.bounded("quota").transfer(4, to="bob"), "940001919403a571756f7461040091a3626f62"),
    ("write", lambda a: a.register("title").set("new"), "940001919404a57469746c65c404a36e657792000791a3626f62"),
    (
        "multi",
        lambda a: a.multi("m").set([1.5, {"k": True}]),
        "940001919405a16dc40e92cb3ff800000000000081a16bc392000691a3626f62",
    ),
    ("add", lambda a: a.set("tags").add("x"), "940001919506a474616773c402a178c392000291a3626f62"),
    ("discard", lambda a: a.set("tags").discard("x"), "930001919506a474616773c402a178c290"),
    (
        "add, remove-wins",
        lambda a: a.set("barred", remove_wins=True).add(b"\x00"),
        "930001919507a6626172726564c403c40100c390",
    ),
    (
        "discard, remove-wins",
        lambda a: a.set("barred", remove_wins=True).discard(1),
        "940001919507a6626172726564c40101c292000391a3626f62",
    ),
    ("disable", lambda a: a.flag("on").disable(), "940001919408a26f6ec292000491a3626f62"),
    (
        "disable, disable-wins",
        lambda a: a.flag("off", disable_wins=True).disable(),
        "940001919409a36f6666c292000591a3626f62",
    ),
    (
        "write below two maps",
        lambda a: a.map("lights").map("hall").__setitem__("lamp", "on"),
        "93000191940493a66c6967687473a468616c6ca46c616d70c403a26f6e90",
    ),
    ("type", lambda a: a.text("page").insert(0, "hé"), "93000191940ba47061676500a368c3a9"),
    ("type on", lambda a: a.text("page").insert(2, "y"), "93000191940ba47061676501a179"),
    (
        "type before what another wrote",
        lambda a: a.text("poem").insert(1, "!"),
        "94000191940ba4706f656d93000802a12191a3626f62",
    ),
    ("type left of one's own", lambda a: a.text("page").insert(1, "-"), "93000191940ba470616765920302a12d"),
    ("erase the own first", lambda a: a.text("page").delete(0), "93000191930ca47061676504"),
    (
        "erase a range of another and one's own",
        lambda a: a.text("poem").delete(0, 3),
        "94000191930ca4706f656d9a0003000000010800000191a3626f62",
    ),
    ("append", lambda a: a.list("todo").append({"k": 1}), "94000191940da4746f646f9300090191c40481a16b0191a3626f62"),
    ("insert", lambda a: a.list("todo").insert(1, None), "93000191940da4746f646fff91c401c0"),
    ("move another's", lambda a: a.list("todo").move(0, 2), "94000191950fa4746f646f02930109000191a3626f62"),
    ("move one's own", lambda a: a.list("todo").move(1, 0), "94000191950fa4746f646f93000900930003000191a3626f62"),
    ("remove from a list", lambda a: a.list("todo").pop(1), "93000191930ea4746f646f03"),
    (
        "delete, with a counter's totals",
        lambda a: a.delete("hits"),
        "94000191940aa468697473920001919390a7636f756e746572919300010591a3626f62",
    ),
]
HOUSEKEEPING = [
    "930001919320a46869747302",
    "94000191940aa4686974739200019091a3626f62",
    "93000191940aa571756f74619090",
    "930001919321a571756f746101",
    "93000191940aa571756f74619090",
    "940001919422a571756f7461000091a3626f62",
    "93000191940aa571756f74619090",
    "94000191940aa4706f656d9200089091a3626f62",
    "94000191940aa4746f646f9200099091a3626f62",
    "93000191932da0c3",
    "94000191932ca092000991a3626f62",
    "930001919329a36f666692000d",
    "94000191932aa46869747394001b010191a3626f62",
    "94000191932ea4706f656d9a0017000000010800000291a3626f62",
    "94000191932fa4746f646f9a0014000300010900000091a3626f62",
    "93000191932ba571756f7461920020",
    "930001919328a662617272656492000b",
]
STANDALONE = "9501a3616e6e010a949200090a919301a4686974730391a3626f62"
SNAPSHOT = (
    "970292a3616e6ea3626f62922b09920100c3349593a16da56d756c74699194000710c40e92cb3ff800000000000081a16bc393a470616765a4"
    "7465787495919200960f02010102019301040293ff010293010600a42dc3a97993a57469746c65a87265676973746572919400060fc404a3"
    "6e657793a6626172726564af7365742d72656d6f76652d77696e73929291c403c4010092000a92909093a66c6967687473a36d61709193a4"
    "68616c6ca36d61709193a46c616d70a872656769737465729194000e17c403a26f6e"
)
DIGEST = "38ef886a2ecfd050914c29c67f2ff343"


def told() -> Document:
    """Somebody who has seen one object of most types, by "bob"."""
    ann, bob = Document("ann"), Document("bob")
    bob.counter("hits").increment(5)
    bob.set("tags").add("x")
    bob.set("barred", remove_wins=True).add(1)
    bob.flag("on").enable()
    bob.flag("off", disable_wins=True).enable()
    bob.multi("m").set(None)
    bob.register("title").set("old")
    bob.text("poem").insert(0, "ode")
    bob.list("todo").append("milk")
    ann.apply(bob.changes_since({}))
    return ann


def keep_house(ann: Document) -> None:
    """All operations that forget, and what comes before them."""
    ann.counter("hits").increment(2)
    ann.delete("hits")
    ann.delete("quota")
    ann.bounded("quota").increment(1)
    ann.delete("quota")
    ann.bounded("quota").transfer(0, to="bob")
    ann.delete("quota")
    ann.delete("poem")
    ann.delete("todo")
    ann.collect()
    ann.retire("bob")
    ann.collect()


def test_bytes_are_what_they_were() -> None:
    ann, made = told(), list[Change]()
    ann.on_change = made.append
    for name, step, item in STEPS:
        step(ann)
        assert (name, made[-1].item().hex()) == (name, item)
    keep_house(ann)
    assert [change.item().hex() for change in made[len(STEPS) :]] == HOUSEKEEPING
    assert {type(op) for change in made for op in change.ops} == set(OPERATIONS.values()), (
        "an operation without a vector"
    )
    assert made[0].encode().hex() == STANDALONE
    assert ann.snapshot().hex() == SNAPSHOT
    assert ann.digest() == DIGEST


def test_additions_that_follow_each_other_are_packed() -> None:
    doc, made = Document("ann"), list[Change]()
    doc.on_change = made.append
    with doc.transaction():
        for each in (1, "x", None):
            doc.set("s").add(each)
        doc.set("s").discard(1)
        doc.set("t").add(2)
    assert made[0].item().hex() == "9300019394" + "10a17303c40401a178c0" + "9506a173c40101c2909506a174c40102c390"
    twin = Document("bob")
    twin.apply([Change.decode(made[0].encode())])
    assert twin.digest() == doc.digest() and made[0].count == 5 and twin.clock == doc.clock
    assert Change.decode(made[0].encode()).item() == made[0].item()


def test_old_bytes_are_read_as_they_were_meant() -> None:
    ann, made = told(), list[Change]()
    ann.on_change = made.append
    for _, step, _ in STEPS:
        step(ann)
    keep_house(ann)
    items = [*(item for _, _, item in STEPS), *HOUSEKEEPING]
    body = b"\xdc" + len(items).to_bytes(2, "big") + b"".join(map(bytes.fromhex, items))
    assert Change.from_items("ann", 1, made[0].hlc, body, len(items)) == made
    assert Document.load(bytes.fromhex(SNAPSHOT), actor="cyd").value == ann.value
