"""A sequence as columns of plain numbers, for snapshots and digests, and back.

``[authors, firsts, sizes, hooks, content]`` and for a list what was moved. A run is as long as can be: elements that
follow each other in order, number and tree, and all show or all do not; so the columns are the same on every replica.
"""

from __future__ import annotations

from collections.abc import Iterator
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
    spans: list[Span] = []
    at = 0
    for code, signed, hooked in zip(firsts, sizes, hooks, strict=True):
        number, place = divmod(code, width)
        size = abs(signed)
        if number < 1 or not 0 < size < SIZE_MAX or hooked < 0:
            raise InvalidBytes("a run of no allowed shape")
        first = number << INDEX_BITS | actors[place]
        if hooked == 0:
            if number == 1:
                raise InvalidBytes("a first element that follows another")
            hook = (first - ONE) << 1 | 1
        elif hooked == 1:
            hook = ROOT
        else:
            on, place = divmod(hooked - 2, width)
            hook = (on >> 1 << INDEX_BITS | actors[place]) << 1 | on & 1
            if not 0 < on >> 1 <= store.authors[actors[place]].count:
                raise InvalidBytes("a run that hangs on nothing")
        if signed > 0:
            piece = content[at : at + size]
            at += size
            if len(piece) < size:
                raise InvalidBytes("a sequence that lacks content")
            spans.append(Span(first, size, piece, hook))
        else:
            spans.append(Span(first, size, None, hook, live=False))
    if at != len(content):
        raise InvalidBytes("content of no element")
    _index(store, spans)
    _hang(store, spans)
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


def _index(store: SequenceStore, spans: list[Span]) -> None:
    """Put the spans in, by order and by number. Each element has to be there once."""
    for span in sorted(spans, key=_first):
        author = store.authors[span.first & INDEX_MASK]
        held = author.spans[-1] if author.spans else None
        if span.first >> INDEX_BITS != (1 if held is None else (held.first >> INDEX_BITS) + held.size):
            raise InvalidBytes("elements that are missing, or there twice")
        author.enter(span)
    for author in store.authors.values():
        held = author.spans[-1] if author.spans else None
        if held is None or (held.first >> INDEX_BITS) + held.size - 1 != author.count:
            raise InvalidBytes("elements that are missing")
    store.spans = Spans(spans)


def _hang(store: SequenceStore, spans: list[Span]) -> None:
    """Hang the spans up, and see that the tree is read in the order they came in."""
    hooked: dict[int, list[int]] = {}
    for span in spans:
        hooked.setdefault(span.parent, []).append(span.first)
    for hook, hung in hooked.items():
        if hook != ROOT:
            host, offset = store.span(hook >> 1)
            if hook & 1:
                if offset + 1 < host.size:
                    right = store.split(host, offset + 1)
                    hung.append(right.first)  # what follows inside of a run hangs there too
            elif offset:
                store.split(host, offset)
        if len(hung) > 1:
            hung.sort(key=store.rank)
    for hook, hung in hooked.items():
        store.hooked[hook] = hung if len(hung) > 1 else tuple(hung)
    if [span.first for span in _read(store)] != [span.first for span in store.spans]:
        raise InvalidBytes("elements in disorder")


def _read(store: SequenceStore) -> Iterator[Span]:
    """Spans as the tree is read: left ones first. Those that hang on nothing are not reached."""
    hooked = store.hooked
    stack: list[tuple[int, bool]] = [(first, False) for first in reversed(hooked.get(ROOT, ()))]
    while stack:
        first, is_open = stack.pop()
        left = () if is_open else hooked.get(first << 1, ())
        if left:
            stack.append((first, True))
            stack += [(each, False) for each in reversed(left)]
            continue
        span, _ = store.span(first)
        yield span
        right = hooked.get(first + (span.size - 1 << INDEX_BITS) << 1 | 1)
        if right is not None:
            stack += [(each, False) for each in reversed(right)]


def _first(span: Span) -> int:
    return span.first


_Authors = list[tuple[int, list[int]]]
_Moves = list[tuple[int, int, int]]
_DECODERS: dict[str, Any] = {
    "text": msgspec.msgpack.Decoder(tuple[_Authors, list[int], list[int], list[int], str]).decode,
    "list": msgspec.msgpack.Decoder(tuple[_Authors, list[int], list[int], list[int], list[bytes], _Moves]).decode,
}
