"""A sequence as columns of plain numbers, for snapshots and digests, and back.

``[authors, firsts, sizes, hooks, content]`` and for a list what was moved. A run is as long as can be: elements that
follow each other in order, number and tree, and all show or all do not; so the columns are the same on every replica.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from crdt.author import Author
from crdt.causal import Names, Thaw
from crdt.clock import INDEX_BITS, INDEX_MASK, ONE
from crdt.errors import InvalidBytes
from crdt.spans import Span, Spans

if TYPE_CHECKING:
    from crdt.sequence import SequenceStore

ROOT = 1
SIZE_MAX = 1 << 32
COUNT_MAX = 1 << 60


def runs(spans: Spans) -> Iterator[tuple[int, int, int, bool]]:
    """First element, size, hook and whether it shows, of each run."""
    first, size, hook, live, following = 0, 0, 0, False, 0
    for span in spans:
        if span.first == following and span.live is live and span.parent == (following - ONE) << 1 | 1:
            size += span.size
        else:
            if size:
                yield first, size, hook, live
            first, size, hook, live = span.first, span.size, span.parent, span.live
        following = first + (size << INDEX_BITS)
    if size:
        yield first, size, hook, live


def shown(store: SequenceStore, names: Names) -> Any:
    """What shows, and whose it is."""
    ranks = names.ranks
    whose = [(ranks[f & INDEX_MASK], f >> INDEX_BITS, size) for f, size, _, live in runs(store.spans) if live]
    return whose, store.content()


def freeze(store: SequenceStore, names: Names) -> list[Any]:
    """All of it."""
    order = sorted(store.authors, key=names.ranks.__getitem__)
    width = len(order)
    place = {actor: at for at, actor in enumerate(order)}
    authors = [[names.ranks[actor], _operations(store.authors[actor])] for actor in order]
    firsts, sizes, hooks = [], [], []
    for first, size, hook, live in runs(store.spans):
        firsts.append((first >> INDEX_BITS) * width + place[first & INDEX_MASK])
        sizes.append(size if live else -size)
        if hook == ROOT:
            hooks.append(1)
        elif hook == (first - ONE) << 1 | 1:
            hooks.append(0)
        else:
            number = hook >> INDEX_BITS + 1
            hooks.append(2 + (number << 1 | hook & 1) * width + place[hook >> 1 & INDEX_MASK])
    return [authors, firsts, sizes, hooks, store.content()]


def decode(plain: bytes, kind: str) -> Any:
    """The columns of a text or a list."""
    return _DECODERS[kind](plain)


def thaw(store: SequenceStore, plain: Any, names: Thaw) -> list[int]:
    """Fill an empty ``store``. Returns its actors in the order of the columns. Raises ``InvalidBytes`` unless these are
    columns that ``freeze`` makes, or at least the whole of one tree in its order."""
    authors, firsts, sizes, hooks, content = plain[:5]
    width = len(authors)
    actors = [names.index(rank) for rank, _ in authors]
    for rank, flat in authors:
        _author(store, rank, flat, names)
    if not width or len(store.authors) < width or not len(firsts) == len(sizes) == len(hooks) > 0:
        raise InvalidBytes("a sequence of no allowed shape")
    if min(firsts) < width or min(hooks) < 0 or 0 in sizes or not -SIZE_MAX < min(sizes) <= max(sizes) < SIZE_MAX:
        raise InvalidBytes("a run of no allowed shape")
    counts = [store.authors[actor].count for actor in actors]
    spans: list[Span] = []
    begins: dict[int, Span] = {}  # by first element
    ends: dict[int, None] = {}  # last elements of runs of several
    hooked: dict[int, Any] = {}
    at = 0
    for code, size, hooked_on in zip(firsts, sizes, hooks, strict=True):
        number, place = divmod(code, width)
        first = number << INDEX_BITS | actors[place]
        if hooked_on > 1:
            on, place = divmod(hooked_on - 2, width)
            hook = (on >> 1 << INDEX_BITS | actors[place]) << 1 | on & 1
            if not 0 < on >> 1 <= counts[place]:
                raise InvalidBytes("a run that hangs on nothing")
        elif hooked_on:
            hook = ROOT
        else:
            hook = (first - ONE) << 1 | 1
            if number == 1:
                raise InvalidBytes("a first element that follows another")
        if size > 0:
            span = Span(first, size, content[at : at + size], hook)
            at += size
        else:
            size = -size
            span = Span(first, size, None, hook, False)
        spans.append(span)
        begins[first] = span
        if size > 1:
            ends[first + (size - 1 << INDEX_BITS)] = None
        held = hooked.get(hook)
        if held is None:
            hooked[hook] = span
        elif type(held) is list:
            held.append(span)
        else:
            hooked[hook] = [held, span]
    if at != len(content):
        raise InvalidBytes("a sequence that lacks content, or has content of no element")
    if len(begins) < len(spans):
        raise InvalidBytes("elements that are there twice")
    store.spans = Spans(spans)
    _index(store, begins)
    _hang(store, hooked, begins, ends)
    return actors


def _operations(author: Author) -> list[int]:
    """How far each run of operations is from the one before, and its size; minus how many there are before that."""
    flat: list[int] = []
    last = 0
    for seq, width, times in author.runs():
        flat += (seq - last, width) if times == 1 else (seq - last, -times, width)
        last = seq + times - 1
    return flat


def _author(store: SequenceStore, rank: int, flat: list[int], names: Thaw) -> None:
    author = store.authors[names.index(rank)] = Author()
    left = iter(flat)
    for gap in left:
        seq, width, times = author.last + gap, next(left, 0), 1
        if width < 0:
            times, width = -width, next(left, 0)
            if times == 1:
                raise InvalidBytes("an author of no allowed shape")
        if gap < 1 or not 0 < width < SIZE_MAX:
            raise InvalidBytes("an author of no allowed shape")
        names.dot(rank, seq + times - 1)
        if author.count and seq == author.last + 1 and author.widths[-1] == width:
            raise InvalidBytes("one run of operations in two")
        author.begin(seq, width)
        author.count += width * (times - 1)
        author.last = seq + times - 1
        if author.count > COUNT_MAX:
            raise InvalidBytes("more elements than there can be")


def _index(store: SequenceStore, begins: dict[int, Span]) -> None:
    """Put the spans in by number. Each element has to be there once."""
    left = len(begins)
    for actor, author in store.authors.items():
        number, end = 1, author.count
        while number <= end:
            span = begins.get(number << INDEX_BITS | actor)
            if span is None:
                break
            author.firsts.append(span.first)
            author.spans.append(span)
            number += span.size
            left -= 1
        if number != end + 1:
            break
    if left or number != end + 1:
        _index_gaps(store, begins)


def _index_gaps(store: SequenceStore, begins: dict[int, Span]) -> None:
    """The same where elements are missing, since they were forgotten."""
    for author in store.authors.values():
        author.firsts, author.spans = [], []
    following = dict.fromkeys(store.authors, 1)
    for first in sorted(begins):
        actor, number, span = first & INDEX_MASK, first >> INDEX_BITS, begins[first]
        author = store.authors[actor]
        if number != following[actor]:
            if number < following[actor]:
                raise InvalidBytes("elements that are there twice")
            author.has_gaps = True
        following[actor] = number + span.size
        author.firsts.append(first)
        author.spans.append(span)
    for actor, author in store.authors.items():
        if not author.spans or following[actor] > author.count + 1:
            raise InvalidBytes("elements of no operation, or operations of no element")
        author.has_gaps |= following[actor] <= author.count


def _hang(store: SequenceStore, hooked: dict[int, Any], begins: dict[int, Span], ends: dict[int, None]) -> None:
    """Hang the spans up, and see that the tree is read in the order they came in."""
    for hook, held in list(hooked.items()):
        element = hook >> 1
        if hook == ROOT or element in ends if hook & 1 else element in begins:
            pass  # where a run begins or ends
        elif not hook & 1 or (host := begins.get(element)) is None or host.size > 1:
            host, offset = store.span(element)
            offset += hook & 1
            if 0 < offset < host.size:
                right = store.split(host, offset)  # what follows inside of a run hangs there too
                if hook & 1:
                    hooked[hook] = held = [*(held if type(held) is list else (held,)), right]
        if type(held) is list:
            held.sort(key=store.rank)
    hooked_by_splits, store.hooked = store.hooked, hooked
    for hook, held in hooked_by_splits.items():
        hooked.setdefault(hook, held)
    if in_order(hooked) != list(store.spans):
        raise InvalidBytes("elements in disorder")


def in_order(hooked: Mapping[int, Any]) -> list[Span]:
    """Spans as the tree of what hangs where is read: left ones first. Those that hang on nothing are not reached."""
    found: list[Span] = []
    at = hooked.get
    below = at(ROOT, [])
    stack: list[Any] = below[::-1] if type(below) is list else [below]
    while stack:
        span = stack.pop()
        if span is None:
            span = stack.pop()  # its left side was read
        else:
            left = at(span.first << 1)
            if left is not None:
                stack += (span, None)
                if type(left) is list:
                    stack += left[::-1]
                else:
                    stack.append(left)
                continue
        found.append(span)
        right = at(span.first + (span.size - 1 << INDEX_BITS) << 1 | 1)
        if type(right) is list:
            stack += right[::-1]
        elif right is not None:
            stack.append(right)
    return found


def _first(span: Span) -> int:
    return span.first


_Authors = list[tuple[int, list[int]]]
_Moves = list[tuple[int, int, int]]
_DECODERS: dict[str, Any] = {
    "text": msgspec.msgpack.Decoder(tuple[_Authors, list[int], list[int], list[int], str]).decode,
    "list": msgspec.msgpack.Decoder(tuple[_Authors, list[int], list[int], list[int], list[bytes], _Moves]).decode,
}
