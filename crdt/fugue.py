"""The order that replicas agree on: Fugue's tree, in spans.

Source  Weidner, Kleppmann 2023, "The Art of the Fugue" (arXiv:2305.00583), Algorithm 1.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Any, TypeAlias

from crdt.actors import ActorTable
from crdt.author import Author, Element
from crdt.clock import INDEX_BITS, INDEX_MASK, ONE, Dot
from crdt.spans import Span, Spans

Hook: TypeAlias = int  # where an element hangs: element << 1, plus 1 to the right of it; ROOT to the right of nothing
ROOT: Hook = 1
NOTHING = Span(0, 0, None, 0, live=False)
SPAN_MAX = 1024  # elements: putting one more at the end copies the span


class Fugue:
    """Elements in one order for all; whole runs of them in spans.

    Order  each element hangs to the left or to the right of another in a tree, and is read left ones first. Elements
           that hang at one place follow the names of their actors. So what two type beside each other at one place is
           never mixed, forwards or backwards.
    Cost   edit and index O(log n), typing on a fraction of a span; an edit in the middle of a span also moves the rest
           of its author's index of spans (4 us at 30,000); beside concurrent insertions at the very same place, a step
           a span of those. About 240 B a span. Removed elements stay as numbers, without content, until they are
           forgotten (``purge``).
    """

    __slots__ = ()
    names: ActorTable
    spans: Spans
    authors: dict[int, Author]
    # The span that hangs at a place, a list of them in order once there are two. Not what follows inside of a span.
    hooked: dict[Hook, Span | list[Span]]

    def span(self, element: Element) -> tuple[Span, int]:
        """The span of an element, and the offset there."""
        return self.authors[element & INDEX_MASK].span(element)

    def hook(self, index: int, forgets: bool) -> Hook:
        """Where an element put in at ``index`` hangs (Fugue, Algorithm 1). ``forgets``: not on anything that may go."""
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
        if following.live or not forgets:
            return following.first << 1
        return self._past_hidden(right, following)

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
        while (held := self.hooked.get(hook)) is not None:
            last = held[-1] if type(held) is list else held  # type: ignore[assignment]
            if last not in hidden:
                return None
            hook = last.first + (last.size - 1 << INDEX_BITS) << 1 | 1
        return last

    # -- putting in --------------------------------------------------------------------------------------------------

    def insert(self, dot: Dot, content: Any, hook: Hook) -> None:
        """Operation ``dot`` puts ``content`` in at ``hook``."""
        actor = dot & INDEX_MASK
        author = self.authors.get(actor)
        if author is None:
            author = self.authors[actor] = Author()
        elif hook == (author.count << INDEX_BITS | actor) << 1 | 1 and self.type_on(author, dot, content):
            return
        size = len(content)
        first = author.begin(dot >> INDEX_BITS, size) << INDEX_BITS | actor
        self.attach(Span(first, size, content, hook), author)

    def type_on(self, author: Author, dot: Dot, content: Any) -> bool:
        """Put ``content`` in right behind the last element of ``author``, by growing the span of that, which is the
        commonest edit. False, and nothing done, if that span cannot grow."""
        span = author.spans[-1]
        if (
            not span.live or span.size >= SPAN_MAX or author.has_gaps
            or (author.count << INDEX_BITS | dot & INDEX_MASK) << 1 | 1 in self.hooked
        ):  # fmt: skip
            return False
        size, seq = len(content), dot >> INDEX_BITS
        if seq == author.last + 1 and author.widths[-1] == size:
            author.last = seq  # as ``begin`` does
            author.count += size
        else:
            author.begin(seq, size)
        self.spans.grow(span, content, size)
        return True

    def attach(self, new: Span, author: Author) -> None:
        """Find the place of a span by where it hangs."""
        hook, spans, hooked = new.parent, self.spans, self.hooked
        siblings = hooked.get(hook)
        if siblings is None and hook != ROOT:
            host, offset = self.span(hook >> 1)
            if hook & 1:
                if offset + 1 < host.size:
                    siblings = self.split(host, offset + 1)  # what followed inside of the span hangs there too
            elif offset:
                host = self.split(host, offset)
        if siblings is None:
            hooked[hook] = new
            if hook == ROOT:
                spans.insert_first(new)
            elif hook & 1:
                spans.insert_after(host, new)
            else:
                spans.insert_before(host, new)
        else:
            if type(siblings) is not list:
                siblings = hooked[hook] = [siblings]  # type: ignore[list-item]
            at = bisect_right(siblings, self.rank(new), key=self.rank)
            if at:
                spans.insert_after(self._rightmost(siblings[at - 1]), new)
            else:
                spans.insert_before(self._leftmost(siblings[0]), new)
            siblings.insert(at, new)
        author.enter(new)

    def rank(self, span: Span) -> tuple[bytes, int]:
        """Order of spans that hang at one place."""
        return self.names.names[span.first & INDEX_MASK].encode(), span.first >> INDEX_BITS

    def _rightmost(self, span: Span) -> Span:
        """The last span of all that hangs on ``span``."""
        hooked = self.hooked
        while True:
            right = hooked.get(span.first + (span.size - 1 << INDEX_BITS) << 1 | 1)
            if right is None:
                return span
            span = right[-1] if type(right) is list else right  # type: ignore[assignment]

    def _leftmost(self, span: Span) -> Span:
        """The first span of all that hangs on ``span``."""
        hooked = self.hooked
        while True:
            left = hooked.get(span.first << 1)
            if left is None:
                return span
            span = left[0] if type(left) is list else left  # type: ignore[assignment]

    def split(self, span: Span, size: int) -> Span:
        """Cut ``span`` after ``size`` elements. Returns the right part."""
        first = span.first + (size << INDEX_BITS)
        hook = (first - ONE) << 1 | 1
        content = span.content
        live = span.live
        right = Span(first, span.size - size, content[size:] if live else None, hook, live)
        self.hooked[hook] = right
        self.spans.split(span, right, content[:size] if live else None)
        self.authors[first & INDEX_MASK].enter(right)
        return right

    # -- hiding ------------------------------------------------------------------------------------------------------

    def hide(self, actor: int, low: int, high: int) -> None:
        """Let the elements ``low`` to ``high`` of ``actor`` show no more."""
        author = self.authors.get(actor)
        if author is None or low > high:
            return
        spans = author.spans
        at = author.at(low << INDEX_BITS | actor)
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
            if not dead.live and self._is_one_run(span, dead):
                size = span.size - kept
                del hooked[dead.parent]
                first = dead.first = author.firsts[at + 1] = dead.first - (size << INDEX_BITS)
                dead.size += size
                hook = dead.parent = (first - ONE) << 1 | 1
                hooked[hook] = dead
                self.spans.trim(span, span.content[:kept])
                return True
        elif left > 0 >= kept and at:
            dead = spans[at - 1]
            if not dead.live and self._is_one_run(dead, span):
                size = span.size - left
                del hooked[span.parent]
                first = span.first = author.firsts[at] = span.first + (size << INDEX_BITS)
                dead.size += size
                hook = span.parent = (first - ONE) << 1 | 1
                hooked[hook] = span
                self.spans.trim(span, span.content[size:])
                return True
        return False

    def _is_one_run(self, left: Span, right: Span) -> bool:
        """Whether ``right`` goes on where ``left`` ends, and nothing else hangs between them."""
        hook = left.first + (left.size - 1 << INDEX_BITS) << 1 | 1
        if right.parent != hook or self.hooked[hook] is not right or right.first << 1 in self.hooked:
            return False
        return right.first == left.first + (left.size << INDEX_BITS)  # unless something between them was forgotten

    def _melt(self, author: Author, at: int) -> bool:
        """Make one of two hidden spans that are one run again, if nothing else hangs between them."""
        left, right = author.spans[at], author.spans[at + 1]
        if left.live or right.live or not self._is_one_run(left, right):
            return False
        del self.hooked[right.parent], author.firsts[at + 1], author.spans[at + 1]
        self.spans.remove(right)
        left.size += right.size
        return True

    # -- taking back -------------------------------------------------------------------------------------------------

    def pieces(self, actor: int, low: int, high: int) -> Iterator[tuple[int, int, Any]]:
        """What shows of these elements: numbers of first and last, content."""
        author = self.authors.get(actor)
        if author is None or low > high:
            return
        for at in range(author.at(low << INDEX_BITS | actor), len(author.spans)):
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
            siblings = self.hooked[span.parent]
            if type(siblings) is list and len(siblings) > 1:
                siblings.remove(span)
            else:
                del self.hooked[span.parent]
            self.spans.remove(span)
        if author.spans:
            span = author.spans[-1]
            beyond = (span.first >> INDEX_BITS) + span.size - 1 - count
            if beyond > 0:  # less where the last of those ``count`` were forgotten
                self.spans.shrink(span, beyond)
        author.cut(count)
        if not count:
            del self.authors[actor]
