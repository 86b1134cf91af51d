"""Order that replicas agree on: Fugue, in spans. What text and lists have in common.

Source  Weidner, Kleppmann 2023, "The Art of the Fugue" (arXiv:2305.00583), Algorithm 1.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from crdt import columns
from crdt.actors import ActorTable
from crdt.author import Author, Element
from crdt.causal import Clock, Names, Op, Path, Rows, Seen, Store, Thaw
from crdt.clock import INDEX_BITS, INDEX_MASK, ONE, Dot
from crdt.edits import RANGES_MAX, Erase, Place
from crdt.purge import Purge, Range, common, level, removable
from crdt.spans import Span, Spans
from crdt.union import unite

if TYPE_CHECKING:
    from crdt.document import Document

Hook: TypeAlias = int  # where an element hangs: element << 1, plus 1 to the right of it; ROOT to the right of nothing
ROOT: Hook = 1
NOTHING = Span(0, 0, None, 0, live=False)
SPAN_MAX = 1024  # elements: putting one more at the end copies the span


class SequenceStore(Store):
    """Elements in one order for all; whole runs of them in spans.

    Order  Fugue: each element hangs to the left or to the right of another in a tree, and is read left ones first.
           Elements that hang at one place follow the names of their actors. So what two type beside each other at one
           place is never mixed, forwards or backwards.
    Join   of all elements; one shows while it shows on both sides, or where the other side has not seen it.
    Delta  an insertion or removal; a repeat is not applied twice, since clocks count operations.
    Cost   edit and index O(log n), typing on a fraction of a span; an edit in the middle of a span also moves the rest
           of its author's index of spans (4 us at 30,000); beside concurrent insertions at the very same place, a step
           a span of those. About 300 B a span. Removed elements stay as numbers,
           without content, until they are forgotten (``purge``).
    Source Weidner, Kleppmann 2023, arXiv:2305.00583; spans after Yjs.
    """

    __slots__ = ("authors", "hooked", "names", "spans")
    is_ordered = True
    _purge: ClassVar[type[Purge]]
    names: ActorTable

    def __init__(self) -> None:
        self.spans = Spans()
        self.authors: dict[int, Author] = {}
        # What hangs where: a list once there are two, in order. Not what follows inside of a span.
        self.hooked: dict[Hook, Sequence[Element]] = {}

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

    def span(self, element: Element) -> tuple[Span, int]:
        """The span of an element, and the offset there."""
        return self.authors[element & INDEX_MASK].span(element)

    def element(self, actor: int, seq: int, offset: int) -> Element:
        """The element an operation put in, 0 if there is none."""
        author = self.authors.get(actor)
        number = 0 if author is None else author.number(seq, offset)
        return number and number << INDEX_BITS | actor

    def outside(self, element: Element) -> tuple[int, int, int]:
        """Actor, operation and offset of an element: what names it on every replica."""
        seq, offset, _ = self.authors[element & INDEX_MASK].outside(element >> INDEX_BITS)
        return element & INDEX_MASK, seq, offset

    def hook(self, index: int) -> Hook:
        """Where an element put in at ``index`` hangs (Fugue, Algorithm 1)."""
        if index:
            span, offset = self.spans.find(index - 1)
            element = span.first + (offset << INDEX_BITS)
            if offset + 1 < span.size:
                return (element + ONE) << 1
            right = element << 1 | 1
            if right not in self.hooked:
                return right
            following = self.spans.after(span)
        else:
            right, following = ROOT, self.spans.first()
            if following is None:
                return ROOT
        assert following is not None, "what hangs to the right of an element follows it"
        return following.first << 1 if following.live else self._past_hidden(right, following)

    def _past_hidden(self, right: Hook, following: Span) -> Hook:
        """``hook`` where hidden elements follow. Those on which nothing hangs that shows are as if they were not there,
        so that they can be forgotten once everybody has seen it (``purge``). O(hidden spans that follow)."""
        hidden: dict[Span, None] = {}
        visible: Span | None = following
        while visible is not None and not visible.live:
            hidden[visible] = None
            visible = self.spans.after(visible)
        if visible is None or self._within(right, hidden) is not None:
            return right
        span = following
        while not span.live:
            last = self._within(span.first + (span.size - 1 << INDEX_BITS) << 1 | 1, hidden)
            if last is None:
                break
            after = self.spans.after(span if last is NOTHING else last)
            assert after is not None, "something that shows follows"
            span = after
        return span.first << 1

    def _within(self, hook: Hook, hidden: dict[Span, None]) -> Span | None:
        """The last span of all that hangs at ``hook``, ``NOTHING`` if nothing does; ``None`` if not all are hidden."""
        last = NOTHING
        while hook in self.hooked:
            last, _ = self.span(self.hooked[hook][-1])
            if last not in hidden:
                return None
            hook = last.first + (last.size - 1 << INDEX_BITS) << 1 | 1
        return last

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
        entries.sort(key=lambda each: (each[0], each[1] if each[0] else -each[1], each[2]))
        return [each for entry in entries for each in entry]

    def where(self, element: Element) -> Element:
        """The place that shows ``element``, if it shows."""
        return element

    # -- changing ----------------------------------------------------------------------------------------------------

    def insert(self, dot: Dot, content: Any, hook: Hook) -> Span:
        """Operation ``dot`` puts ``content`` in at ``hook``."""
        actor = dot & INDEX_MASK
        author = self.authors.get(actor)
        if author is None:
            author = self.authors[actor] = Author()
        size = len(content)
        first = author.begin(dot >> INDEX_BITS, size) << INDEX_BITS | actor
        if hook == (first - ONE) << 1 | 1 and hook != ROOT:
            span = author.spans[-1]
            if span.live and span.size < SPAN_MAX and hook not in self.hooked:
                self.spans.grow(span, content, size)
                return span
        span = Span(first, size, content, hook)
        self.attach(span, author)
        return span

    def attach(self, new: Span, author: Author) -> None:
        """Find the place of a span by where it hangs."""
        hook, spans = new.parent, self.spans
        host: Span | None = None
        if hook != ROOT:
            host, offset = self.span(hook >> 1)
            if hook & 1:
                if offset + 1 < host.size:
                    self.split(host, offset + 1)
            elif offset:
                host = self.split(host, offset)
        siblings = self.hooked.get(hook)
        if siblings is None:
            self.hooked[hook] = (new.first,)
            at, count = (0 if hook & 1 else 1), 1
        else:
            if type(siblings) is tuple:
                siblings = self.hooked[hook] = list(siblings)
            at, count = bisect_right(siblings, self.rank(new.first), key=self.rank), len(siblings)
        if hook & 1:
            if at:
                spans.insert_after(self._rightmost(siblings[at - 1]), new)  # type: ignore[index]
            elif host is None:
                spans.insert_first(new)
            else:
                spans.insert_after(host, new)
        elif at < count:
            spans.insert_before(self._leftmost(siblings[at]), new)  # type: ignore[index]
        else:
            assert host is not None
            spans.insert_before(host, new)
        if siblings is not None:
            siblings.insert(at, new.first)  # type: ignore[attr-defined]
        author.enter(new)

    def rank(self, element: Element) -> tuple[bytes, int]:
        """Order of elements that hang at one place."""
        return self.names.names[element & INDEX_MASK].encode(), element >> INDEX_BITS

    def _rightmost(self, element: Element) -> Span:
        """The last span of all that hangs on ``element``, which begins a span."""
        hooked = self.hooked
        while True:
            span, _ = self.span(element)
            right = hooked.get(span.first + (span.size - 1 << INDEX_BITS) << 1 | 1)
            if right is None:
                return span
            element = right[-1]

    def _leftmost(self, element: Element) -> Span:
        """The first span of all that hangs on ``element``."""
        hooked = self.hooked
        while True:
            left = hooked.get(element << 1)
            if left is None:
                return self.span(element)[0]
            element = left[0]

    def split(self, span: Span, size: int) -> Span:
        """Cut ``span`` after ``size`` elements. Returns the right part."""
        first = span.first + (size << INDEX_BITS)
        hook = (first - ONE) << 1 | 1
        content = span.content
        live = span.live
        right = Span(first, span.size - size, content[size:] if live else None, hook, live)
        self.hooked[hook] = (first,)
        self.spans.split(span, right, content[:size] if live else None)
        self.authors[first & INDEX_MASK].enter(right)
        return right

    def hide(self, actor: int, low: int, high: int) -> None:
        """Let the elements ``low`` to ``high`` of ``actor`` show no more."""
        author = self.authors.get(actor)
        if author is None or low > high:
            return
        spans = author.spans
        at = max(0, bisect_right(author.firsts, low << INDEX_BITS | actor) - 1)
        while at < len(spans):
            span = spans[at]
            start = span.first >> INDEX_BITS
            if start > high:
                break
            if span.live and start + span.size > low:
                if self._shift(author, at, low - start, start + span.size - 1 - high):
                    at += 1
                    continue
                if start < low:
                    span = self.split(span, low - start)
                    start = low
                    at += 1
                if start + span.size - 1 > high:
                    self.split(span, high - start + 1)
                self.spans.hide(span)
                if at + 1 < len(spans):
                    self._melt(author, at)
                if at and self._melt(author, at - 1):
                    at -= 1
            at += 1

    def _shift(self, author: Author, at: int, kept: int, left: int) -> bool:
        """Hide one end of a live span where the next one of its run is hidden already: the border moves, nothing is
        made. ``kept``: elements before what is to be hidden; ``left``: those behind it."""
        spans, hooked = author.spans, self.hooked
        span = spans[at]
        if kept > 0 >= left and at + 1 < len(spans):
            dead = spans[at + 1]
            hook = dead.parent
            if (
                not dead.live and hook == span.first + (span.size - 1 << INDEX_BITS) << 1 | 1
                and dead.first == span.first + (span.size << INDEX_BITS) and len(hooked[hook]) == 1 and dead.first << 1 not in hooked
            ):  # fmt: skip
                size = span.size - kept
                del hooked[hook]
                first = dead.first = author.firsts[at + 1] = dead.first - (size << INDEX_BITS)
                dead.size += size
                dead.parent = hook = (first - ONE) << 1 | 1
                hooked[hook] = (first,)
                self.spans.trim(span, span.content[:kept])
                return True
        elif left > 0 >= kept and at:
            dead = spans[at - 1]
            hook = span.parent
            if (
                not dead.live and hook == dead.first + (dead.size - 1 << INDEX_BITS) << 1 | 1
                and span.first == dead.first + (dead.size << INDEX_BITS) and len(hooked[hook]) == 1 and span.first << 1 not in hooked
            ):  # fmt: skip
                size = span.size - left
                del hooked[hook]
                first = span.first = author.firsts[at] = span.first + (size << INDEX_BITS)
                dead.size += size
                span.parent = hook = (first - ONE) << 1 | 1
                hooked[hook] = (first,)
                self.spans.trim(span, span.content[size:])
                return True
        return False

    def _melt(self, author: Author, at: int) -> bool:
        """Make one of two hidden spans that are one run again, if nothing else hangs between them."""
        left, right = author.spans[at], author.spans[at + 1]
        hook = left.first + (left.size - 1 << INDEX_BITS) << 1 | 1
        if (
            left.live or right.live or right.parent != hook or len(self.hooked[hook]) > 1
            or right.first << 1 in self.hooked or right.first != left.first + (left.size << INDEX_BITS)
        ):  # fmt: skip
            return False
        del self.hooked[hook], author.firsts[at + 1], author.spans[at + 1]
        self.spans.remove(right)
        left.size += right.size
        return True

    def pieces(self, actor: int, low: int, high: int) -> Iterator[tuple[int, int, Any]]:
        """What shows of these elements: numbers of first and last, content."""
        author = self.authors.get(actor)
        if author is None or low > high:
            return
        for at in range(max(0, bisect_right(author.firsts, low << INDEX_BITS | actor) - 1), len(author.spans)):
            span = author.spans[at]
            start = span.first >> INDEX_BITS
            if start > high:
                break
            begin, end = max(low, start), min(high, start + span.size - 1)
            if span.live and begin <= end:
                yield begin, end, span.content[begin - start : end - start + 1]

    def show(self, actor: int, low: int, high: int, content: Any) -> None:
        """Undo ``hide`` of a piece."""
        author = self.authors[actor]
        span, offset = author.span(low << INDEX_BITS | actor)
        if offset:
            span = self.split(span, offset)
        if span.size > high - low + 1:
            self.split(span, high - low + 1)
        self.spans.show(span, content)

    def cut(self, actor: int, count: int) -> None:
        """Undo the insertions past the first ``count`` elements of ``actor``. Nothing hangs on them."""
        author = self.authors[actor]
        while author.spans and author.spans[-1].first >> INDEX_BITS > count:
            span = author.spans.pop()
            author.firsts.pop()
            siblings = [each for each in self.hooked.pop(span.parent) if each != span.first]
            if siblings:
                self.hooked[span.parent] = siblings
            self.spans.remove(span)
        if author.count > count and author.spans:
            span = author.spans[-1]
            self.spans.shrink(span, (span.first >> INDEX_BITS) + span.size - 1 - count)
        author.cut(count)
        if not count:
            del self.authors[actor]

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
        found = [each for each in found if each[0] in self.authors]
        for at in range(0, len(found), RANGES_MAX):
            ranges = common(removable(self), [self._between(*each) for each in found[at : at + RANGES_MAX]])
            ranges.sort(key=lambda each: (each[0] != doc.index, each))
            if ranges:
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
        twin.hooked = {hook: each if type(each) is tuple else list(each) for hook, each in self.hooked.items()}
        spans = []
        for actor, author in self.authors.items():
            other = twin.authors[actor] = Author()
            other.count, other.last, other.has_gaps = author.count, author.last, author.has_gaps
            other.seqs, other.starts, other.widths = author.seqs[:], author.starts[:], author.widths[:]
        for span in self.spans:
            content = span.content
            spans.append(Span(span.first, span.size, content and content[:], span.parent, span.live))
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


def _first(span: Span) -> int:
    return span.first
