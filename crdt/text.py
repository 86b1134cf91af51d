"""Text: code points in the order of ``sequence``."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, overload

from msgspec import Meta

from crdt.actors import ActorTable
from crdt.causal import SHORT_KEY, Needs, register
from crdt.clock import INDEX_BITS
from crdt.cursor import SequenceHandle
from crdt.difference import Edit, difference
from crdt.edits import Erase, Insert
from crdt.errors import InvalidBytes, InvalidValue
from crdt.fugue import ROOT
from crdt.purge import Purge
from crdt.sequence import SequenceStore
from crdt.value import VALUE_BYTES_MAX

CHUNK = VALUE_BYTES_MAX // 4  # as many code points surely fit


class InsertText(Insert, tag=11):
    """Put ``content`` in, at least one code point."""

    adds: ClassVar[bool] = True
    content: Annotated[str, Meta(min_length=1, max_length=VALUE_BYTES_MAX)]

    def check(self, needs: Needs) -> None:
        path = self.path
        if type(self.place) is not int or type(path) is not str or len(path) > SHORT_KEY:
            self.check_place(needs)
        size = len(self.content)
        if size > CHUNK and len(self.content.encode()) > VALUE_BYTES_MAX:
            raise InvalidBytes("a text of no allowed length")


class EraseText(Erase, tag=12):
    """Remove code points."""


class PurgeText(Purge, tag=46):
    """Forget removed code points, for good."""


@register(InsertText, EraseText, PurgeText)
class TextStore(SequenceStore):
    """A sequence of code points."""

    __slots__ = ()
    kind = "text"
    _purge = PurgeText
    erase = SequenceStore.hide  # without asking where things were moved

    def content(self) -> str:
        """All that shows."""
        return "".join([span.content for span in self.spans if span.live])

    def value(self, names: ActorTable) -> str:
        return self.content()


class Text(SequenceHandle):
    """Handle of a text. Indices count code points, negative ones from the end, as in a ``str``; what is out of range
    raises ``IndexError``, and then nothing changed."""

    __slots__ = ()
    _store = TextStore
    _erase = EraseText

    def insert(self, index: int, text: str) -> None:
        """Put ``text`` in before ``index``. Raises ``InvalidValue`` for what no text may hold."""
        if type(text) is not str:
            raise InvalidValue(f"a text takes str, got {type(text).__name__}")
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError as wrong:
                raise InvalidValue(f"text with a lone surrogate: {wrong}") from None
        doc = self._doc
        store = doc.target(self._wire, TextStore)
        size = 0 if store is None else store.spans.live
        if index < 0:
            index += size
        if not 0 <= index <= size:
            raise IndexError(f"index {index} of a text of {size}")
        if len(text) <= CHUNK:
            if text:
                doc.write(InsertText(self._wire, self._place(store, index), text), True)
            return
        with self._together():
            for at in range(0, len(text), CHUNK):
                place = self._place(doc.find(self._path, TextStore), index + at)
                doc.write(InsertText(self._wire, place, text[at : at + CHUNK]))

    def append(self, text: str) -> None:
        """Put ``text`` in at the end."""
        self.insert(len(self), text)

    def delete(self, index: int, count: int = 1) -> None:
        """Remove ``count`` code points from ``index`` on."""
        size = len(self)
        if index < 0:
            index += size
        if count < 0 or not 0 <= index <= size - count:
            raise IndexError(f"{count} from {index} on of a text of {size}")
        self._remove(index, count)

    def replace(self, index: int, count: int, text: str) -> None:
        """Remove ``count`` code points from ``index`` on and put ``text`` in there, as one change."""
        with self._together():
            self.delete(index, count)
            self.insert(index, text)

    def edit(self, new: str, base: str | None = None) -> None:
        """Make the changes that lead from ``base`` to ``new``, as one change; without ``base``, from what it is now.
        What others changed since it was ``base`` stays."""
        for text in (new, "" if base is None else base):
            if type(text) is not str:
                raise InvalidValue(f"a text takes str, got {type(text).__name__}")
        now = self.value
        edits = difference(now if base is None else base, new)
        if base is not None and base != now:
            edits = _carried(base, now, edits)
        with self._together():
            for begin, end, text in reversed(edits):
                self.delete(begin, end - begin)
                self.insert(begin, text)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> str: ...
    def __getitem__(self, index: Any) -> str:
        return self.value[index]

    def __delitem__(self, index: int | slice) -> None:
        self._drop(index)

    def __contains__(self, text: str) -> bool:
        return text in self.value

    def __str__(self) -> str:
        return self.value

    @property
    def value(self) -> str:
        """All of it as a ``str``; empty while absent."""
        store = self._doc.find(self._path, TextStore)
        return "" if store is None else store.content()


def _carried(base: str, now: str, edits: list[Edit]) -> list[Edit]:
    """Edits of ``base`` as edits of ``now``: on a sequence that went the same way, where each letter is found again."""
    store = TextStore()
    store.names = ActorTable()
    store.names.intern("whoever")
    size = len(base)
    if size:
        store.insert(1 << INDEX_BITS, base, ROOT)
    for seq, (begin, end, text) in enumerate(reversed(difference(base, now)), 2):
        store.hide(0, begin + 1, end)
        if text:
            store.insert(seq << INDEX_BITS, text, store.hook(_index(store, begin, size), False))
    carried = []
    for begin, end, text in edits:
        pieces = [(_index(store, low - 1, size), high - low + 1) for low, high, _ in store.pieces(0, begin + 1, end)]
        at = pieces[0][0] if pieces else _index(store, begin, size)
        carried.append((at, at, text))
        carried += [(start, start + count, "") for start, count in pieces]
    return carried


def _index(store: TextStore, at: int, size: int) -> int:
    """Where letter ``at`` of what was put in first is now, or was."""
    return store.index_of((at + 1) << INDEX_BITS) if at < size else store.spans.live
