"""The first part of real editing sessions, letter by letter, by one and by several; ``bench.crdt`` replays all."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from bench.crdt import Ours, schedule
from crdt import Change, Document
from tests.laws import require_same, require_sound

TRACES = Path(__file__).parent / "traces"


def trace(name: str) -> Any:
    with gzip.open(TRACES / f"{name}.json.gz") as file:
        return json.load(file)


@pytest.mark.parametrize("name", ["sveltecomponent", "json-crdt-patch"])
def test_one_writer(name: str) -> None:
    read = trace(name)
    writer = Ours("a")
    writer.edit([(0, 0, read["startContent"])])
    for txn in read["txns"]:
        writer.edit(txn["patches"])
    assert str(writer.text) == read["endContent"]
    reader = Document("b")
    reader.apply([Change.decode(each) for each in writer.made])
    loaded = Document.load(writer.doc.snapshot(), actor="c")
    for doc in (writer.doc, reader, loaded):
        require_sound(doc)
    require_same([writer.doc, reader, loaded])


@pytest.mark.parametrize("name", ["friendsforever", "clownschool"])
def test_several_writers_live(name: str) -> None:
    """Each transaction is made on exactly what its author had seen; all end with what pycrdt ends with, whoever sorts
    first."""
    txns = trace(name)["txns"]
    plan = schedule(txns)
    sides = {agent: Ours(chr(97 + agent)) for agent in sorted({txn["agent"] for txn in txns})}
    made: list[bytes] = []
    for at, agent, needed in plan:
        me = sides[agent]
        for each in needed:
            me.take(made[each])
        me.edit(txns[at]["patches"])
        made.append(me.made[-1])
        if at == 1000:
            me.doc.join(Document.load(me.doc.snapshot(), actor="x").snapshot())
    last = Document("z")
    last.apply([Change.decode(each) for each in reversed(made)])
    docs = [last, *(side.doc for side in sides.values())]
    for doc in docs:
        doc.apply([Change.decode(each) for each in made])
        require_sound(doc)
    require_same(docs)
    assert last.text("t").value == trace(name)["endContent"]
    one, other = docs[1], docs[2]
    joined = Document.load(one.snapshot(), actor="y")
    joined.join(other.snapshot())
    require_same([joined, last])
