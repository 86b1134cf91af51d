"""Removed elements of a sequence, forgotten for good.

*Removable* is a removed element on which nothing hangs, near or far, that shows. Removable ones are there for whoever
might still hang something on them. Whoever has seen a ``Mark`` does not: from then on a place is chosen as if they were
not there (``Fugue.hook``). Who had not may have done so, but that is here once everybody has answered (``garbage``). So
what was removable at the census and has nothing new hanging on it, shown or not, will never be named again, and may go.
What still holds up something stays, as a run of numbers.

What is left looks as if an operation of which nothing is left had never put anything in here: numbers close up behind
it, so that they are the same whether a later operation came before the purge or after it.

One writer may not have seen it: who had never been heard of, with an old copy of the state. What it hangs on a
forgotten element is read as if put into an empty sequence, whichever came first: misplaced, but the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from crdt import columns
from crdt.author import Author, Element
from crdt.causal import Clock
from crdt.clock import INDEX_BITS, INDEX_MASK, Dot
from crdt.edits import OFFSET_MAX, Erase
from crdt.spans import Span, Spans

if TYPE_CHECKING:
    from crdt.sequence import SequenceStore

Range: TypeAlias = tuple[int, int, int]  # actor, number of the first and of the last
ROOT = columns.ROOT


class Purge(Erase):
    """Forget removed elements, for good."""

    shows: ClassVar[bool] = False

    def perform(self, store: Any, dot: Dot, refs: Sequence[int], stamp: int) -> None:
        purge(store, list(self.ranges(store, dot, refs)))


def removable(store: SequenceStore, among: Iterable[Range] | None = None) -> list[Range]:
    """What may go once everybody has seen it as it is here: sorted ranges. Of those in ``among`` alone, if given: then
    nothing goes on which anything else hangs, be it removed too. O(spans)."""
    asked: dict[int, list[Range]] | None = None
    if among is not None:
        asked = {}
        for each in among:
            asked.setdefault(each[0], []).append(each)
    needed: dict[Span, int] = {}  # how many elements, from the first on

    def need(span: Span, count: int) -> None:
        while count > (held := needed.get(span, 0)):
            needed[span] = count
            if held or span.parent == ROOT:
                return
            span, offset = store.span(span.parent >> 1)
            count = offset + 1

    for span in store.spans:
        if span.live:
            need(span, span.size)
        elif asked is not None:
            need(span, _unasked(span, asked))
    for element in store.referred():
        span, offset = store.span(element)
        need(span, offset + 1)
    found = []
    for actor, author in store.authors.items():
        for span in author.spans:
            kept = needed.get(span, 0)
            if not span.live and kept < span.size:
                start = span.first >> INDEX_BITS
                found.append((actor, start + kept, start + span.size - 1))
    return found


def _unasked(span: Span, asked: dict[int, list[Range]]) -> int:
    """How many elements of ``span`` there are up to the last one that is in none of these ranges, sorted by actor."""
    start = span.first >> INDEX_BITS
    last = start + span.size - 1
    for _, low, high in reversed(asked.get(span.first & INDEX_MASK, ())):
        if high < last:
            break
        last = min(last, low - 1)
    return max(0, last - start + 1)


def purge(store: SequenceStore, ranges: Iterable[Range]) -> None:
    """Forget those elements in ``ranges`` that do not show. O(spans), and nothing if there are none."""
    gone = _gone(store, ranges)
    if not gone:
        return
    kept = [span for span in store.spans if span not in gone]
    ends = {span.first + (span.size - 1 << INDEX_BITS) for span in gone} | {span.first for span in gone}
    is_moved = False
    for span in kept:
        if span.parent != ROOT and span.parent >> 1 in ends:
            span.parent, is_moved = ROOT, True
    renamed = _renumber(store, kept, {span.first & INDEX_MASK for span in gone})
    for span in kept:
        span.first = renamed(span.first)
        if span.parent != ROOT:
            span.parent = renamed(span.parent >> 1) << 1 | span.parent & 1
    hooked: dict[int, Any] = {}
    for span in kept:
        hooked.setdefault(span.parent, []).append(span)
    for hook, each in hooked.items():
        hooked[hook] = each[0] if len(each) == 1 else sorted(each, key=store.rank)
    store.hooked = hooked
    store.spans = Spans(columns.in_order(hooked) if is_moved else kept)
    for author in store.authors.values():
        author.firsts, author.spans = [], []
    for span in sorted(kept, key=_first):
        store.authors[span.first & INDEX_MASK].enter(span)

    def name(element: Element) -> Element:
        new = renamed(element)
        return new if new and store.authors[new & INDEX_MASK].has(new >> INDEX_BITS) else 0

    store.renamed(name)


def _gone(store: SequenceStore, ranges: Iterable[Range]) -> dict[Span, None]:
    """The hidden spans in ``ranges``, cut out of what they are part of."""
    found: dict[Span, None] = {}
    for actor, low, high in ranges:
        author = store.authors.get(actor)
        while author is not None and low <= high:
            at = author.at(low << INDEX_BITS | actor)
            span = author.spans[at]
            start = span.first >> INDEX_BITS
            end = start + span.size - 1
            if end < low:  # not there
                if at + 1 == len(author.spans):
                    break
                low = author.spans[at + 1].first >> INDEX_BITS
                continue
            if start > high:
                break
            if not span.live:
                if start < low:
                    span = store.split(span, low - start)
                if end > high:
                    store.split(span, high - low + 1 if start < low else high - start + 1)
                found[span] = None
            low = end + 1
    return found


def _renumber(store: SequenceStore, kept: list[Span], actors: set[int]) -> Callable[[Element], Element]:
    """Close the numbers of these actors up. Returns what an element is called from now on; one that is gone, 0 or what
    it would be called."""
    old = {actor: store.authors.pop(actor) for actor in sorted(actors)}
    new: dict[int, Author] = {}
    present: dict[int, list[Span]] = {}
    for span in sorted(kept, key=_first):
        if span.first & INDEX_MASK in old:
            present.setdefault(span.first & INDEX_MASK, []).append(span)
    for actor, spans in present.items():
        author, count = Author(), 0
        for span in spans:
            low = span.first >> INDEX_BITS
            for seq, width, times in old[actor].operations(low, low + span.size - 1):
                if seq + times - 1 > author.last:
                    author.repeat(max(seq, author.last + 1), width, times - max(0, author.last + 1 - seq))
            count += span.size
        author.has_gaps = count < author.count
        store.authors[actor] = new[actor] = author

    def renamed(element: Element) -> Element:
        actor = element & INDEX_MASK
        if actor not in old:
            return element
        if actor not in new:
            return 0
        seq, offset, _ = old[actor].outside(element >> INDEX_BITS)
        number = new[actor].number_of(seq, offset)
        return number and number << INDEX_BITS | actor

    return renamed


# -- joins -------------------------------------------------------------------------------------------------------------


def level(mine: SequenceStore, other: SequenceStore, my_clock: Clock, their_clock: Clock) -> None:
    """Forget on each side what the other one has forgotten: what it has seen, and has no more."""
    here, there = [], []
    for actor in dict.fromkeys((*mine.authors, *other.authors)):
        one, two = mine.authors.get(actor), other.authors.get(actor)
        seen_here = my_clock[actor] if actor < len(my_clock) else 0
        seen_there = their_clock[actor] if actor < len(their_clock) else 0
        if not _is_level(one, two, seen_here, seen_there):
            ours, theirs = _names(one), _names(two)
            here += [(actor, name) for name in sorted(ours - theirs) if name // OFFSET_MAX <= seen_there]
            there += [(actor, name) for name in sorted(theirs - ours) if name // OFFSET_MAX <= seen_here]
    for store, lost in ((mine, here), (other, there)):
        if lost:
            ranges = _ranges(store, lost)
            for each in ranges:
                store.withdraw(*each)
            purge(store, ranges)


def _is_level(one: Author | None, two: Author | None, seen_by_one: int, seen_by_two: int) -> bool:
    """Whether it is plain that neither has forgotten anything that the other has."""
    if one is None or two is None:
        author, seen = (two, seen_by_one) if one is None else (one, seen_by_two)
        return author is None or author.seqs[0] > seen
    if one.has_gaps or two.has_gaps:
        return False
    longer, shorter, seen = (one, two, seen_by_two) if one.count > two.count else (two, one, seen_by_one)
    return shorter.is_prefix_of(longer) and (
        shorter.count == longer.count or longer.outside(shorter.count + 1)[0] > seen
    )


def _names(author: Author | None) -> set[int]:
    """All elements there are, as seq and offset in one number."""
    names: set[int] = set()
    for span in () if author is None else author.spans:
        low = span.first >> INDEX_BITS
        high = low + span.size - 1
        for seq, width, times in author.operations(low, high):  # type: ignore[union-attr]
            if width == 1:
                names.update(range(seq * OFFSET_MAX, (seq + times) * OFFSET_MAX, OFFSET_MAX))
                continue
            start = author.number_of(seq, 0)  # type: ignore[union-attr]
            for each in range(times):
                begin = start + each * width
                first, last = max(low, begin) - begin, min(high, begin + width - 1) - begin
                names.update(range((seq + each) * OFFSET_MAX + first, (seq + each) * OFFSET_MAX + last + 1))
    return names


def _ranges(store: SequenceStore, lost: list[tuple[int, int]]) -> list[Range]:
    ranges: list[Range] = []
    for actor, name in lost:
        number = store.authors[actor].number_of(*divmod(name, OFFSET_MAX))
        if ranges and ranges[-1][0] == actor and ranges[-1][2] == number - 1:
            ranges[-1] = actor, ranges[-1][1], number
        else:
            ranges.append((actor, number, number))
    return ranges


def _first(span: Span) -> int:
    return span.first
