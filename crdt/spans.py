"""Spans of a sequence in a counted balanced tree: from an index to a place and back in O(log n)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

NODE_MAX = 32  # entries of a node; measured: 16 to 64 are the same, more makes ``list.index`` felt
NODE_LOADED = 24  # entries of a node when a whole tree is made at once: room to grow


class Span(msgspec.Struct, eq=False, gc=False):  # made in C, and no work for the collector: there are many
    """A run of elements that one actor put in one after the other: ``first``, ``first`` + 1, … side by side.

    ``parent`` says where the first one hangs in the tree of ``fugue``; each other one hangs to the right of the one
    before it. ``content`` is a slice of what was put in; ``None`` once nothing of it shows, and then ``live`` is false.
    """

    first: int
    size: int
    content: Any
    parent: int
    live: bool = True
    leaf: int = 0  # number of the node that holds it: itself would be a cycle, which only the collector could free


class Node:
    """A node of the tree: spans at the bottom, nodes above. ``live`` counts the elements below that show. ``number`` is
    that of a leaf, 0 for others."""

    __slots__ = ("above", "below", "live", "number")

    def __init__(self, below: list[Any], number: int) -> None:
        self.below, self.number = below, number
        self.above: Node | None = None
        self.live = 0
        if number:
            for span in below:
                span.leaf = number
                if span.live:
                    self.live += span.size
        else:
            for node in below:
                node.above = self
                self.live += node.live


class Spans:
    """All spans of one sequence, in order, those that do not show too.

    Cost   find, position, insert, remove O(log n); where the last edit was, find is O(1).
    """

    __slots__ = ("_at", "_hot", "_leaves", "_made", "_root")

    def __init__(self, spans: Sequence[Span] = ()) -> None:
        self._leaves: dict[int, Node] = {}  # by number
        self._made = 0
        nodes = [self._leaf(list(spans[at : at + NODE_LOADED])) for at in range(0, len(spans), NODE_LOADED)]
        while len(nodes) > 1:
            nodes = [Node(nodes[at : at + NODE_LOADED], 0) for at in range(0, len(nodes), NODE_LOADED)]
        self._root = nodes[0] if nodes else self._leaf([])
        self._hot: Span | None = None  # a live span, and the index of its first element: where the last edit was
        self._at = 0

    def _leaf(self, below: list[Span]) -> Node:
        self._made += 1
        leaf = self._leaves[self._made] = Node(below, self._made)
        return leaf

    @property
    def live(self) -> int:
        """How many elements show."""
        return self._root.live

    def __iter__(self) -> Iterator[Span]:
        stack = [self._root]
        while stack:
            node = stack.pop()
            if node.number:
                yield from node.below
            else:
                stack += reversed(node.below)

    def find(self, index: int) -> tuple[Span, int]:
        """The span that shows element ``index`` of those that show, and its offset in it. ``index`` is in range."""
        hot = self._hot
        if hot is not None:
            offset = index - self._at
            if 0 <= offset < hot.size:
                return hot, offset
        node, left = self._root, index
        while not node.number:
            for below in node.below:
                if left < below.live:
                    node = below
                    break
                left -= below.live
        for span in node.below:
            if span.live:
                if left < span.size:
                    self._hot, self._at = span, index - left
                    return span, left
                left -= span.size
        raise IndexError(index)

    def position(self, span: Span) -> int:
        """How many elements show before ``span``."""
        index = 0
        leaf = self._leaves[span.leaf]
        for each in leaf.below:
            if each is span:
                break
            if each.live:
                index += each.size
        node: Node = leaf
        while node.above is not None:
            for sibling in node.above.below:
                if sibling is node:
                    break
                index += sibling.live
            node = node.above
        return index

    def after(self, span: Span) -> Span | None:
        """The span that follows."""
        leaf = self._leaves[span.leaf]
        below = leaf.below
        at = below.index(span) + 1
        if at < len(below):
            return below[at]  # type: ignore[no-any-return]
        node: Node = leaf
        while node.above is not None:
            siblings = node.above.below
            at = siblings.index(node) + 1
            if at < len(siblings):
                return self._leftmost(siblings[at])
            node = node.above
        return None

    def first(self) -> Span | None:
        """The span all others follow."""
        return self._leftmost(self._root) if self._root.below else None

    @staticmethod
    def _leftmost(node: Node) -> Span:
        while not node.number:
            node = node.below[0]
        return node.below[0]  # type: ignore[no-any-return]

    def insert_first(self, new: Span) -> None:
        """Put ``new`` before all others."""
        first = self.first()
        if first is None:
            self._insert(self._root, 0, new)
        else:
            self.insert_before(first, new)

    def insert_after(self, span: Span, new: Span) -> None:
        """Put ``new`` right behind ``span``."""
        hot = self._hot
        if hot is not None:
            if hot is not span:
                self._hot = None
            elif new.live:
                self._hot, self._at = new, self._at + span.size
        leaf = self._leaves[span.leaf]
        self._insert(leaf, leaf.below.index(span) + 1, new)

    def insert_before(self, span: Span, new: Span) -> None:
        """Put ``new`` right before ``span``."""
        self._hot = None
        leaf = self._leaves[span.leaf]
        self._insert(leaf, leaf.below.index(span), new)

    def split(self, span: Span, right: Span, content: Any) -> None:
        """Cut ``right`` off the end of ``span``, which keeps ``content``."""
        span.content = content
        span.size -= right.size
        leaf = self._leaves[span.leaf]
        below = leaf.below
        below.insert(below.index(span) + 1, right)
        right.leaf = leaf.number
        if len(below) > NODE_MAX:
            self._halve(leaf)

    def grow(self, span: Span, content: Any, size: int) -> None:
        """Put more at the end of a live ``span``."""
        span.content += content
        span.size += size
        if self._hot is not span:
            self._hot = None
        node: Node | None = self._leaves[span.leaf]
        while node is not None:
            node.live += size
            node = node.above

    def trim(self, span: Span, content: Any) -> None:
        """Leave no more than ``content`` of a live ``span``."""
        by = len(content) - span.size
        span.content = content
        span.size += by
        if self._hot is not span:
            self._hot = None
        node: Node | None = self._leaves[span.leaf]
        while node is not None:
            node.live += by
            node = node.above

    def shrink(self, span: Span, size: int) -> None:
        """Take ``size`` elements off the end of ``span``, not all of them."""
        span.size -= size
        if span.live:
            span.content = span.content[: span.size]
            self._count(span, -size)

    def hide(self, span: Span) -> None:
        """Let ``span`` show no more; drops its content."""
        span.content = None
        span.live = False
        self._count(span, -span.size)

    def show(self, span: Span, content: Any) -> None:
        """Let a hidden ``span`` show ``content``."""
        span.content = content
        span.live = True
        self._count(span, span.size)

    def remove(self, span: Span) -> None:
        """Forget ``span``."""
        if span.live:
            self._count(span, -span.size)
        node = self._leaves[span.leaf]
        node.below.remove(span)
        while not node.below and node.above is not None:
            if node.number:
                del self._leaves[node.number]
            node.above.below.remove(node)
            node = node.above
        if not node.below and not node.number:
            self._root = self._leaf([])

    def _count(self, span: Span, by: int) -> None:
        self._hot = None
        node: Node | None = self._leaves[span.leaf]
        while node is not None:
            node.live += by
            node = node.above

    def _insert(self, leaf: Node, at: int, new: Span) -> None:
        leaf.below.insert(at, new)
        new.leaf = leaf.number
        if new.live:
            size = new.size
            node: Node | None = leaf
            while node is not None:
                node.live += size
                node = node.above
        if len(leaf.below) > NODE_MAX:
            self._halve(leaf)

    def _halve(self, node: Node) -> None:
        """Cut a full node in two, and those above it at need."""
        while len(node.below) > NODE_MAX:
            half = len(node.below) // 2
            right = self._leaf(node.below[half:]) if node.number else Node(node.below[half:], 0)
            del node.below[half:]
            node.live -= right.live
            above = node.above
            if above is None:
                self._root = Node([node, right], 0)
                return
            above.below.insert(above.below.index(node) + 1, right)
            right.above = above
            node = above
