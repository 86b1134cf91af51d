"""Handles of a text and of a list, as far as they are the same, and places in them that stay with their neighbour."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

from crdt.edits import RANGES_MAX, Erase, Place
from crdt.handle import Handle
from crdt.sequence import SequenceStore


class SequenceHandle(Handle):
    """What handles of a text and of a list have in common."""

    __slots__ = ()
    _store: ClassVar[Any]
    _erase: ClassVar[type[Erase]]

    def __len__(self) -> int:
        store = self._doc.find(self._path, self._store)
        return 0 if store is None else store.spans.live

    def cursor(self, index: int) -> Cursor:
        """A cursor before ``index``: it stays with what is there now, wherever that gets; the end stays the end."""
        store = self._doc.find(self._path, self._store)
        size = len(self)
        if not 0 <= index <= size:
            raise IndexError(f"index {index} of {size}")
        if index == size:
            return Cursor(self, None)
        ((actor, number, _),) = store.named(*store.spans.find(index), 1)
        seq, offset, _ = store.authors[actor].outside(number)
        return Cursor(self, (self._doc.actors.names[actor], seq, offset))

    def _place(self, store: SequenceStore | None, index: int) -> Place:
        """Where to put something in before ``index``, for the operation about to be written."""
        return 0 if store is None else store.place(store.hook(index, self._doc.forgets), self._doc)

    def _checked(self, index: int) -> int:
        size = len(self)
        if not -size <= index < size:
            raise IndexError(f"index {index} of {size}")
        return index % size

    def _drop(self, index: int | slice) -> None:
        """Remove what a Python index or slice means."""
        if isinstance(index, slice):
            wanted = range(*index.indices(len(self)))
            if wanted.step == 1 and wanted:
                self._remove(wanted[0], len(wanted))
            elif wanted:
                with self._together():
                    for each in sorted(wanted, reverse=True):
                        self._remove(each, 1)
        else:
            self._remove(self._checked(index), 1)

    def _remove(self, index: int, count: int) -> None:
        """Remove ``count`` elements from ``index`` on, which are there."""
        doc = self._doc
        store = doc.target(self._wire, self._store)
        if not count:
            return
        ranges = store.ranges(index, count)
        if len(ranges) == 1:
            doc.write(self._erase(self._wire, store.targets(ranges, doc)), True)
        else:
            ranges.sort(key=lambda each: (each[0] != doc.index, each))
            if len(ranges) <= RANGES_MAX:
                doc.write(self._erase(self._wire, store.targets(ranges, doc)), True)
            else:
                with self._together():
                    for at in range(0, len(ranges), RANGES_MAX):
                        doc.write(self._erase(self._wire, store.targets(ranges[at : at + RANGES_MAX], doc)))

    def _together(self) -> AbstractContextManager[None]:
        """A transaction, or the one that is open."""
        return nullcontext() if self._doc.in_transaction else self._doc.transaction()


class Cursor:
    """A place in a text or a list that stays with its neighbour. ``index`` is where it is now; ``name`` names the
    neighbour on every replica, so ``(actor, seq, offset)`` may be sent around."""

    __slots__ = ("_handle", "name")

    def __init__(self, handle: SequenceHandle, name: tuple[str, int, int] | None) -> None:
        self._handle, self.name = handle, name

    @property
    def index(self) -> int:
        """Elements that show before it. Where its neighbour was, once that is removed."""
        doc = self._handle._doc
        store = doc.find(self._handle._path, self._handle._store)
        if self.name is None or store is None:
            return len(self._handle)
        actor, seq, offset = self.name
        index = doc.actors.find(actor)
        element = 0 if index is None else store.element(index, seq, offset)
        return store.index_of(store.where(element)) if element else len(self._handle)
