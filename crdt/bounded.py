"""Counter that is never below zero, in any interleaving: rights are held before they are spent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from crdt.actors import ActorTable, check_actor
from crdt.causal import (
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
    covers,
    read_limits,
    register,
    write_limits,
)
from crdt.clock import INDEX_BITS, INDEX_MASK, SEQ_MAX, Dot
from crdt.counter import AMOUNT_MAX, narrow, whole, wide
from crdt.errors import BoundExceeded, InvalidBytes, InvalidValue
from crdt.handle import Handle

if TYPE_CHECKING:
    from crdt.document import Document

Row = tuple[int, int, dict[int, int]]  # seq of the latest operation; granted less spent; handed over, by receiver
BOTTOM: Row = (0, 0, {})


class Grant(Op, tag=2):
    """Give the author ``amount`` rights, or spend that many when negative."""

    amount: int

    def perform(self, store: BoundedStore, dot: Dot, refs: Sequence[int], stamp: int) -> None:
        index = dot & INDEX_MASK
        _, own, sent = store.entries.get(index, BOTTOM)
        store.put(dot, own + self.amount, sent)

    def check(self, needs: Needs) -> None:
        super().check(needs)
        if not -AMOUNT_MAX <= self.amount <= AMOUNT_MAX << 1:
            raise InvalidBytes("an amount of more than 64 bits")


class Transfer(Op, tag=3):
    """Hand ``amount`` rights of the author over to the actor ``to`` refers to."""

    amount: int
    to: int

    def perform(self, store: BoundedStore, dot: Dot, refs: Sequence[int], stamp: int) -> None:
        index, to = dot & INDEX_MASK, refs[self.to]
        _, own, sent = store.entries.get(index, BOTTOM)
        store.put(dot, own, {**sent, to: sent.get(to, 0) + self.amount})

    def check(self, needs: Needs) -> None:
        super().check(needs)
        if not 0 <= self.amount <= AMOUNT_MAX or needs.named(self.to) == needs.own:
            raise InvalidBytes("a transfer to oneself, or of a negative amount")


class Regrant(Grant, tag=33):
    """The same, after a removal of all its author did before: a new row takes the place of the old one."""

    def perform(self, store: BoundedStore, dot: Dot, refs: Sequence[int], stamp: int) -> None:
        store.drop(dot & INDEX_MASK)
        super().perform(store, dot, refs, stamp)


class Retransfer(Transfer, tag=34):
    """A transfer, as ``Regrant`` is a grant."""

    def perform(self, store: BoundedStore, dot: Dot, refs: Sequence[int], stamp: int) -> None:
        store.drop(dot & INDEX_MASK)
        super().perform(store, dot, refs, stamp)


class ForgetBounded(Op, tag=43):
    """Forget rows that count no more, for good: as ``counter.Forget``."""

    removes: ClassVar[bool] = True
    shows: ClassVar[bool] = False
    rows: list[int]

    def perform(self, store: BoundedStore, dot: Dot, refs: Sequence[int], stamp: int) -> None:
        for index, seq in read_limits(self.rows, dot, refs).items():
            if store.entries.get(index, BOTTOM)[0] == seq and store.is_spent(index):
                store.drop(index)

    def check(self, needs: Needs) -> None:
        super().check(needs)
        check_limits(self.rows, needs)


@register(Grant, Transfer, Regrant, Retransfer, ForgetBounded)
class BoundedStore(Store):
    """Escrow: an increment grants rights to its maker, a decrement spends rights its maker holds, rights move.

    Law    an actor alone changes its row, and only as far as its own rights go; so no row of rights, and no sum of
           them, is ever below zero. A lost log takes its rights along.
    Join   as a counter's, rows of rights instead of totals. A removal saw rows, which count no more. A decrement made
           beside it may then exceed what is left to its maker: that reads as 0, and the next grant makes up for it.
    Cost   O(actors + transfers) for everything.
    Source Balegas et al. 2015 (bounded counter CRDT), doi:10.1109/SRDS.2015.32.
    """

    __slots__ = ("bases", "entries", "firsts")
    kind = "bounded"

    def __init__(self) -> None:
        self.entries: dict[int, Row] = {}
        self.firsts: dict[int, int] = {}  # seq of the row's first operation: which row it is
        self.bases: dict[int, Row] = {}

    def put(self, dot: Dot, own: int, sent: dict[int, int]) -> None:
        """The row of the author of ``dot``, which is the latest of its operations here."""
        index, seq = dot & INDEX_MASK, dot >> INDEX_BITS
        self.firsts.setdefault(index, seq)
        self.entries[index] = seq, own, sent

    def is_spent(self, index: int) -> bool:
        """Whether there is a row of that actor, and nothing of it counts any more."""
        return index in self.bases and self.entries[index][0] <= self.bases[index][0]

    def drop(self, index: int) -> None:
        """Forget an actor's row."""
        for rows in (self.entries, self.firsts, self.bases):
            rows.pop(index, None)

    def spent(self) -> dict[int, int]:
        """Rows that count no more: the seq of their latest operation, by actor number."""
        return {index: self.entries[index][0] for index in self.bases if self.is_spent(index)}

    def removed_count(self) -> int:
        return len(self.spent())

    def garbage(self) -> Any:
        return self.spent()

    def forgetting(self, found: Any, clock: Clock, path: Path, doc: Document) -> Iterator[tuple[Op, int]]:
        still = self.spent()
        rows = {index: seq for index, seq in found.items() if still.get(index) == seq}
        if rows:
            yield ForgetBounded(path, write_limits(rows, doc)), len(rows)

    def rights(self) -> dict[int, int]:
        """Rights by actor number, debts too."""
        held: dict[int, int] = {}
        for index, (seq, own, sent) in self.entries.items():
            base_seq, base_own, base_sent = self.bases.get(index, BOTTOM)
            if seq <= base_seq:
                continue
            held[index] = held.get(index, 0) + own - base_own
            for to, total in sent.items():
                moved = total - base_sent.get(to, 0)
                held[index] -= moved
                held[to] = held.get(to, 0) + moved
        return held

    def is_live(self) -> bool:
        return any(row[0] > self.bases.get(index, BOTTOM)[0] for index, row in self.entries.items())

    def is_bottom(self) -> bool:
        return not self.entries

    def value(self, names: ActorTable) -> int:
        return sum(held for held in self.rights().values() if held > 0)

    def dots(self) -> Iterator[Dot]:
        for index, row in self.entries.items():
            yield row[0] << INDEX_BITS | index

    def rows(self) -> Rows:
        return {index: row for index, row in self.entries.items() if not self.is_spent(index)}

    def write_row(self, row: tuple[Any, ...], ref: Callable[[int], int]) -> list[Any]:
        seq, own, sent = row
        return [seq, wide(own), *(each for to, total in sent.items() for each in (ref(to), wide(total)))]

    def read_row(self, plain: Sequence[Any], refs: Sequence[int]) -> tuple[Any, ...]:
        sent = {refs[plain[at]]: narrow(plain[at + 1]) for at in range(2, len(plain), 2)}
        return plain[0], narrow(plain[1]), sent

    @staticmethod
    def check_row(plain: Sequence[Any], needs: Needs) -> None:
        if len(plain) < 2 or len(plain) % 2:
            raise InvalidBytes("a bounded counter's row of another shape")
        narrow(plain[1])
        for at in range(2, len(plain), 2):
            needs.named(plain[at])
            narrow(plain[at + 1])

    def remove(self, by: Dot, seen: Seen, rows: Rows) -> None:
        own = by & INDEX_MASK
        if own in self.entries:
            self._rebase(own, self.entries[own])
        for index, row in rows.items():
            if row[0] >= self.firsts.get(index, SEQ_MAX + 1):
                self._rebase(index, row)

    def join(self, other: BoundedStore, mine: Clock, theirs: Clock) -> None:
        for index, row in list(self.entries.items()):
            if index not in other.entries and covers(theirs, row[0] << INDEX_BITS | index):
                self.drop(index)
        for index, row in other.entries.items():
            if index not in self.entries and covers(mine, row[0] << INDEX_BITS | index):
                continue
            first = other.firsts[index]
            if first > self.firsts.get(index, 0):
                self.drop(index)
            elif first < self.firsts[index]:
                continue
            if row[0] > self.entries.get(index, BOTTOM)[0]:
                self.firsts[index], self.entries[index] = first, row
            if index in other.bases:
                self._rebase(index, other.bases[index])

    def freeze(self, names: Names, *, live: bool) -> Any:
        ranks = names.ranks
        plain = []
        for index in sorted(self.entries, key=ranks.__getitem__):
            row, base = self.entries[index], self.bases.get(index, BOTTOM)
            if live and row[0] <= base[0]:
                continue
            length = row[0] - self.firsts[index]
            if live:
                sent = {to: total - base[2].get(to, 0) for to, total in row[2].items()}
                row, base = (row[0], row[1] - base[1], {to: moved for to, moved in sent.items() if moved}), BOTTOM
                length = 0
            plain.append((ranks[index], length, _freeze_row(row, ranks), _freeze_row(base, ranks)))
        return plain

    def thaw(self, plain: bytes, names: Thaw, depth: int) -> None:
        for rank, length, row, base in _entries_decode(plain):
            index = names.index(rank)
            if index in self.entries or not 0 <= length < row[0]:
                raise InvalidBytes("a bounded counter's row twice, or of no allowed shape")
            self.entries[index] = _thaw_row(rank, row, names)
            self.firsts[index] = row[0] - length
            if base[0]:
                self.bases[index] = _thaw_row(rank, base, names)

    def copy(self) -> BoundedStore:
        twin = BoundedStore()
        twin.restore(self.memento(None, 0, ()))
        return twin

    def mentions(self) -> Iterator[int]:
        for _, _, sent in (*self.entries.values(), *self.bases.values()):
            yield from sent

    def memento(self, op: Any, dot: Dot, refs: Sequence[int]) -> Any:
        return dict(self.entries), dict(self.firsts), dict(self.bases)

    def restore(self, memento: Any) -> None:
        self.entries, self.firsts, self.bases = memento

    def _rebase(self, index: int, base: Row) -> None:
        held = self.bases.get(index, BOTTOM)
        if (base[0], base[1]) > (held[0], held[1]):
            self.bases[index] = base


class Bounded(Handle):
    """Handle of a bounded counter."""

    __slots__ = ()
    _store = BoundedStore

    def increment(self, amount: int = 1) -> None:
        """Add ``amount`` >= 0, and with it the rights to take as much away again."""
        whole(amount)
        debt = min(0, self._held())
        self._grant(amount - debt)

    def decrement(self, amount: int = 1) -> None:
        """Take ``amount`` >= 0 away. Raises ``BoundExceeded``, which names who holds the rest of the rights."""
        self._require(whole(amount))
        self._grant(-amount)

    def transfer(self, amount: int, *, to: str) -> None:
        """Hand ``amount`` of one's own rights over to another actor. Raises ``BoundExceeded``."""
        whole(amount)
        try:
            check_actor(to)
        except ValueError as wrong:
            raise InvalidValue(str(wrong)) from None
        if to == self._doc.actor:
            raise InvalidValue("rights are transferred to another actor")
        self._require(amount)
        self._doc.seen(())
        transfer = Retransfer if self._is_spent() else Transfer
        self._doc.write(transfer(self._wire, amount, self._doc.refer(to)))

    @property
    def rights(self) -> int:
        """How much this actor may take away now, without asking anybody."""
        return max(0, self._held())

    @property
    def value(self) -> int:
        """The sum of all rights; 0 while absent."""
        store = self._doc.find(self._path, BoundedStore)
        return 0 if store is None else store.value(self._doc.actors)

    def _grant(self, amount: int) -> None:
        self._doc.write((Regrant if self._is_spent() else Grant)(self._wire, amount))

    def _is_spent(self) -> bool:
        store = self._doc.find(self._path, BoundedStore)
        return store is not None and store.is_spent(self._doc.index)

    def _held(self) -> int:
        store = self._doc.find(self._path, BoundedStore)
        return 0 if store is None else store.rights().get(self._doc.index, 0)

    def _require(self, amount: int) -> None:
        rights = self.rights
        if amount <= rights:
            return
        self._doc.target(self._path, BoundedStore)  # a clash of types is the better reason to refuse
        store, actors = self._doc.find(self._path, BoundedStore), self._doc.actors
        held = {} if store is None else store.rights()
        others = {actors.names[i]: held[i] for i in actors.ordered(held) if held[i] > 0 and i != self._doc.index}
        raise BoundExceeded(self._path, amount, rights, others)


def _freeze_row(row: Row, ranks: dict[int, int]) -> tuple[Any, ...]:
    moved = [each for to in sorted(row[2], key=ranks.__getitem__) for each in (ranks[to], wide(row[2][to]))]
    return (row[0], wide(row[1]), moved)


def _thaw_row(rank: int, row: tuple[int, int | bytes, list[int | bytes]], names: Thaw) -> Row:
    seq, own, moved = row
    if len(moved) % 2:
        raise InvalidBytes("half a transfer")
    sent = {names.index(moved[at]): narrow(moved[at + 1]) for at in range(0, len(moved), 2)}  # type: ignore[arg-type]
    return names.dot(rank, seq) >> INDEX_BITS, narrow(own), sent


_RowPlain = tuple[int, int | bytes, list[int | bytes]]
_entries_decode = msgspec.msgpack.Decoder(list[tuple[int, int, _RowPlain, _RowPlain]]).decode
