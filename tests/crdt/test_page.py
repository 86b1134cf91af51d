"""The pages of ``docs/values`` are true: their tables, their prices, their examples."""

from __future__ import annotations

import contextlib
import io
import re
from dataclasses import replace

import pytest

from tests.crdt.tables import FOLDER, TYPES, Row, play, price, prices, rows

PAGES = sorted(TYPES)
ROWS = [each for page in PAGES for each in rows(page)]


def test_every_type_has_its_page_and_its_rows() -> None:
    assert sorted(each.stem for each in FOLDER.glob("*.md")) == PAGES
    assert all(len(rows(page)) >= 5 and prices(page) for page in PAGES)
    assert {each.kind for each in ROWS} >= {"set", "set-remove-wins", "flag", "flag-disable-wins"}


@pytest.mark.parametrize("row", ROWS, ids=[f"{each.page}: {' | '.join(each.cells)}" for each in ROWS])
def test_a_row(row: Row) -> None:
    assert play(row) == [row.cells[-1]] * 6


@pytest.mark.parametrize("page", PAGES)
def test_a_wrong_row_fails(page: str) -> None:
    """The rows of a page with the ends of others are wrong, and words nobody knows are no row."""
    of_page = rows(page)
    for row, other in zip(of_page, [*of_page[1:], of_page[0]], strict=True):
        if other.cells[-1] != row.cells[-1]:
            assert play(row) != [other.cells[-1]] * 6
    with pytest.raises(ValueError, match="means nothing"):
        play(replace(of_page[0], cells=("shuffle", "–", "–", "–")))


@pytest.mark.parametrize("page", PAGES)
def test_the_bytes_of_a_write(page: str) -> None:
    for each in prices(page):
        assert price(each) == each.size, each.words


@pytest.mark.parametrize("page", [*PAGES, "../values"])
def test_the_examples_of_a_page(page: str) -> None:
    """Each block runs; what it prints is what stands behind ``# ->``."""
    text = (FOLDER / f"{page}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    assert blocks
    for block in blocks:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(block, page, "exec"), {})
        assert out.getvalue().splitlines() == re.findall(r"# -> (.*)", block)
