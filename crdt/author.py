"""What one actor put into one sequence."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import TypeAlias

from crdt.clock import INDEX_BITS
from crdt.spans import Span

Element: TypeAlias = (
    int  # number << 20 | actor index: the actor's number-th element here, from 1; like a dot, but local
)


class Author:
    """What one actor put into one sequence: its spans by number, and which operation each number came from.

    Numbers are the same on every replica, since everybody takes in an actor's operations in order. Operations of one
    size that follow each other are one entry: ``seqs[i] + n`` put in ``widths[i]`` elements from ``starts[i] + n *
    widths[i]``.
    """

    __slots__ = ("count", "firsts", "has_gaps", "last", "seqs", "spans", "starts", "widths")

    def __init__(self) -> None:
        self.count = 0
        self.last = 0  # its latest operation that put something in
        self.has_gaps = False  # whether some of what its operations put in is forgotten (``purge``)
        self.firsts: list[Element] = []
        self.spans: list[Span] = []
        self.seqs = array("q")  # numbers, not objects: an operation by itself costs 24 B
        self.starts = array("q")
        self.widths = array("q")

    def begin(self, seq: int, size: int) -> int:
        """Note that operation ``seq`` puts in ``size`` elements. Returns the number of the first."""
        number = self.count + 1
        if not self.count or seq != self.last + 1 or self.widths[-1] != size:
            self.seqs.append(seq)
            self.starts.append(number)
            self.widths.append(size)
        self.last = seq
        self.count += size
        return number

    def repeat(self, seq: int, width: int, times: int) -> None:
        """Note ``times`` operations from ``seq`` on, each of which puts in ``width`` elements."""
        self.begin(seq, width)
        self.count += width * (times - 1)
        self.last = seq + times - 1

    def follow(self, other: Author) -> None:
        """Note the operations of ``other``, which begins as this one does, that are not noted here."""
        for seq, width, times in other.runs():
            last = seq + times - 1
            if last > self.last:
                begin = max(seq, self.last + 1)
                self.repeat(begin, width, last - begin + 1)
        self.has_gaps |= other.has_gaps

    def before(self, seq: int, offset: int) -> int:
        """How many elements come from before ``offset`` of operation ``seq``: also the number of the last of them."""
        at = bisect_right(self.seqs, seq) - 1
        if at < 0:
            return 0
        end = self.starts[at + 1] - 1 if at + 1 < len(self.starts) else self.count
        width = self.widths[at]
        number = self.starts[at] - 1 + (seq - self.seqs[at]) * width + (offset if offset < width else width)
        return number if number < end else end

    def number(self, seq: int, offset: int) -> int:
        """The number of one element, 0 if there is none."""
        number = self.number_of(seq, offset)
        return number if not self.has_gaps or self.has(number) else 0

    def has(self, number: int) -> bool:
        """Whether there is such an element, where some are forgotten."""
        at = bisect_right(self.firsts, (number + 1 << INDEX_BITS) - 1) - 1
        return at >= 0 and number < (self.firsts[at] >> INDEX_BITS) + self.spans[at].size

    def at(self, element: Element) -> int:
        """Where in ``spans`` the last one that begins at or before ``element`` is; 0 if there is none."""
        firsts = self.firsts
        if firsts and element >= firsts[-1]:
            return len(firsts) - 1  # most edits are where one types
        return max(0, bisect_right(firsts, element) - 1)

    def number_of(self, seq: int, offset: int) -> int:
        """The number of one element, forgotten or not; 0 if there is no such operation."""
        at = bisect_right(self.seqs, seq) - 1
        if at < 0 or offset >= self.widths[at]:
            return 0
        starts = self.starts
        number = starts[at] + (seq - self.seqs[at]) * self.widths[at] + offset
        return number if number < (starts[at + 1] if at + 1 < len(starts) else self.count + 1) else 0

    def outside(self, number: int) -> tuple[int, int, int]:
        """Operation, offset in it, and size of that operation."""
        at = bisect_right(self.starts, number) - 1
        width = self.widths[at]
        if width == 1:
            return self.seqs[at] + number - self.starts[at], 0, 1
        step, offset = divmod(number - self.starts[at], width)
        return self.seqs[at] + step, offset, width

    def cut(self, count: int) -> None:
        """Forget which operations the numbers past ``count`` came from: whole operations."""
        while self.starts and self.starts[-1] > count:
            del self.seqs[-1], self.starts[-1], self.widths[-1]
        self.count = count
        self.last = self.outside(count)[0] if count else 0

    def operations(self, low: int, high: int) -> Iterator[tuple[int, int, int]]:
        """The operations that the elements ``low`` to ``high`` come from, as ``runs``."""
        at = bisect_right(self.starts, low) - 1
        while at < len(self.starts) and self.starts[at] <= high:
            start, width = self.starts[at], self.widths[at]
            end = self.starts[at + 1] - 1 if at + 1 < len(self.starts) else self.count
            before = (max(low, start) - start) // width
            yield self.seqs[at] + before, width, (min(high, end) - start) // width - before + 1
            at += 1

    def runs(self) -> Iterator[tuple[int, int, int]]:
        """Sequence of the first, size of each, how many operations."""
        ends = [*self.starts[1:], self.count + 1]
        for seq, start, width, end in zip(self.seqs, self.starts, self.widths, ends, strict=True):
            yield seq, width, (end - start) // width

    def is_prefix_of(self, other: Author) -> bool:
        """Whether both tell the same about the numbers this one has."""
        at = len(self.seqs)
        return self.count <= other.count and all(
            mine == theirs[:at]
            for mine, theirs in (
                (self.seqs, other.seqs), (self.starts, other.starts), (self.widths, other.widths),
            )
        ) and (at == len(other.starts) or self.count < other.starts[at])  # fmt: skip

    def span(self, element: Element) -> tuple[Span, int]:
        """The span of an element it has, and the offset there."""
        span = self.spans[self.at(element)]
        return span, (element - span.first) >> INDEX_BITS

    def enter(self, span: Span) -> None:
        """Note a new span."""
        first = span.first
        if not self.firsts or first > self.firsts[-1]:
            self.firsts.append(first)
            self.spans.append(span)
        else:
            at = bisect_left(self.firsts, first)
            self.firsts.insert(at, first)
            self.spans.insert(at, span)
