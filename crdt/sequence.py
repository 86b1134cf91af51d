"""What text and lists have in common: elements in the order of ``fugue``, named as every replica names them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from crdt import columns
from crdt.actors import ActorTable
from crdt.author import Author, Element
from crdt.causal import Clock, Names, Op, Path, Rows, Seen, Store, Thaw
from crdt.clock import INDEX_BITS, INDEX_MASK, Dot
from crdt.edits import RANGES_MAX, Erase, Place
from crdt.fugue import ROOT, Fugue, Hook
from crdt.purge import Purge, Range, level, removable
from crdt.spans import Span, Spans
from crdt.union import unite

if TYPE_CHECKING:
    from crdt.document import Document


class SequenceStore(Fugue, Store):
    """Elements in one order for all, see ``Fugue``.

    Join   of all elements; one shows while it shows on both sides, or where the other side has not seen it.
    Delta  an insertion or removal; a repeat is not applied twice, since clocks count operations.
    Source Weidner, Kleppmann 2023, arXiv:2305.00583; spans after Yjs.
    """

    __slots__ = ("authors", "hooked", "names", "spans")
    is_ordered = True
    _purge: ClassVar[type[Purge]]
    names: ActorTable

    def __init__(self) -> None:
        self.spans = Spans()
        self.authors: dict[int, Author] = {}
        self.hooked: dict[Hook, Span | list[Span]] = {}

    # -- what it shows -----------------------------------------------------------------------------------------------

    def content(self) -> Any:
        """All that shows, in order."""
        raise NotImplementedError

    def is_live(self) -> bool:
        return self.spans.live > 0

    def is_bottom(self) -> bool:
        return not self.authors

    def size(self) -> int:
        return self.spans.live

    def mark(self, names: ActorTable) -> Any:
        return self.content()

    def removed_count(self) -> int:
        return sum(span.size for span in self.spans if not span.live)

    def dots(self) -> Iterator[Dot]:
        for actor, author in self.authors.items():
            yield author.last << INDEX_BITS | actor

    # -- places ------------------------------------------------------------------------------------------------------

    def element_at(self, index: int) -> Element:
        """What shows at ``index``."""
        span, offset = self.spans.find(index)
        return span.first + (offset << INDEX_BITS)

    def index_of(self, element: Element) -> int:
        """How many elements show before ``element``."""
        span, offset = self.span(element)
        return self.spans.position(span) + (offset if span.live else 0)

    def element(self, actor: int, seq: int, offset: int) -> Element:
        """The element an operation put in, 0 if there is none."""
        author = self.authors.get(actor)
        number = 0 if author is None else author.number(seq, offset)
        return number and number << INDEX_BITS | actor

    def outside(self, element: Element) -> tuple[int, int, int]:
        """Actor, operation and offset of an element: what names it on every replica."""
        seq, offset, _ = self.authors[element & INDEX_MASK].outside(element >> INDEX_BITS)
        return element & INDEX_MASK, seq, offset

    def place(self, hook: Hook, doc: Document) -> Place:
        """``hook`` for the operation about to be written."""
        if hook == ROOT:
            return 0
        actor, number = hook >> 1 & INDEX_MASK, hook >> INDEX_BITS + 1
        author = self.authors[actor]
        if actor == doc.index and number == author.count and hook & 1:
            return doc.upcoming - author.last  # typing on
        seq, offset, width = author.outside(number)
        if actor != doc.index:
            doc.seen(())
            return [doc.refer(doc.actors.names[actor]), seq, offset << 1 | hook & 1]
        back = doc.upcoming - seq
        if hook & 1:
            return back if offset + 1 == width else [back, offset << 1 | 1]
        return [back, offset << 1] if offset else -back

    def hook_of(self, place: Place, dot: Dot, refs: Sequence[int]) -> Hook:
        """The hook a place names; what names nothing is the beginning."""
        actor, seq = dot & INDEX_MASK, dot >> INDEX_BITS
        if type(place) is int:
            author = self.authors.get(actor)
            if not place or author is None:
                return ROOT
            if place > 0:
                if seq - place == author.last and not author.has_gaps:
                    return author.count << INDEX_BITS + 1 | actor << 1 | 1
                number = author.before(seq - place + 1, 0)
                if author.before(seq - place, 0) == number or (author.has_gaps and not author.has(number)):
                    return ROOT
                return (number << INDEX_BITS | actor) << 1 | 1
            element, side = self.element(actor, seq + place, 0), 0
        elif len(place) == 2:  # type: ignore[arg-type]
            back, code = place  # type: ignore[misc]
            element, side = self.element(actor, seq - back, code >> 1), code & 1
        else:
            ref, seq, code = place  # type: ignore[misc]
            element, side = self.element(refs[ref], seq, code >> 1), code & 1
        return element << 1 | side if element else ROOT

    def ranges(self, index: int, count: int) -> list[tuple[int, int, int]]:
        """What shows from ``index`` on: actor, number of the first and of the last, in no special order."""
        span: Span | None
        span, offset = self.spans.find(index)
        if offset + count <= span.size:
            return self.named(span, offset, count)
        found: list[tuple[int, int, int]] = []
        while span is not None and count:
            if span.live:
                taken = min(count, span.size - offset)
                found += self.named(span, offset, taken)
                count -= taken
                offset = 0
            if count:
                span = self.spans.after(span)
        return found

    def named(self, span: Span, offset: int, count: int) -> list[tuple[int, int, int]]:
        """What elements of one live span are called: a slot of a list is called by its value."""
        number = (span.first >> INDEX_BITS) + offset
        return [(span.first & INDEX_MASK, number, number + count - 1)]

    def targets(self, ranges: list[tuple[int, int, int]], doc: Document) -> int | list[int]:
        """Ranges, sorted by actor, for the removal about to be written; those that touch become one."""
        own, upcoming = doc.index, doc.upcoming
        if len(ranges) == 1:
            actor, low, high = ranges[0]
            if actor == own and low == high:
                seq, offset, _ = self.authors[own].outside(low)
                if not offset:
                    return upcoming - seq
        doc.seen(())
        joined: list[list[int]] = []
        for actor, low, high in ranges:
            if joined and joined[-1][0] == actor and joined[-1][2] == low - 1:
                joined[-1][2] = high
            else:
                joined.append([actor, low, high])
        entries: list[tuple[int, int, int, int, int]] = []
        names = doc.actors.names
        for actor, low, high in joined:
            author = self.authors[actor]
            seq, offset, _ = author.outside(low)
            if low == high:
                last, end = seq, offset
            else:
                last, end, _ = author.outside(high)
            if actor == own:
                entries.append((0, upcoming - seq, offset, last - seq, end))
            else:
                entries.append((doc.refer(names[actor]) + 1, seq, offset, last - seq, end))
        entries.sort(key=_who)  # earlier operations of a transaction may have named actors in another order
        return [each for entry in entries for each in entry]

    def where(self, element: Element) -> Element:
        """The place that shows ``element``, if it shows."""
        return element

    # -- changing ----------------------------------------------------------------------------------------------------

    def places(self, actor: int, low: int, high: int) -> Iterator[tuple[int, int, int]]:
        """Where these elements are shown: actor, first and last number."""
        yield actor, low, high

    def erase(self, actor: int, low: int, high: int) -> None:
        """Remove elements."""
        for where in list(self.places(actor, low, high)):
            self.hide(*where)

    def remove(self, by: Dot, seen: Seen, rows: Rows) -> None:
        for actor, author in list(self.authors.items()):
            if actor == by & INDEX_MASK:
                self.erase(actor, 1, author.before(by >> INDEX_BITS, 0))
        for dot in seen:
            actor = dot & INDEX_MASK
            if actor in self.authors:
                self.erase(actor, 1, self.authors[actor].before((dot >> INDEX_BITS) + 1, 0))

    # -- whole states ------------------------------------------------------------------------------------------------

    def freeze(self, names: Names, *, live: bool) -> Any:
        return columns.shown(self, names) if live else columns.freeze(self, names)

    def thaw(self, plain: bytes, names: Thaw, depth: int) -> None:
        columns.thaw(self, columns.decode(plain, self.kind), names)

    def join(self, other: Any, mine: Clock, theirs: Clock) -> None:
        level(self, other, mine, theirs)
        self.unite(other)

    # -- forgetting --------------------------------------------------------------------------------------------------

    def garbage(self) -> Any:
        return [(actor, self._edges(actor, low, high)) for actor, low, high in removable(self)]

    def forgetting(self, found: Any, clock: Clock, path: Path, doc: Document) -> Iterator[tuple[Op, int]]:
        asked = sorted(self._between(*each) for each in found if each[0] in self.authors)
        left = [(actor, self._edges(actor, low, high)) for actor, low, high in removable(self, asked)]
        for at in range(0, len(left), RANGES_MAX):
            ranges = [self._between(*each) for each in left[at : at + RANGES_MAX]]
            ranges.sort(key=lambda each: (each[0] != doc.index, each))
            yield self._purge(path, self.targets(ranges, doc)), sum(high - low + 1 for _, low, high in ranges)

    def _edges(self, actor: int, low: int, high: int) -> tuple[int, int, int, int]:
        """Operation and offset of two elements: what they are called for good."""
        author = self.authors[actor]
        return *author.outside(low)[:2], *author.outside(high)[:2]

    def _between(self, actor: int, edges: tuple[int, int, int, int]) -> Range:
        seq, offset, last, end = edges
        author = self.authors[actor]
        return actor, author.before(seq, offset) + 1, author.before(last, end + 1)

    def referred(self) -> Iterable[Element]:
        """Elements that operations may name though they do not show where they are."""
        return ()

    def withdraw(self, actor: int, low: int, high: int) -> None:
        """These elements are about to be forgotten."""
        self.hide(actor, low, high)

    def renamed(self, name: Callable[[Element], Element]) -> None:
        """Elements are called otherwise from now on: 0, those that were forgotten."""

    def unite(self, other: SequenceStore) -> bool:
        """Take in the elements of ``other``, and hide what it hides. False, and nothing done, if both tell different
        histories of one actor."""
        return unite(self, other)

    def copy(self) -> Any:
        twin = type(self)()
        twin.names = self.names
        for actor, author in self.authors.items():
            other = twin.authors[actor] = Author()
            other.count, other.last, other.has_gaps = author.count, author.last, author.has_gaps
            other.seqs, other.starts, other.widths = author.seqs[:], author.starts[:], author.widths[:]
        twins: dict[Element, Span] = {}
        for span in self.spans:
            content = span.content
            twins[span.first] = Span(span.first, span.size, content and content[:], span.parent, span.live)
        spans = list(twins.values())
        for hook, each in self.hooked.items():
            twin.hooked[hook] = [twins[e.first] for e in each] if type(each) is list else twins[each.first]  # type: ignore[union-attr]
        twin.spans = Spans(spans)
        for span in sorted(spans, key=_first):
            twin.authors[span.first & INDEX_MASK].enter(span)
        return twin

    def memento(self, op: Any, dot: Dot, refs: Sequence[int]) -> Any:
        if isinstance(op, Erase):
            wheres = (w for each in op.ranges(self, dot, refs) for w in self.places(*each))
            return [(where[0], *piece) for where in wheres for piece in self.pieces(*where)]
        author = self.authors.get(dot & INDEX_MASK)
        return dot & INDEX_MASK, 0 if author is None else author.count

    def restore(self, memento: Any) -> None:
        if isinstance(memento, list):
            for piece in memento:
                self.show(*piece)
        else:
            self.cut(*memento)


def _who(entry: tuple[int, ...]) -> int:
    return entry[0]


def _first(span: Span) -> int:
    return span.first
