"""Laws every replicated value obeys, written once. They take states that were reached, as snapshots."""

from __future__ import annotations

from crdt import Document


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
