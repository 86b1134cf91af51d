"""Counter that goes both ways, and can be removed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from crdt.actors import ActorTable
from crdt.causal import (
    SHORT_KEY,
    Clock,
    Names,
    Needs,
    Op,
    Path,
    Rows,
    Seen,
    Store,
    Thaw,
    check_limits,
    check_path,
    covers,
    read_limits,
    register,
    write_limits,
)
from crdt.clock import INDEX_BITS, INDEX_MASK, SEQ_MAX, Dot
from crdt.errors import InvalidBytes, InvalidValue
from crdt.handle import Handle

if TYPE_CHECKING:
    from crdt.document import Document

AMOUNT_MAX = (1 << 63) - 1


class Increment(Op, tag=1):
    """Add ``amount``, negative to decrement."""

    amount: Annotated[int, Meta(ge=-AMOUNT_MAX, le=AMOUNT_MAX)]

    def perform(self, store: CounterStore, dot: Dot, refs: Sequence[int], stamp: int) -> None:
        index = dot & INDEX_MASK
        amount = self.amount
        if index in store.totals:
            store.totals[index] += amount
        else:
            store.totals[index] = amount
            store.firsts[index] = dot >> INDEX_BITS
        store.lasts[index] = dot >> INDEX_BITS
        if store.bases:
            store.recount()
        else:
            store.number += amount

    def check(self, needs: Needs) -> None:
        path = self.path
        if type(path) is not str or len(path) > SHORT_KEY:
            check_path(path)


class Restart(Increment, tag=32):
    """The first increment after a removal of all that its author had added: a new row in place of the old one."""

    def perform(self, store: CounterStore, dot: Dot, refs: Sequence[int], stamp: int) -> None:
        index = dot & INDEX_MASK
        store.drop(index)
        store.totals[index] = self.amount
        store.firsts[index] = store.lasts[index] = dot >> INDEX_BITS
        store.recount()


class Forget(Op, tag=42):
    """Forget rows that count no more, for good: who (0 for oneself, else a reference, plus 1), seq, who, seq, …"""

    removes: ClassVar[bool] = True
    shows: ClassVar[bool] = False
    rows: list[int]

    def perform(self, store: CounterStore, dot: Dot, refs: Sequence[int], stamp: int) -> None:
        for index, seq in read_limits(self.rows, dot, refs).items():
            if store.lasts.get(index) == seq and store.is_spent(index):
                store.drop(index)
        store.recount()

    def check(self, needs: Needs) -> None:
        super().check(needs)
        check_limits(self.rows, needs)


@register(Increment, Restart, Forget)
class CounterStore(Store):
    """Per actor what it added so far, and the part of it that removals saw, which counts no more.

    A row is *spent* once a removal saw all of it. Its actor then goes on in a new row (``Restart``), so that totals of
    the old and the new one are never taken for each other; and once everybody has seen that removal, and so nobody can
    name the old one with effect, it is forgotten (``garbage``).

    Join   per actor the later row; of one row the later total and the later baseline. A row that one side lacks and
           has seen was forgotten. Commutative, associative, idempotent; bottom is empty.
    Delta  an increment; a removal carries the totals it saw, so two removals never count one increment twice.
    Cost   increment and value O(1), join O(actors), about 300 B an actor.
    Source Baquero, Almeida, Lerche 2016 (the problem with embedded counters): their epochs, with baselines inside.
    """

    __slots__ = ("bases", "firsts", "lasts", "number", "totals")
    kind = "counter"

    def __init__(self) -> None:
        self.totals: dict[int, int] = {}
        self.firsts: dict[int, int] = {}  # seq of the row's first increment: which row it is
        self.lasts: dict[int, int] = {}  # seq of the actor's latest increment
        self.bases: dict[int, tuple[int, int]] = {}  # seq and total that the latest removal saw
        self.number = 0

    def is_spent(self, index: int) -> bool:
        """Whether there is a row of that actor, and nothing of it counts any more."""
        return index in self.bases and self.lasts[index] <= self.bases[index][0]

    def drop(self, index: int) -> None:
        """Forget an actor's row. ``recount`` is the caller's."""
        for rows in (self.totals, self.firsts, self.lasts, self.bases):
            rows.pop(index, None)

    def spent(self) -> dict[int, int]:
        """Rows that count no more: the seq of their latest increment, by actor number."""
        return {index: self.lasts[index] for index in self.bases if self.is_spent(index)}

    def removed_count(self) -> int:
        return len(self.spent())

    def garbage(self) -> Any:
        return self.spent()

    def forgetting(self, found: Any, clock: Clock, path: Path, doc: Document) -> Iterator[tuple[Op, int]]:
        still = self.spent()
        rows = {index: seq for index, seq in found.items() if still.get(index) == seq}
        if rows:
            yield Forget(path, write_limits(rows, doc)), len(rows)

    def is_live(self) -> bool:
        bases = self.bases
        if not bases:
            return bool(self.lasts)
        return any(index not in bases or last > bases[index][0] for index, last in self.lasts.items())

    def is_bottom(self) -> bool:
        return not self.lasts

    def value(self, names: ActorTable) -> int:
        return self.number

    def dots(self) -> Iterator[Dot]:
        for index, last in self.lasts.items():
            yield last << INDEX_BITS | index

    def rows(self) -> Rows:
        return {index: (last, self.totals[index]) for index, last in self.lasts.items() if not self.is_spent(index)}

    def write_row(self, row: tuple[Any, ...], ref: Callable[[int], int]) -> list[Any]:
        return [row[0], wide(row[1])]

    def read_row(self, plain: Sequence[Any], refs: Sequence[int]) -> tuple[Any, ...]:
        return plain[0], narrow(plain[1])

    @staticmethod
    def check_row(plain: Sequence[Any], needs: Needs) -> None:
        if len(plain) != 2:
            raise InvalidBytes("a counter's row of another shape")
        narrow(plain[1])

    def remove(self, by: Dot, seen: Seen, rows: Rows) -> None:
        own = by & INDEX_MASK
        if own in self.lasts:
            self._rebase(own, (self.lasts[own], self.totals[own]))
        for index, row in rows.items():
            if row[0] >= self.firsts.get(index, SEQ_MAX + 1):
                self._rebase(index, row)
        self.recount()

    def join(self, other: CounterStore, mine: Clock, theirs: Clock) -> None:
        for index, last in list(self.lasts.items()):
            if index not in other.lasts and covers(theirs, last << INDEX_BITS | index):
                self.drop(index)
        for index, last in other.lasts.items():
            if index not in self.lasts and covers(mine, last << INDEX_BITS | index):
                continue
            first = other.firsts[index]
            if first > self.firsts.get(index, 0):
                self.drop(index)
            elif first < self.firsts[index]:
                continue
            if last > self.lasts.get(index, 0):
                self.firsts[index], self.lasts[index], self.totals[index] = first, last, other.totals[index]
            if index in other.bases:
                self._rebase(index, other.bases[index])
        self.recount()

    def freeze(self, names: Names, *, live: bool) -> Any:
        rows: list[tuple[int | bytes, ...]] = []
        for index in sorted(self.lasts, key=names.ranks.__getitem__):
            base_seq, base = self.bases.get(index, (0, 0))
            last, total = self.lasts[index], self.totals[index]
            if not live:
                base_row = (base_seq, wide(base)) if base_seq else ()
                rows.append((names.ranks[index], last, last - self.firsts[index], wide(total), *base_row))
            elif last > base_seq:
                rows.append((names.ranks[index], last, wide(total - base)))
        return rows

    def thaw(self, plain: bytes, names: Thaw, depth: int) -> None:
        for row in _rows_decode(plain):
            rank, last, length, total = row.rank, row.last, row.length, row.total
            index = names.index(rank)
            if index in self.lasts or not 0 <= length < last:
                raise InvalidBytes("a counter's row twice, or of no allowed shape")
            self.lasts[index] = names.dot(rank, last) >> INDEX_BITS
            self.firsts[index] = last - length
            self.totals[index] = narrow(total)
            if row.base_seq:
                self.bases[index] = (names.dot(rank, row.base_seq) >> INDEX_BITS, narrow(row.base))
        self.recount()

    def copy(self) -> CounterStore:
        twin = CounterStore()
        twin.restore(self.memento(None, 0, ()))
        return twin

    def memento(self, op: Any, dot: Dot, refs: Sequence[int]) -> Any:
        return dict(self.totals), dict(self.firsts), dict(self.lasts), dict(self.bases), self.number

    def restore(self, memento: Any) -> None:
        self.totals, self.firsts, self.lasts, self.bases, self.number = memento

    def _rebase(self, index: int, base: tuple[int, int]) -> None:
        if base > self.bases.get(index, (0, 0)):
            self.bases[index] = base

    def recount(self) -> None:
        bases = self.bases
        self.number = sum(
            total - bases[index][1] if index in bases else total
            for index, total in self.totals.items()
            if index not in bases or self.lasts[index] > bases[index][0]
        )


class Counter(Handle):
    """Handle of a counter."""

    __slots__ = ()
    _store = CounterStore

    def increment(self, amount: int = 1) -> None:
        """Add ``amount`` >= 0. Raises ``InvalidValue``."""
        self._add(whole(amount))

    def decrement(self, amount: int = 1) -> None:
        """Take ``amount`` >= 0 away."""
        self._add(-whole(amount))

    def _add(self, amount: int) -> None:
        doc = self._doc
        store = doc.target(self._wire, CounterStore)
        if store is not None and store.bases and store.is_spent(doc.index):
            doc.write(Restart(self._wire, amount), True)
        else:
            doc.write(Increment(self._wire, amount), True)

    @property
    def value(self) -> int:
        """The sum; 0 while absent."""
        store = self._doc.find(self._path, CounterStore)
        return 0 if store is None else store.number

    def __int__(self) -> int:
        return self.value


def whole(amount: object) -> int:
    """``amount`` if a counter takes it. Raises ``InvalidValue``."""
    if type(amount) is not int:
        raise InvalidValue(f"an amount is an int, got {type(amount).__name__}")
    if not 0 <= amount <= AMOUNT_MAX:
        raise InvalidValue(f"an amount of {amount}: 0 to 2^63-1 are allowed; use decrement to go down")
    return amount


def wide(number: int) -> int | bytes:
    """A sum as it travels: MessagePack's integers end at 64 bits, sums of many do not."""
    if -(1 << 63) <= number < 1 << 63:
        return number
    return number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True)


def narrow(number: int | bytes) -> int:
    """Back from ``wide``. Raises ``InvalidBytes``."""
    if type(number) is int:
        return number
    if not isinstance(number, bytes) or not 8 <= len(number) <= 24:
        raise InvalidBytes("a sum out of bounds")
    return int.from_bytes(number, "big", signed=True)


class _Row(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    rank: int
    last: int
    length: int
    total: int | bytes
    base_seq: int = 0
    base: int | bytes = 0


_rows_decode = msgspec.msgpack.Decoder(list[_Row]).decode
