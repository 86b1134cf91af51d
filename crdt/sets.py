"""Sets: add-wins and remove-wins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from crdt.actors import ActorTable
from crdt.causal import (
    SHORT_KEY,
    Cell,
    Clock,
    Names,
    Needs,
    Op,
    Path,
    Rows,
    Seen,
    Store,
    Thaw,
    as_cell,
    check_limits,
    check_path,
    dots_of,
    join_cells,
    read_limits,
    register,
    resolve,
    survivors,
    with_dot,
    write_limits,
)
from crdt.clock import INDEX_BITS, INDEX_MASK, Dot
from crdt.errors import InvalidBytes
from crdt.handle import Handle
from crdt.value import Value, check_packed, pack, unpack

if TYPE_CHECKING:
    from crdt.document import Document

Cells = dict[bytes, Cell]


class Put(Op, tag=6):
    """Add an element (``present``) or remove it, and take the place of the dots of it that were seen."""

    removes: ClassVar[bool] = True
    element: bytes
    present: bool
    seen: list[int]

    def perform(self, store: SetStore, dot: Dot, refs: Sequence[int], stamp: int) -> None:
        raw = self.element
        cells = store.added
        cell = cells.get(raw)
        if cell is None:
            if self.present:
                cells[raw] = dot
            return
        left = survivors(cell, dot, resolve(self.seen, refs))
        if self.present:
            cells[raw] = with_dot(left, dot)
        elif left is None:
            del cells[raw]
        else:
            cells[raw] = left

    def check(self, needs: Needs) -> None:
        if type(self.path) is not str or len(self.path) > SHORT_KEY:
            check_path(self.path)
        check_packed(self.element)
        if self.seen:
            needs.seen(self.seen)


class PutStrict(Put, tag=7):
    """The same for a remove-wins set: removals leave a dot too."""

    def perform(self, store: StrictSetStore, dot: Dot, refs: Sequence[int], stamp: int) -> None:  # type: ignore[override]
        raw = self.element
        seen = resolve(self.seen, refs)
        for cells, holds in ((store.added, self.present), (store.removed, not self.present)):
            cell = cells.get(raw)
            left = None if cell is None else survivors(cell, dot, seen)
            if holds:
                cells[raw] = with_dot(left, dot)
            elif left is not None:
                cells[raw] = left
            elif cell is not None:
                del cells[raw]


class Settle(Op, tag=40):
    """Forget removals that everybody saw, with the additions they beat. ``limits``: who (0 for oneself, else a
    reference, plus 1), seq, who, seq, …: an element goes when all that is known of it lies below them. An addition that
    does not, made by somebody nobody had heard of, counts as one that saw the removals that do."""

    removes: ClassVar[bool] = True
    limits: list[int]

    def perform(self, store: StrictSetStore, dot: Dot, refs: Sequence[int], stamp: int) -> None:
        store.settle(read_limits(self.limits, dot, refs))

    def check(self, needs: Needs) -> None:
        super().check(needs)
        check_limits(self.limits, needs)


@register(Put)
class SetStore(Store):
    """Add-wins: a remove removes the adds it saw, so an add nobody had seen stays. No tombstones.

    Join   per element of the dots: each kept unless the other side saw it and has it no more.
    Cost   add, discard, ``in`` O(1); join and value O(n). An element is its canonical bytes and mostly one int.
    Source Bieniusa et al. 2012, arXiv:1210.3368 (the optimised OR-set).
    """

    __slots__ = ("added",)
    kind = "set"

    def __init__(self) -> None:
        self.added: Cells = {}

    def members(self) -> Sequence[bytes]:
        """Elements that are in."""
        return self.added.keys()  # type: ignore[return-value]

    def has(self, raw: bytes) -> bool:
        return raw in self.added

    def at(self, raw: bytes) -> Iterator[Dot]:
        """The dots of one element."""
        yield from dots_of(self.added.get(raw, ()))

    def is_live(self) -> bool:
        return bool(self.added)

    def is_bottom(self) -> bool:
        return not self.added

    def value(self, names: ActorTable) -> Value:
        return [unpack(raw) for raw in sorted(self.members())]

    def mark(self, names: ActorTable) -> Any:
        return frozenset(self.members())

    def size(self) -> int:
        return len(self.added)

    def dots(self) -> Iterator[Dot]:
        for cell in self.added.values():
            yield from dots_of(cell)

    def remove(self, by: Dot, seen: Seen, rows: Rows) -> None:
        self.added = _removed(self.added, by, seen)

    def join(self, other: SetStore, mine: Clock, theirs: Clock) -> None:
        _join(self.added, other.added, mine, theirs)

    def freeze(self, names: Names, *, live: bool) -> Any:
        return _freeze(self.added, names)

    def thaw(self, plain: bytes, names: Thaw, depth: int) -> None:
        self.added = _thaw(_cells_decode(plain), names)

    def copy(self) -> SetStore:
        twin = type(self)()
        twin.added = dict(self.added)
        return twin

    def memento(self, op: Any, dot: Dot, refs: Sequence[int]) -> Any:
        return op.element, self.added.get(op.element)

    def restore(self, memento: Any) -> None:
        _put_back(self.added, *memento)


@register(PutStrict, Settle)
class StrictSetStore(SetStore):
    """Remove-wins: an add cancels the removes it saw; an element is in while added and no remove of it is left.

    A remove leaves its dot, also for an element that is not there: an add made beside it loses. Once nobody can make
    such an add any more the remove is forgotten (``garbage``).
    """

    __slots__ = ("removed",)
    kind = "set-remove-wins"
    _settle: ClassVar[type[Settle]] = Settle

    def __init__(self) -> None:
        super().__init__()
        self.removed: Cells = {}

    def members(self) -> Sequence[bytes]:
        removed = self.removed
        return [raw for raw in self.added if raw not in removed]

    def has(self, raw: bytes) -> bool:
        return raw in self.added and raw not in self.removed

    def removed_count(self) -> int:
        return len(self.removed)

    def at(self, raw: bytes) -> Iterator[Dot]:
        yield from dots_of(self.added.get(raw, ()))
        yield from dots_of(self.removed.get(raw, ()))

    def settle(self, limits: Mapping[int, int]) -> None:
        """Forget the removals below ``limits`` (sequences by actor number), and the additions there they beat."""
        for raw in list(self.removed):
            for cells in (self.added, self.removed):
                cell = cells.get(raw)
                if cell is not None:
                    left = [dot for dot in dots_of(cell) if not is_below(dot, limits)]
                    _put_back(cells, raw, as_cell(left))

    def settled(self, limits: Mapping[int, int]) -> dict[int, int]:
        """The highest limits within ``limits`` that ``settle`` may take now without showing anything that loses."""
        limits, lowered = dict(limits), True
        while lowered:
            lowered = False
            for raw, cell in self.removed.items():
                others = [dot for dot in self.at(raw) if not is_below(dot, limits)]
                if others:
                    for dot in dots_of(cell):
                        if is_below(dot, limits):
                            limits[dot & INDEX_MASK] = (dot >> INDEX_BITS) - 1
                            lowered = True
        highest: dict[int, int] = {}
        for raw in self.removed:
            for dot in self.at(raw):
                if is_below(dot, limits):
                    index = dot & INDEX_MASK
                    highest[index] = max(dot >> INDEX_BITS, highest.get(index, 0))
        return highest

    def garbage(self) -> Any:
        return bool(self.removed)

    def forgetting(self, found: Any, clock: Clock, path: Path, doc: Document) -> Iterator[tuple[Op, int]]:
        limits = self.settled(dict(enumerate(clock)))
        if limits:
            yield (
                self._settle(path, write_limits(limits, doc)),
                sum(all(is_below(dot, limits) for dot in self.at(raw)) for raw in self.removed),
            )

    def is_live(self) -> bool:
        return any(raw not in self.removed for raw in self.added)

    def is_bottom(self) -> bool:
        return not self.added and not self.removed

    def dots(self) -> Iterator[Dot]:
        for cells in (self.added, self.removed):
            for cell in cells.values():
                yield from dots_of(cell)

    def remove(self, by: Dot, seen: Seen, rows: Rows) -> None:
        super().remove(by, seen, rows)
        self.removed = _removed(self.removed, by, seen)

    def join(self, other: SetStore, mine: Clock, theirs: Clock) -> None:
        super().join(other, mine, theirs)
        assert isinstance(other, StrictSetStore)
        _join(self.removed, other.removed, mine, theirs)

    def freeze(self, names: Names, *, live: bool) -> Any:
        removed = self.removed
        if live:  # a remove alone shows nothing
            removed = {raw: cell for raw, cell in removed.items() if raw in self.added}
        return _freeze(self.added, names), _freeze(removed, names)

    def thaw(self, plain: bytes, names: Thaw, depth: int) -> None:
        added, removed = _pairs_decode(plain)
        self.added, self.removed = _thaw(added, names), _thaw(removed, names)

    def copy(self) -> StrictSetStore:
        twin = super().copy()
        assert isinstance(twin, StrictSetStore)
        twin.removed = dict(self.removed)
        return twin

    def memento(self, op: Any, dot: Dot, refs: Sequence[int]) -> Any:
        return op.element, self.added.get(op.element), self.removed.get(op.element)

    def restore(self, memento: Any) -> None:
        raw, added, removed = memento
        _put_back(self.added, raw, added)
        _put_back(self.removed, raw, removed)


class Set(Handle):
    """Handle of an add-wins set."""

    __slots__ = ()
    _store: ClassVar[Any] = SetStore
    _put = Put

    def add(self, element: Value) -> None:
        """Put ``element`` in; again when it is in, so that it beats removals made elsewhere meanwhile."""
        raw = pack(element)
        doc = self._doc
        store = doc.target(self._wire, self._store)
        cell = None if store is None else store.added.get(raw)
        seen = [] if cell is None else doc.seen(store.at(raw))
        doc.write(self._put(self._wire, raw, True, seen), True)

    def discard(self, element: Value) -> None:
        """Take ``element`` out, if it is in."""
        raw = pack(element)
        store = self._doc.target(self._path, self._store)
        if store is not None and raw in store.added:
            self._doc.write(self._put(self._wire, raw, False, self._doc.seen(store.at(raw))))

    def __contains__(self, element: Value) -> bool:
        store = self._doc.find(self._path, self._store)
        return store is not None and store.has(pack(element))

    def __len__(self) -> int:
        store = self._doc.find(self._path, self._store)
        return 0 if store is None else len(store.members())

    def __iter__(self) -> Iterator[Value]:
        return iter(self.value)

    @property
    def value(self) -> list[Value]:
        """Its elements in canonical order; empty while absent."""
        store = self._doc.find(self._path, self._store)
        return [] if store is None else store.value(self._doc.actors)


class StrictSet(Set):
    """Handle of a remove-wins set."""

    __slots__ = ()
    _store = StrictSetStore
    _put = PutStrict

    def add(self, element: Value) -> None:
        """Put ``element`` in; loses to removals made elsewhere meanwhile."""
        self._write(element, True)

    def discard(self, element: Value) -> None:
        """Take ``element`` out, and out it stays whatever was added elsewhere meanwhile."""
        self._write(element, False)

    def _write(self, element: Value, present: bool) -> None:
        raw = pack(element)
        store = self._doc.find(self._path, self._store)
        seen = [] if store is None else self._doc.seen(store.at(raw))
        self._doc.write(self._put(self._wire, raw, present, seen))


def is_below(dot: Dot, limits: Mapping[int, int]) -> bool:
    """Whether ``dot`` is one of those the sequences in ``limits`` count."""
    return dot >> INDEX_BITS <= limits.get(dot & INDEX_MASK, 0)


def _removed(cells: Cells, by: Dot, seen: Seen) -> Cells:
    kept = {}
    for raw, cell in cells.items():
        left = survivors(cell, by, seen)
        if left is not None:
            kept[raw] = left
    return kept


def _join(cells: Cells, others: Cells, mine: Clock, theirs: Clock) -> None:
    if cells == others:
        return
    twin = others.get
    for raw in [raw for raw, cell in cells.items() if twin(raw) != cell]:  # few, where they are nearly equal
        joined = join_cells(cells[raw], twin(raw), mine, theirs)
        if joined is None:
            del cells[raw]
        else:
            cells[raw] = joined
    for raw in [raw for raw in others if raw not in cells]:
        joined = join_cells(None, others[raw], mine, theirs)
        if joined is not None:
            cells[raw] = joined


def _freeze(cells: Cells, names: Names) -> list[Any]:
    """Three columns, or for a cell of several dots a list in the second one."""
    ranks, elements = names.ranks, sorted(cells)
    dots: list[Any] = []
    for raw in elements:
        cell = cells[raw]
        if type(cell) is int:
            dots += (ranks[cell & INDEX_MASK], cell >> INDEX_BITS)
        else:
            dots.append(names.flat(dots_of(cell)))
    return [elements, dots]


def _thaw(columns: tuple[list[bytes], list[int | list[int]]], names: Thaw) -> Cells:
    elements, dots = columns
    for raw in elements:
        check_packed(raw)
    cells: Cells = {}
    if len(dots) == 2 * len(elements) and {int}.issuperset(map(type, dots)):  # no element has several
        cells = dict(zip(elements, names.each(dots[::2], dots[1::2]), strict=True))  # type: ignore[arg-type]
        if len(cells) < len(elements):
            raise InvalidBytes("an element twice")
        return cells
    at = 0
    for raw in elements:
        if at >= len(dots):
            raise InvalidBytes("an element without a dot")
        first: Any = dots[at]
        at += 1
        if type(first) is int:
            if at >= len(dots) or type(dots[at]) is not int:
                raise InvalidBytes("half a dot")
            cells[raw] = names.dot(first, dots[at])  # type: ignore[arg-type]
            at += 1
        else:
            cell = as_cell(names.dots(first))
            if cell is None:
                raise InvalidBytes("an element without a dot")
            cells[raw] = cell
    if at < len(dots) or len(cells) < len(elements):
        raise InvalidBytes("dots without an element")
    return cells


def _put_back(cells: Cells, raw: bytes, cell: Cell | None) -> None:
    if cell is None:
        cells.pop(raw, None)
    else:
        cells[raw] = cell


_Columns = tuple[list[bytes], list[int | list[int]]]
_cells_decode = msgspec.msgpack.Decoder(_Columns).decode
_pairs_decode = msgspec.msgpack.Decoder(tuple[_Columns, _Columns]).decode
