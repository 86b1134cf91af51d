"""The tables of docs/values.md are true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from crdt import Change, Document

PAGE = (Path(__file__).parents[2] / "docs" / "values.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (?:`(.*?)` )?\| `(.*?)` \| `(.*?)` \| `(.*?)` \|$", PAGE, flags=re.M)


def test_the_page_has_its_table() -> None:
    assert len(ROWS) == 22


@pytest.mark.parametrize(("first", "one", "other", "shown"), ROWS)
def test_a_line_of_the_page(first: str, one: str, other: str, shown: str) -> None:
    a, b = Document("a"), Document("b")
    exec(first, {"d": a})
    b.apply(a.changes_since({}))
    exec(one, {"d": a})
    exec(other, {"d": b})
    for source, target in ((a, b), (b, a)):
        target.apply([Change.decode(each.encode()) for each in source.changes_since(target.clock)])
    wanted = eval(shown)
    assert (a.value, b.value) == (wanted, wanted)
    assert a.digest() == b.digest()
