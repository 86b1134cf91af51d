"""Two sequences become one: the join of their trees."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from crdt.author import Author, Element
from crdt.clock import INDEX_BITS, INDEX_MASK, ONE
from crdt.spans import Span

if TYPE_CHECKING:
    from crdt.sequence import SequenceStore


def unite(mine: SequenceStore, other: SequenceStore) -> bool:
    """Take in the elements of ``other``, and hide what it hides. False, and nothing done, if both tell different
    histories of one actor."""
    missing: dict[int, tuple[list[Element], list[Span]]] = {}
    for actor, author in other.authors.items():
        own = mine.authors.get(actor) or Author()
        if not (own.is_prefix_of(author) or author.is_prefix_of(own)):
            return False
    for actor, author in other.authors.items():
        own = mine.authors.get(actor) or Author()
        known = own.count
        for span in author.spans:
            start = span.first >> INDEX_BITS
            if start > known:
                break
            if not span.live:
                mine.hide(actor, start, min(known, start + span.size - 1))
        if author.count > known:
            missing[actor] = _missing(author, actor, known)
            own.follow(author)
            mine.authors[actor] = own
    placed: dict[Element, None] = {}
    for _, spans in missing.values():
        for span in spans:
            chain = [span]
            while True:  # what it hangs on comes first
                on = chain[-1].parent >> 1
                lacking = missing.get(on & INDEX_MASK) if on else None
                if lacking is None or on < lacking[0][0]:
                    break
                chain.append(lacking[1][bisect_right(lacking[0], on) - 1])
                if chain[-1].first in placed:
                    break
            for new in reversed(chain):
                if new.first not in placed:
                    placed[new.first] = None
                    twin = Span(new.first, new.size, new.content, new.parent, new.live)
                    mine.attach(twin, mine.authors[new.first & INDEX_MASK])
    return True


def _missing(author: Author, actor: int, known: int) -> tuple[list[Element], list[Span]]:
    """The spans of ``author`` past ``known``; the first may be a part of one."""
    spans = []
    for span in author.spans:
        start = span.first >> INDEX_BITS
        if start > known:
            spans.append(span)
        elif start + span.size - 1 > known:
            held = known - start + 1
            first = (known + 1) << INDEX_BITS | actor
            content = span.content[held:] if span.live else None
            spans.append(Span(first, span.size - held, content, (first - ONE) << 1 | 1, span.live))
    return [span.first for span in spans], spans
