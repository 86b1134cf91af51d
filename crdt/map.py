"""Nested objects under keys, and the removal of whole subtrees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import msgspec

from crdt.actors import ActorTable
from crdt.bounded import Bounded
from crdt.causal import (
    STORES,
    Clock,
    Names,
    Needs,
    Op,
    Rows,
    Seen,
    Store,
    Thaw,
    check_path,
    enter_operation,
    register,
    resolve,
)
from crdt.clock import INDEX_MASK, Dot
from crdt.counter import Counter
from crdt.errors import InvalidBytes, InvalidValue, UnknownOperation
from crdt.flag import Flag, StrictFlag
from crdt.handle import Handle
from crdt.list import List
from crdt.register import Multi, Register, assign
from crdt.sets import Set, StrictSet
from crdt.text import Text
from crdt.value import DEPTH_MAX, Value, check_key, sorted_keys

if TYPE_CHECKING:
    from crdt.document import Document

Slot: TypeAlias = "Store | dict[str, Store]"  # mostly one object; by kind after a clash of types
Totals: TypeAlias = dict[tuple[tuple[str, ...], str], Rows]  # by path below the removed key, and kind

_TotalsPlain = list[tuple[tuple[str, ...], str, list[list[int | bytes]]]]


class Delete(Op, tag=10):
    """Remove what was seen under a key: everything up to one dot an actor, and of counters the totals seen."""

    removes: ClassVar[bool] = True
    seen: list[int]
    totals: _TotalsPlain

    def perform(self, store: MapStore, dot: Dot, refs: Sequence[int], stamp: int) -> None:
        """Here ``store`` is the map that holds the key."""
        key = self.path if type(self.path) is str else self.path[-1]
        totals: Totals = {}
        for below, kind, rows in self.totals:
            read = STORES[kind]().read_row
            totals[below, kind] = {refs[row[0]]: read(row[1:], refs) for row in rows}  # type: ignore[index]
        for each in store.at(key):
            each.reset(dot, resolve(self.seen, refs), totals, ())

    def check(self, needs: Needs) -> None:
        check_path(self.path)
        needs.seen(self.seen)
        for below, kind, rows in self.totals:
            if len(below) > DEPTH_MAX:
                raise InvalidBytes("a path of no allowed depth")
            if kind not in STORES:
                raise UnknownOperation(needs.own, 0, kind)
            for row in rows:
                if len(row) < 2:
                    raise InvalidBytes("a row of no allowed shape")
                needs.see(row[0], row[1])
                STORES[kind].check_row(row[1:], needs)


enter_operation(Delete)


@register()
class MapStore(Store):
    """Objects under keys. A map has no dots of its own: it is there while something live is under it.

    Law    add-wins with reset-remove: removing a key removes what was seen below it, so a concurrent update survives,
           with nothing but what it wrote. Two nodes that make the same child make one child.
    Clash  children of different types under one key are all kept; the one whose type name sorts first is shown.
    Join   key by key and type by type.
    Cost   O(1) a key on the way; removal, join and value O(subtree).
    Source Almeida, Shoker, Baquero 2018 (ORMap); riak_dt_map for keys of (name, type).
    """

    __slots__ = ("children", "names")
    kind = "map"
    is_ordered = True

    def __init__(self, names: ActorTable | None = None) -> None:
        self.children: dict[str, Slot] = {}
        if names is not None:
            self.names = names

    def at(self, key: str) -> list[Store]:
        """All objects under ``key``, by name of type."""
        slot = self.children.get(key)
        if slot is None:
            return []
        if type(slot) is dict:
            return [slot[kind] for kind in sorted(slot)]
        return [slot]  # type: ignore[list-item]

    def child(self, key: str, store: type[Store]) -> Any:
        """The object of that type under ``key``, or ``None``."""
        slot = self.children.get(key)
        if slot.__class__ is store:
            return slot
        return slot.get(store.kind) if type(slot) is dict else None

    def open(self, key: str, store: type[Store]) -> Any:
        """The object of that type under ``key``, made at need."""
        slot = self.children.get(key)
        if slot.__class__ is store:
            return slot
        if slot is None:
            made = self.children[key] = self._made(store)
            return made
        if type(slot) is not dict:
            slot = self.children[key] = {slot.kind: slot}  # type: ignore[union-attr, dict-item]
        if store.kind not in slot:
            slot[store.kind] = self._made(store)
        return slot[store.kind]

    def _made(self, store: type[Store]) -> Any:
        made: Any = store()
        if store.is_ordered:
            made.names = self.names
        return made

    def prune(self, path: tuple[str, ...]) -> None:
        """Forget the objects along ``path`` of which nothing is left."""
        parents: list[MapStore] = [self]
        for key in path[:-1]:
            parent = parents[-1].child(key, MapStore)
            if parent is None:
                break
            parents.append(parent)
        for parent, key in zip(reversed(parents), reversed(path[: len(parents)]), strict=True):
            parent._tidy(key)

    def _tidy(self, key: str) -> None:
        slot = self.children.get(key)
        if type(slot) is dict:
            left = {kind: store for kind, store in slot.items() if not store.is_bottom()}
            if len(left) > 1:
                self.children[key] = left
            elif left:
                self.children[key] = next(iter(left.values()))
            else:
                del self.children[key]
        elif slot is not None and slot.is_bottom():  # type: ignore[union-attr]
            del self.children[key]

    def live(self, key: str) -> list[Store]:
        """Live objects under ``key``, the one that is shown first."""
        return [store for store in self.at(key) if store.is_live()]

    def shown(self, key: str) -> Store | None:
        """The object that ``value`` shows under ``key``."""
        return next((store for store in self.at(key) if store.is_live()), None)

    def live_keys(self) -> list[str]:
        """Keys with something live under them, in canonical order."""
        return sorted_keys(key for key in self.children if self.shown(key) is not None)

    def is_live(self) -> bool:
        return any(self.shown(key) is not None for key in self.children)

    def is_bottom(self) -> bool:
        return not self.children

    def value(self, names: ActorTable) -> Value:
        plain = {}
        for key in sorted_keys(self.children):
            store = self.shown(key)
            if store is not None:
                plain[key] = store.value(names)
        return plain

    def size(self) -> int:
        return len(self.children)

    def mark(self, names: ActorTable) -> Any:
        shown = [(key, self.shown(key)) for key in sorted(self.children)]
        return [(key, store.kind, store.mark(names)) for key, store in shown if store is not None]

    def removed_count(self) -> int:
        return sum(store.removed_count() for store in self.stores())

    def stores(self) -> Iterator[Store]:
        """All objects directly under it."""
        for slot in self.children.values():
            if type(slot) is dict:
                yield from slot.values()
            else:
                yield slot  # type: ignore[misc]

    def dots(self) -> Iterator[Dot]:
        for store in self.stores():
            yield from store.dots()

    def mentions(self) -> Iterator[int]:
        for store in self.stores():
            yield from store.mentions()

    def totals(self, key: str, below: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Store, Rows]]:
        """What a removal of ``key`` must record of counters under it."""
        for store in self.at(key):
            if isinstance(store, MapStore):
                for child in sorted_keys(store.children):
                    yield from store.totals(child, (*below, child))
            else:
                rows = store.rows()
                if rows:
                    yield below, store, rows

    def reset(self, by: Dot, seen: Seen, totals: Totals, below: tuple[str, ...]) -> None:
        for key in list(self.children):
            for store in self.at(key):
                store.reset(by, seen, totals, (*below, key))
            self._tidy(key)

    def join(self, other: MapStore, mine: Clock, theirs: Clock) -> None:
        for key in list(self.children):
            for store in self.at(key):
                twin = other.child(key, type(store))
                store.join(type(store)() if twin is None else twin, mine, theirs)
        for key in other.children:
            for store in other.at(key):
                if self.child(key, type(store)) is None:
                    self.open(key, type(store)).join(store, mine, theirs)
        for key in list(self.children):
            self._tidy(key)

    def freeze(self, names: Names, *, live: bool) -> Any:
        return [
            (key, store.kind, store.freeze(names, live=live))
            for key in sorted_keys(self.children)
            for store in self.at(key)
            if not live or store.is_live()
        ]

    def thaw(self, plain: bytes, names: Thaw, depth: int) -> None:
        if depth <= 0:
            raise InvalidBytes("maps nested too deep")
        for key, kind, payload in _entries_decode(plain):
            try:
                check_key(key)
            except InvalidValue as wrong:
                raise InvalidBytes(str(wrong)) from None
            store = STORES.get(kind)
            if store is None:
                raise UnknownOperation("", 0, kind)
            if self.child(key, store) is not None:
                raise InvalidBytes("one object twice")
            child = self.open(key, store)
            child.thaw(payload, names, depth - 1)
            if child.is_bottom():
                raise InvalidBytes("an object with nothing in it")

    def copy(self) -> MapStore:
        twin = MapStore(self.names)
        for key, slot in self.children.items():
            twin.children[key] = copy_slot(slot)
        return twin


def copy_slot(slot: Slot) -> Slot:
    """An equal slot that shares nothing which may change."""
    if type(slot) is dict:
        return {kind: store.copy() for kind, store in slot.items()}
    return slot.copy()


class Objects:
    """What a document, a space and a map have in common: typed objects under keys. Handles of them write nothing."""

    __slots__ = ()
    _doc: Document
    _path: tuple[str, ...]

    def counter(self, key: str) -> Counter:
        """A counter that goes both ways. Each of these raises ``TypeClash`` if another type is there."""
        return self._open(Counter, key)  # type: ignore[no-any-return]

    def bounded(self, key: str) -> Bounded:
        """A counter that is never below zero."""
        return self._open(Bounded, key)  # type: ignore[no-any-return]

    def register(self, key: str) -> Register:
        """One value; the winner of concurrent writes is shown."""
        return self._open(Register, key)  # type: ignore[no-any-return]

    def multi(self, key: str) -> Multi:
        """One value; all of concurrent writes are shown."""
        return self._open(Multi, key)  # type: ignore[no-any-return]

    def set(self, key: str, *, remove_wins: bool = False) -> Set:
        """A set. Between a concurrent add and remove the add wins, or else the remove."""
        return self._open(StrictSet if remove_wins else Set, key)  # type: ignore[no-any-return]

    def flag(self, key: str, *, disable_wins: bool = False) -> Flag:
        """A switch. Between a concurrent enable and disable the enable wins, or else the disable."""
        return self._open(StrictFlag if disable_wins else Flag, key)  # type: ignore[no-any-return]

    def map(self, key: str) -> Map:
        """Values and objects under keys."""
        return self._open(Map, key)  # type: ignore[no-any-return]

    def list(self, key: str) -> List:
        """Values in an order, that can be moved."""
        return self._open(List, key)  # type: ignore[no-any-return]

    def text(self, key: str) -> Text:
        """Text that several edit at once."""
        return self._open(Text, key)  # type: ignore[no-any-return]

    def delete(self, key: str) -> None:
        """Remove what is under ``key``, whatever its type; what is written there concurrently survives."""
        doc, path = self._doc, (*self._path, check_key(key))
        parent = doc.find(self._path, MapStore)
        if parent is None or parent.shown(key) is None:
            return
        latest: dict[int, Dot] = {}
        for store in parent.at(key):
            for dot in store.dots():
                index = dot & INDEX_MASK
                if dot > latest.get(index, 0):
                    latest[index] = dot
        seen = doc.seen(latest.values())
        totals: _TotalsPlain = []
        for below, store, rows in parent.totals(key):
            plain = [
                [doc.refer(doc.actors.names[index]), *store.write_row(row, lambda i: doc.refer(doc.actors.names[i]))]
                for index, row in rows.items()
                if index != doc.index
            ]
            if plain:
                totals.append((below, store.kind, plain))
        doc.write(Delete(path[0] if len(path) == 1 else path, seen, totals))

    def _open(self, handle: type[Handle], key: str) -> Any:
        path = self._below(key)
        doc = self._doc
        doc.target(path, handle._store)
        return handle(doc, path)

    def _below(self, key: str) -> tuple[str, ...]:
        path = (*self._path, check_key(key))
        if len(path) > DEPTH_MAX:
            raise InvalidValue(f"maps nested deeper than {DEPTH_MAX}")
        return path


class Map(Objects, Handle):
    """Handle of a map. ``m[key] = value`` writes a register there; ``m.counter(key)`` and its kin open objects."""

    __slots__ = ()
    _store = MapStore

    def __setitem__(self, key: str, value: Value) -> None:
        assign(self._doc, self._below(key), value)

    def __getitem__(self, key: str) -> Value:
        store = self._shown(key)
        if store is None:
            raise KeyError(key)
        return store.value(self._doc.actors)

    def __delitem__(self, key: str) -> None:
        if self._shown(key) is None:
            raise KeyError(key)
        self.delete(key)

    def get(self, key: str, default: Value = None) -> Value:
        """What is shown under ``key``, or ``default``."""
        store = self._shown(key)
        return default if store is None else store.value(self._doc.actors)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._shown(key) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())

    def keys(self) -> list[str]:
        """Keys with something under them, in canonical order."""
        store = self._doc.find(self._path, MapStore)
        return [] if store is None else store.live_keys()

    def items(self) -> list[tuple[str, Value]]:
        """Keys and what is shown under them."""
        return list(self.value.items())

    @property
    def value(self) -> dict[str, Value]:
        """All of it as a dict; empty while absent."""
        store = self._doc.find(self._path, MapStore)
        return {} if store is None else store.value(self._doc.actors)

    def conflicts(self) -> list[Any]:
        """All conflicts below it: see ``Document.conflicts``."""
        return [each for each in self._doc.conflicts() if each.path[: len(self._path)] == self._path]

    def _shown(self, key: str) -> Store | None:
        store = self._doc.find(self._path, MapStore)
        return None if store is None else store.shown(key)


_entries_decode = msgspec.msgpack.Decoder(list[tuple[str, str, msgspec.Raw]]).decode
