"""Writes that become one change, or none."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from crdt.causal import Op, Store, as_keys
from crdt.change import Change
from crdt.clock import INDEX_BITS, Dot
from crdt.errors import CrdtError
from crdt.map import Delete, MapStore, copy_slot

if TYPE_CHECKING:
    from crdt.writer import Writer


class Transaction:
    """Writes that become one change, or none. Made by ``Document.transaction``."""

    __slots__ = ("_doc", "_grown", "_ops", "_seq", "_stamp", "_undo")

    def __init__(self, doc: Writer) -> None:
        self._doc = doc
        self._ops: list[Op] = []
        self._undo: list[Callable[[], None]] = []
        self._grown: Store | None = None  # what the latest operation only added to
        self._seq = self._stamp = 0

    def __enter__(self) -> None:
        doc = self._doc
        doc._settled()
        if doc.guard is not None:
            doc.guard()
        if doc._root.closed:
            doc.require_open()
        self._seq = doc._clock[doc.index] + 1
        self._stamp = doc.hlc.tick()
        doc._names, doc._refs = {}, []
        doc._transaction = self

    @property
    def upcoming(self) -> int:
        return self._seq + len(self._ops)

    def write(self, op: Op) -> None:
        doc = self._doc
        if op.store is not None:
            doc.target(op.path, op.store)
        dot = self._seq + len(self._ops) << INDEX_BITS | doc.index
        self._remember(op, dot)
        self._ops.append(op)
        doc._perform(op, dot, doc._refs, self._stamp)

    def __exit__(self, kind: type[BaseException] | None, *rest: BaseException | TracebackType | None) -> None:
        doc, ops = self._doc, self._ops
        try:
            if kind is None and ops:
                step = 1 << 62  # no step is longer on the wire
                doc._require_fit(Change(doc.actor, self._seq, 0, step, ops, list(doc._names), doc._news_counts()))
        except CrdtError:
            self._roll_back()
            raise
        if kind is not None:
            self._roll_back()
            return
        doc._transaction = None
        self._prune()
        if ops:
            doc._commit(ops, self._seq, self._stamp)

    def _roll_back(self) -> None:
        for undo in reversed(self._undo):
            undo()
        self._doc._transaction = None
        self._doc._names, self._doc._refs = {}, []
        self._prune()

    def _prune(self) -> None:
        """While it was open nothing was forgotten, so that it could be taken back."""
        for op in self._ops:
            self._doc._root.prune(as_keys(op.path))

    def _remember(self, op: Op, dot: Dot) -> None:
        """Note how to take ``op`` back; later ones are taken back before it."""
        path = as_keys(op.path)
        parent = self._doc._root
        for key in path[:-1]:
            parent = parent.open(key, MapStore)
        key = path[-1]
        if isinstance(op, Delete):
            self._grown = None
            # The copy is reset and goes on living; the original waits, untouched, for the undo of what came before.
            slot = parent.children[key]
            parent.children[key] = copy_slot(slot)

            def put_back() -> None:
                parent.children[key] = slot

            self._undo.append(put_back)
        else:
            assert op.store is not None
            store = parent.open(key, op.store)
            if op.adds and store is self._grown:
                return
            self._grown = store if op.adds else None
            memento = store.memento(op, dot, self._doc._refs)
            self._undo.append(lambda: store.restore(memento))
