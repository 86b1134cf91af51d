"""Counter that goes both ways, and can be removed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from crdt.actors import ActorTable
from crdt.causal import SHORT_KEY, Clock, Names, Needs, Op, Rows, Seen, Store, Thaw, check_path, register
from crdt.clock import INDEX_BITS, INDEX_MASK, Dot
from crdt.errors import InvalidBytes, InvalidValue
from crdt.handle import Handle

AMOUNT_MAX = (1 << 63) - 1


class Increment(Op, tag=1):
    """Add ``amount``, negative to decrement."""

    amount: Annotated[int, Meta(ge=-AMOUNT_MAX, le=AMOUNT_MAX)]

    def perform(self, store: CounterStore, dot: Dot, refs: Sequence[int], stamp: int) -> None:
        index = dot & INDEX_MASK
        amount = self.amount
        store.totals[index] = store.totals.get(index, 0) + amount
        store.lasts[index] = dot >> INDEX_BITS
        if store.bases:
            store.recount()
        else:
            store.number += amount

    def check(self, needs: Needs) -> None:
        path = self.path
        if type(path) is not str or len(path) > SHORT_KEY:
            check_path(path)


@register(Increment)
class CounterStore(Store):
    """Per actor what it added so far, and the part of it that removals saw, which counts no more.

    Join   per actor the later total and the later baseline: commutative, associative, idempotent; bottom is empty.
    Delta  an increment; a removal carries the totals it saw, so two removals never count one increment twice.
    Cost   increment and value O(1), join O(actors), about 200 B an actor; a removed counter keeps its baselines.
    Source Baquero, Almeida, Lerche 2016 (the problem with embedded counters); baselines instead of epochs.
    """

    __slots__ = ("bases", "lasts", "number", "totals")
    kind = "counter"

    def __init__(self) -> None:
        self.totals: dict[int, int] = {}
        self.lasts: dict[int, int] = {}  # seq of the actor's latest increment
        self.bases: dict[int, tuple[int, int]] = {}  # seq and total that the latest removal saw
        self.number = 0

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
        return {index: (last, self.totals[index]) for index, last in self.lasts.items()}

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
            if index in self.lasts:
                self._rebase(index, row)
        self.recount()

    def join(self, other: CounterStore, mine: Clock, theirs: Clock) -> None:
        for index, last in other.lasts.items():
            if last > self.lasts.get(index, 0):
                self.lasts[index], self.totals[index] = last, other.totals[index]
        for index, base in other.bases.items():
            self._rebase(index, base)
        self.recount()

    def freeze(self, names: Names, *, live: bool) -> Any:
        rows = []
        for index in sorted(self.lasts, key=names.ranks.__getitem__):
            base_seq, base = self.bases.get(index, (0, 0))
            last, total = self.lasts[index], self.totals[index]
            if not live:
                rows.append((names.ranks[index], last, wide(total), base_seq, wide(base)))
            elif last > base_seq:
                rows.append((names.ranks[index], last, wide(total - base), 0, 0))
        return rows

    def thaw(self, plain: bytes, names: Thaw, depth: int) -> None:
        for rank, last, total, base_seq, base in _rows_decode(plain):
            index = names.index(rank)
            self.lasts[index] = names.dot(rank, last) >> INDEX_BITS
            self.totals[index] = narrow(total)
            if base_seq:
                self.bases[index] = (names.dot(rank, base_seq) >> INDEX_BITS, narrow(base))
        self.recount()

    def copy(self) -> CounterStore:
        twin = CounterStore()
        twin.restore(self.memento(None, 0, ()))
        return twin

    def memento(self, op: Any, dot: Dot, refs: Sequence[int]) -> Any:
        return dict(self.totals), dict(self.lasts), dict(self.bases), self.number

    def restore(self, memento: Any) -> None:
        self.totals, self.lasts, self.bases, self.number = memento

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
        self._doc.write(Increment(self._wire, whole(amount)))

    def decrement(self, amount: int = 1) -> None:
        """Take ``amount`` >= 0 away."""
        self._doc.write(Increment(self._wire, -whole(amount)))

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


_rows_decode = msgspec.msgpack.Decoder(list[tuple[int, int, int | bytes, int, int | bytes]]).decode
