"""The one kernel under every type: cells of concurrent dots, and what a type must answer for.

A *cell* is what survives of concurrent operations on one thing: mostly one dot, a bare int; a tuple of them under
concurrency. Each operation supersedes the dots its author had seen there, and leaves its own. Everything else follows
from that: a register shows the winner of a cell, a set holds an element while its cell has an addition, and so on.

Two rules keep operations small. An actor has seen all its own earlier operations, so only *others'* dots are named.
And one dot names all of its actor's earlier ones on the same thing: whoever saw it saw those. So what a removal saw, of
an element or of a whole subtree, is at most one dot an actor.

Source  Bieniusa et al. 2012 (arXiv:1210.3368); Almeida, Shoker, Baquero 2018, doi:10.1016/j.jpdc.2017.08.003.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import msgspec

from crdt.actors import ActorTable
from crdt.clock import INDEX_BITS, INDEX_MASK, SEQ_MAX, Dot
from crdt.errors import InvalidBytes
from crdt.value import DEPTH_MAX, KEY_BYTES_MAX, Value, check_key

if TYPE_CHECKING:
    from crdt.document import Document

Cell: TypeAlias = int | tuple[int, ...]
Path: TypeAlias = str | tuple[str, ...]  # a bare str when it has one key: the shape it travels in
Seen: TypeAlias = Sequence[Dot]  # one dot an actor: that one and all its earlier ones
Clock: TypeAlias = Sequence[int]  # count by actor number; numbers past its end count 0

SHORT_KEY = KEY_BYTES_MAX // 4  # as many code points surely fit


def dots_of(cell: Cell) -> tuple[int, ...]:
    """A cell as a tuple."""
    return (cell,) if type(cell) is int else cell  # type: ignore[return-value]


def is_seen(dot: Dot, by: Dot, seen: Seen) -> bool:
    """Whether the author of ``by``, who named ``seen``, had seen ``dot``."""
    index = dot & INDEX_MASK
    if index == by & INDEX_MASK:
        return True
    return any(other & INDEX_MASK == index and other >= dot for other in seen)


def survivors(cell: Cell, by: Dot, seen: Seen) -> Cell | None:
    """What operation ``by`` leaves of ``cell``; ``None`` for nothing."""
    if type(cell) is int:
        return None if is_seen(cell, by, seen) else cell
    return as_cell([dot for dot in dots_of(cell) if not is_seen(dot, by, seen)])


def as_cell(dots: Sequence[Dot]) -> Cell | None:
    """The cell of ``dots``."""
    if not dots:
        return None
    return dots[0] if len(dots) == 1 else tuple(dots)


def with_dot(cell: Cell | None, dot: Dot) -> Cell:
    """``cell`` and one more."""
    return dot if cell is None else (*dots_of(cell), dot)


def covers(clock: Clock, dot: Dot) -> bool:
    """Whether ``clock`` counts ``dot``."""
    index = dot & INDEX_MASK
    return index < len(clock) and dot >> INDEX_BITS <= clock[index]


def join_dots(mine: Sequence[Dot], theirs: Sequence[Dot], my_clock: Clock, their_clock: Clock) -> list[Dot]:
    """A dot stays if both have it, or one has it and the other never saw it."""
    kept = [dot for dot in mine if dot in theirs or not covers(their_clock, dot)]
    kept += [dot for dot in theirs if dot not in mine and not covers(my_clock, dot)]
    return kept


def join_cells(mine: Cell | None, theirs: Cell | None, my_clock: Clock, their_clock: Clock) -> Cell | None:
    """The join of two cells, each under its document's clock."""
    if mine == theirs:
        return mine
    ours = () if mine is None else dots_of(mine)
    return as_cell(join_dots(ours, () if theirs is None else dots_of(theirs), my_clock, their_clock))


class Names:
    """Actor numbers as they are written in one snapshot or digest: ranks in the order of the names' bytes."""

    __slots__ = ("_table", "names", "ranks")

    def __init__(self, table: ActorTable, indices: Sequence[int]) -> None:
        ordered = table.ordered(indices)
        self.names = [table.names[index] for index in ordered]
        self.ranks = {index: rank for rank, index in enumerate(ordered)}

    def flat(self, dots: Sequence[Dot]) -> list[int]:
        """Dots as rank, seq, rank, seq, … in canonical order."""
        ranks = self.ranks
        return [each for pair in sorted((ranks[d & INDEX_MASK], d >> INDEX_BITS) for d in dots) for each in pair]


class Thaw:
    """Ranks of one snapshot back into numbers of this document, each checked against the snapshot's clock."""

    __slots__ = ("_counts", "_indices")

    def __init__(self, indices: Sequence[int], counts: Sequence[int]) -> None:
        self._indices, self._counts = indices, counts

    def index(self, rank: int) -> int:
        if not 0 <= rank < len(self._indices):
            raise InvalidBytes("an actor the snapshot does not name")
        return self._indices[rank]

    def dot(self, rank: int, seq: int) -> Dot:
        if not 0 <= rank < len(self._indices) or not 0 < seq <= self._counts[rank]:
            raise InvalidBytes("a dot outside the snapshot's clock")
        return seq << INDEX_BITS | self._indices[rank]

    def each(self, ranks: Sequence[int], seqs: Sequence[int]) -> list[Dot]:
        """The dots of two columns."""
        indices, counts = self._indices, self._counts
        if ranks and not (min(ranks) >= 0 and max(ranks) < len(indices)):
            raise InvalidBytes("an actor the snapshot does not name")
        dots = [
            seq << INDEX_BITS | indices[rank]
            for rank, seq in zip(ranks, seqs, strict=True)
            if 0 < seq <= counts[rank]
        ]  # fmt: skip
        if len(dots) < len(ranks):
            raise InvalidBytes("a dot outside the snapshot's clock")
        return dots

    def dots(self, flat: Sequence[int]) -> list[Dot]:
        if len(flat) % 2:
            raise InvalidBytes("half a dot")
        dots = [self.dot(flat[at], flat[at + 1]) for at in range(0, len(flat), 2)]
        if len({dot & INDEX_MASK for dot in dots}) < len(dots):
            raise InvalidBytes("two dots of one actor in one cell")
        return dots


Rows: TypeAlias = dict[int, tuple[Any, ...]]  # by actor number: what a removal saw of a counter


class Store:
    """State of one object. Each type is a subclass; ``register`` makes it known.

    All its methods are total: what could be refused was refused before (locally), or when the bytes were read.
    """

    __slots__ = ()
    kind: ClassVar[str]
    is_ordered: ClassVar[bool] = False  # whether it has a slot ``names``, filled when it is made: the order of actors

    def is_live(self) -> bool:
        """Whether something of it shows: presence."""
        raise NotImplementedError

    def is_bottom(self) -> bool:
        """Whether nothing is left, not even what a late removal or join needs: it may be forgotten."""
        return not self.is_live()

    def value(self, names: ActorTable) -> Value:
        """What it shows, as fresh plain Python. ``names`` settle ties."""
        raise NotImplementedError

    def mark(self, names: ActorTable) -> Any:
        """Something that is equal if and only if what it shows is, and that later changes do not touch."""
        return repr(self.value(names))  # tells 1, 1.0 and True apart

    def size(self) -> int:
        """About how many elements its value has."""
        return 1

    def removed_count(self) -> int:
        """How many removed things it still knows, for those who return late."""
        return 0

    def garbage(self) -> Any:
        """What could go once everybody has seen it as it is now (``garbage``): any form, true as long as it is here."""
        return None

    def forgetting(self, found: Any, clock: Clock, path: Path, doc: Document) -> Iterator[tuple[Op, int]]:
        """Operations that make everybody forget what ``garbage`` found at ``clock`` and is still so, and of how much.
        Each is written before the next is asked for."""
        raise NotImplementedError

    def others(self, names: ActorTable) -> list[Value]:
        """Values in conflict with the one shown."""
        return []

    def dots(self) -> Iterator[Dot]:
        """All its dots."""
        raise NotImplementedError

    def rows(self) -> Rows:
        """What a removal must record beyond dots, by actor number: (seq, …). Only counters have some."""
        return {}

    def write_row(self, row: tuple[Any, ...], ref: Callable[[int], int]) -> list[Any]:
        """One of ``rows`` as it travels, after its actor's reference; ``ref`` makes references."""
        raise NotImplementedError

    def read_row(self, plain: Sequence[Any], refs: Sequence[int]) -> tuple[Any, ...]:
        """Back from ``write_row``, for bytes that ``check_row`` let pass."""
        raise NotImplementedError

    @staticmethod
    def check_row(plain: Sequence[Any], needs: Needs) -> None:
        """Raise ``InvalidBytes`` unless ``write_row`` makes such rows."""
        raise InvalidBytes("a row of a type that has none")

    def remove(self, by: Dot, seen: Seen, rows: Rows) -> None:
        """Reset: take out what ``by`` saw."""
        raise NotImplementedError

    def reset(self, by: Dot, seen: Seen, totals: Any, below: tuple[str, ...]) -> None:
        """``remove`` as part of a subtree's; ``totals``: rows by path below the removed key, and kind."""
        self.remove(by, seen, totals.get((below, self.kind), {}))

    def join(self, other: Any, mine: Clock, theirs: Clock) -> None:
        """Become the least upper bound with ``other`` (of this type; it is not used afterwards)."""
        raise NotImplementedError

    def freeze(self, names: Names, *, live: bool) -> Any:
        """Plain canonical form; ``live``: only what shows or may show, for the digest."""
        raise NotImplementedError

    def thaw(self, plain: bytes, names: Thaw, depth: int) -> None:
        """Fill this new object from the encoded ``freeze``. Raises ``InvalidBytes``."""
        raise NotImplementedError

    def copy(self) -> Any:
        """An equal object that shares nothing which may change."""
        raise NotImplementedError

    def mentions(self) -> Iterator[int]:
        """Actors it names beyond those of its dots."""
        return iter(())

    def memento(self, op: Any, dot: Dot, refs: Sequence[int]) -> Any:
        """Enough to undo ``op``, which is about to be performed as ``dot``."""
        raise NotImplementedError

    def restore(self, memento: Any) -> None:
        """Undo, latest first."""
        raise NotImplementedError


class Op(msgspec.Struct, array_like=True, gc=False):
    """One operation on the object at ``path``, as it travels. Consumes one dot. Subclasses are tagged by a number."""

    store: ClassVar[type[Store] | None] = None  # the type it is for; None: any (delete)
    removes: ClassVar[bool] = False  # whether it may leave nothing behind
    shows: ClassVar[bool] = True  # whether it may change what an observer sees
    adds: ClassVar[bool] = False  # whether it is undone by undoing such a one on the same object right before it
    path: Path

    def perform(self, store: Any, dot: Dot, refs: Sequence[int], stamp: int) -> None:
        """Change ``store``. ``refs``: actor numbers behind the change's references; ``stamp``: the change's HLC."""
        raise NotImplementedError

    def check(self, needs: Needs) -> None:
        """Raise ``InvalidBytes`` if no correct replica writes this; note what must have been seen before it."""
        check_path(self.path)


class Needs:
    """References of one change while it is checked: whom it names, and the counts it must have seen of them."""

    __slots__ = ("actors", "counts", "own")

    def __init__(self, own: str, actors: Sequence[str]) -> None:
        self.own, self.actors = own, actors
        self.counts: dict[str, int] = {}

    def seen(self, flat: Sequence[int]) -> None:
        """Note dots given as reference, seq, reference, seq, …"""
        if len(flat) % 2:
            raise InvalidBytes("half a dot")
        for at in range(0, len(flat), 2):
            self.see(flat[at], flat[at + 1])

    def see(self, ref: Any, seq: Any) -> None:
        """Note one dot."""
        if type(ref) is not int or type(seq) is not int or not 0 <= ref < len(self.actors) or not 0 < seq < 1 << 42:
            raise InvalidBytes("a dot of an actor the change does not name")
        actor = self.actors[ref]
        if actor == self.own:
            raise InvalidBytes("an actor that names its own dots: they are always seen")
        if seq > self.counts.get(actor, 0):
            self.counts[actor] = seq

    def named(self, ref: Any) -> str:
        """The actor behind a reference."""
        if type(ref) is not int or not 0 <= ref < len(self.actors):
            raise InvalidBytes("an actor the change does not name")
        return self.actors[ref]


def check_path(path: Path) -> None:
    """Raise ``InvalidBytes`` unless ``path`` is in the one shape it may travel in."""
    if type(path) is str:
        if len(path) > SHORT_KEY and len(path.encode()) > KEY_BYTES_MAX:
            raise InvalidBytes("a key that is too long")
        return
    if not 1 < len(path) <= DEPTH_MAX:
        raise InvalidBytes("a path of no allowed depth")
    for key in path:
        if len(key) > SHORT_KEY:
            try:
                check_key(key)
            except ValueError as wrong:
                raise InvalidBytes(f"a path with {wrong}") from None


def as_keys(path: Path) -> tuple[str, ...]:
    """A path as its keys."""
    return (path,) if type(path) is str else path  # type: ignore[return-value]


def resolve(flat: Sequence[int], refs: Sequence[int]) -> Seen:
    """Dots given by reference as dots of this document."""
    if not flat:
        return flat
    return [flat[at + 1] << INDEX_BITS | refs[flat[at]] for at in range(0, len(flat), 2)]


def read_limits(flat: Sequence[int], dot: Dot, refs: Sequence[int]) -> dict[int, int]:
    """Sequences by actor number, given as who, seq, who, seq, …: who is 0 for the author of ``dot``, else a reference,
    plus 1."""
    own = dot & INDEX_MASK
    return {refs[flat[at] - 1] if flat[at] else own: flat[at + 1] for at in range(0, len(flat), 2)}


def write_limits(limits: Mapping[int, int], doc: Document) -> list[int]:
    """Back to ``read_limits``, for the operation about to be written."""
    doc.seen(())
    flat: list[int] = []
    for index in doc.actors.ordered(limits):
        flat += (0 if index == doc.index else doc.refer(doc.actors.names[index]) + 1, limits[index])
    return flat


def check_limits(flat: Sequence[int], needs: Needs) -> None:
    """Raise ``InvalidBytes`` unless these are limits; note what must have been seen."""
    if len(flat) % 2:
        raise InvalidBytes("half a limit")
    for at in range(0, len(flat), 2):
        if flat[at]:
            needs.see(flat[at] - 1, flat[at + 1])
        elif not 0 < flat[at + 1] <= SEQ_MAX:
            raise InvalidBytes("a limit out of bounds")


STORES: dict[str, type[Store]] = {}
OPERATIONS: dict[int, type[Op]] = {}


def register(*operations: type[Op]) -> Callable[[type[Store]], type[Store]]:
    """Make a type known, with the operations that are written for it: the one door for new types."""

    def enter(store: type[Store]) -> type[Store]:
        STORES[store.kind] = store
        for each in operations:
            each.store = store
            enter_operation(each)
        return store

    return enter


def enter_operation(operation: type[Op]) -> None:
    """Make an operation known. Its tag is its number on the wire, for ever."""
    tag = operation.__struct_config__.tag
    if type(tag) is not int or tag in OPERATIONS:
        raise ValueError(f"operation number {tag!r} is taken")
    OPERATIONS[tag] = operation
