"""Laws every replicated value obeys, written once. They take states that were reached, as snapshots."""

from __future__ import annotations

from typing import Any

from crdt import Document
from crdt.clock import INDEX_MASK
from crdt.map import MapStore


def joined(*snapshots: bytes) -> Document:
    """A fresh observer that joined them in this order."""
    doc = Document("observer")
    for each in snapshots:
        doc.join(each)
    return doc


def require_join_laws(one: bytes, other: bytes, third: bytes) -> None:
    """Join is commutative, associative and idempotent, and goes only up."""
    assert state(joined(one, other)) == state(joined(other, one)), "not commutative"
    left = joined(joined(one, other).snapshot(), third)
    right = joined(one, joined(other, third).snapshot())
    assert state(left) == state(right), "not associative"
    assert state(joined(one, one)) == state(joined(one)), "not idempotent"
    assert state(joined(one, joined(one, other).snapshot())) == state(joined(one, other)), "absorption"
    assert joined(one, other).clock == joined(one).clock.join(joined(other).clock), "the clock of a join"


def require_sound(doc: Document) -> None:
    """Every text and list of it is one tree, read in order, with the right counts and no element lost or doubled."""
    from crdt import columns
    from crdt.sequence import SequenceStore

    def look(node: Any) -> None:
        for store in node.stores():
            if isinstance(store, MapStore):
                look(store)
            elif isinstance(store, SequenceStore):
                spans = list(store.spans)
                assert [id(each) for each in columns.in_order(store.hooked)] == [id(each) for each in spans]
                assert store.spans.live == sum(each.size for each in spans if each.live) == len(store.content())
                assert all((each.content is not None) is each.live for each in spans)
                assert all(len(each.content) == each.size for each in spans if each.live)
                for actor, author in store.authors.items():
                    mine = sorted((each for each in spans if each.first & INDEX_MASK == actor), key=lambda e: e.first)
                    assert [id(each) for each in author.spans] == [id(each) for each in mine]
                    assert author.firsts == [each.first for each in mine]
                    total = sum(each.size for each in mine)
                    assert total < author.count if author.has_gaps else total == author.count
                for index in range(store.spans.live):
                    assert store.index_of(store.element_at(index)) == index

    look(doc._root)


def require_same(docs: list[Document]) -> None:
    """Equal clocks mean equal states: values, digests, and canonical bytes but for the stamp."""
    first = state(docs[0])
    for each in docs[1:]:
        assert each.clock == docs[0].clock
        assert state(each) == first


def state(doc: Document) -> tuple[object, ...]:
    """All there is to compare of a document, what removals left behind included."""
    from crdt import snapshot

    raw = snapshot.write(doc._root, doc.actors, doc._clock, 0)
    return raw, doc.digest(), repr(doc.value)
