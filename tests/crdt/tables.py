"""The tables of ``docs/values``: rows in plain words, and what they mean.

A row is ``before | A writes | B writes | both show``. Both see what is before; then each writes; then they meet. Writes
are in words, several behind each other with commas; ``–`` is nothing. A path (``hall.lamp``) goes before the word.

    +5   -2   -2 refused   give 4 to B          counter, bounded counter
    set x   = x                                 register or multi-value register, register
    add x   remove x                            set
    on   off                                    flag
    put x at 0   cut 2 at 0   move 0 to 2       list and text: insert, delete, move
    say x at 0                                  text, whatever the page's type
    delete                                      what is at the path, or all of it

What shows is written like JSON without quotes: ``{x, y}`` a set or what a multi-value register has, ``[x, y]`` a list,
``"x"`` a text, ``{a: 1}`` a map, ``–`` nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crdt import BoundExceeded, Change, Document
from crdt.map import Objects

FOLDER = Path(__file__).parents[2] / "docs" / "values"
TYPES = {
    "counter": "counter", "bounded-counter": "bounded", "register": "register", "multi-value": "multi", "set": "set",
    "flag": "flag", "map": "map", "list": "list", "text": "text",
}  # fmt: skip
NOTHING = "–"
KEY = "k"


@dataclass(frozen=True)
class Row:
    """One line of a table, and the type it speaks of."""

    page: str
    kind: str
    cells: tuple[str, str, str, str]


@dataclass(frozen=True)
class Price:
    """``| `words` | 9 |``: bytes of that write in a frame, behind one of its own kind."""

    page: str
    kind: str
    words: str
    size: int


def rows(page: str) -> list[Row]:
    return [each for each in _lines(page) if isinstance(each, Row)]


def prices(page: str) -> list[Price]:
    return [each for each in _lines(page) if isinstance(each, Price)]


def _lines(page: str) -> list[Row | Price]:
    """The tables of a page; in one below ``remove_wins=True`` or ``disable_wins=True`` it is that kind."""
    kind, found, table = TYPES[page], list[Row | Price](), ""
    for line in (FOLDER / f"{page}.md").read_text(encoding="utf-8").splitlines():
        cells = [each.strip() for each in line.strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            table = ""
            if wins := re.search(r"`(?:remove|disable)_wins=True`:$", line):
                kind = TYPES[page] + ("-remove-wins" if "remove" in wins[0] else "-disable-wins")
        elif not table:
            table = cells[0]
        elif table == "before" and not cells[0].startswith("-"):
            before, a, b, both = (each.strip("`") for each in cells)
            found.append(Row(page, kind, (before, a, b, both)))
        elif table == "write" and not cells[0].startswith("-"):
            found.append(Price(page, kind, cells[0].strip("`"), int(cells[1])))
    return found


def play(row: Row) -> list[str]:
    """What each sees at the end, however they meet."""
    before, a, b, _ = row.cells
    seen = []
    for order in ("changes", "reversed", "snapshots"):
        one, other = Document("A", lambda: 1), Document("B", lambda: 1)
        write(one, row.kind, before)
        other.apply(one.changes_since({}))
        write(one, row.kind, a)
        write(other, row.kind, b)
        docs = [one, other]
        if order == "reversed":
            docs.reverse()
        for source, target in (docs, docs[::-1]):
            if order == "snapshots":
                target.join(source.snapshot())
            else:
                changes = source.changes_since(target.clock)
                target.apply([Change.decode(each.encode()) for each in reversed(changes)])
        assert one.digest() == other.digest()
        seen += [shown(doc, row.kind) for doc in (one, other)]
    return seen


def price(given: Price) -> int:
    """Bytes of the second of two such writes."""
    made: list[Change] = []
    doc = Document("A", lambda: 1 << 40, made.append)
    write(doc, given.kind, given.words)
    write(doc, given.kind, given.words)
    return len(made[-1].item())


def shown(doc: Document, kind: str) -> str:
    value = doc.get(KEY)
    return NOTHING if value is None and KEY not in doc.live_keys() else written(value, kind)


def written(value: Any, kind: str = "") -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list):
        ends = "{}" if kind.startswith(("set", "multi")) else "[]"
        return ends[0] + ", ".join(written(each) for each in value) + ends[1]
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {written(each, _kind_of(key))}" for key, each in value.items()) + "}"
    if isinstance(value, str) and kind == "text":
        return f'"{value}"'
    return str(value)


def _kind_of(key: str) -> str:
    """Inside maps a key says by its name what is under it."""
    return {"tags": "set", "note": "text"}.get(key, "")


def write(doc: Document, kind: str, words: str) -> None:
    if words != NOTHING:
        for each in words.split(", "):
            _write(doc, kind, each)


WORDS = re.compile(
    r"(?:(?P<path>[a-z.]+) )??(?:(?P<sign>[+-])(?P<amount>\d+)(?P<refused> refused)?|give (?P<given>\d+) to (?P<to>\w+)"
    r"|(?P<assign>set|=) (?P<value>\w+)|(?P<turn>add|remove) (?P<element>\w+)|(?P<on>on|off)"
    r"|(?P<put>put|say) (?P<content>[\w ]+?) at (?P<at>\d+)|cut (?P<count>\d+) at (?P<start>\d+)"
    r"|move (?P<source>\d+) to (?P<goal>\d+)|(?P<delete>delete))"
)


def _write(doc: Document, kind: str, words: str) -> None:
    """One write. Raises ``ValueError`` for words that mean nothing."""
    said = WORDS.fullmatch(words)
    if said is None:
        raise ValueError(f"{words!r} means nothing")
    place: Objects = doc
    keys = [KEY, *said["path"].split(".")] if said["path"] else [KEY]
    for key in keys[:-1]:
        place = place.map(key)
    key = keys[-1]
    if said["delete"]:
        place.delete(key)
    elif said["amount"]:
        handle = place.bounded(key) if kind == "bounded" else place.counter(key)
        move = handle.increment if said["sign"] == "+" else handle.decrement
        try:
            move(int(said["amount"]))
        except BoundExceeded:
            if not said["refused"]:
                raise
        else:
            if said["refused"]:
                raise ValueError(f"{words!r}: it was not refused")
    elif said["given"]:
        place.bounded(key).transfer(int(said["given"]), to=said["to"])
    elif said["assign"]:
        (place.multi if kind == "multi" else place.register)(key).set(said["value"])
    elif said["turn"]:
        members = place.set(key, remove_wins=kind == "set-remove-wins")
        (members.add if said["turn"] == "add" else members.discard)(said["element"])
    elif said["on"]:
        flag = place.flag(key, disable_wins=kind == "flag-disable-wins")
        (flag.enable if said["on"] == "on" else flag.disable)()
    elif said["put"]:
        sequence: Any = place.list(key) if kind == "list" and said["put"] == "put" else place.text(key)
        for offset, each in enumerate(said["content"].split() if kind == "list" else [said["content"]]):
            sequence.insert(int(said["at"]) + offset, each)
    elif said["count"]:
        start = int(said["start"])
        sequence = place.list(key) if kind == "list" else place.text(key)
        del sequence[start : start + int(said["count"])]
    else:
        place.list(key).move(int(said["source"]), int(said["goal"]))
