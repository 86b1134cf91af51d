"""Counter that is never below zero, in any interleaving: rights are held before they are spent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from crdt.actors import ActorTable, check_actor
from crdt.causal import Clock, Names, Needs, Op, Rows, Seen, Store, Thaw, register
from crdt.clock import INDEX_BITS, INDEX_MASK, Dot
from crdt.counter import AMOUNT_MAX, narrow, whole, wide
from crdt.errors import BoundExceeded, InvalidBytes, InvalidValue
from crdt.handle import Handle

Row = tuple[int, int, dict[int, int]]  # seq of the latest operation; granted less spent; handed over, by receiver
BOTTOM: Row = (0, 0, {})


class Grant(Op, tag=2):
    """Give the author ``amount`` rights, or spend that many when negative."""

    amount: int

    def perform(self, store: BoundedStore, dot: Dot, refs: Sequence[int], stamp: int) -> None:
        index = dot & INDEX_MASK
        _, own, sent = store.entries.get(index, BOTTOM)
        store.entries[index] = dot >> INDEX_BITS, own + self.amount, sent

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
        store.entries[index] = dot >> INDEX_BITS, own, {**sent, to: sent.get(to, 0) + self.amount}

    def check(self, needs: Needs) -> None:
        super().check(needs)
        if not 0 <= self.amount <= AMOUNT_MAX or needs.named(self.to) == needs.own:
            raise InvalidBytes("a transfer to oneself, or of a negative amount")


@register(Grant, Transfer)
class BoundedStore(Store):
    """Escrow: an increment grants rights to its maker, a decrement spends rights its maker holds, rights move.

    Law    an actor alone changes its row, and only as far as its own rights go; so no row of rights, and no sum of
           them, is ever below zero. A lost log takes its rights along.
    Join   per actor the later row and the later baseline. A removal saw rows, which count no more. A decrement made
           beside it may then exceed what is left to its maker: that reads as 0, and the next grant makes up for it.
    Cost   O(actors + transfers) for everything.
    Source Balegas et al. 2015 (bounded counter CRDT), doi:10.1109/SRDS.2015.32.
    """

    __slots__ = ("bases", "entries")
    kind = "bounded"

    def __init__(self) -> None:
        self.entries: dict[int, Row] = {}
        self.bases: dict[int, Row] = {}

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
        return dict(self.entries)

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
            if index in self.entries:
                self._rebase(index, row)

    def join(self, other: BoundedStore, mine: Clock, theirs: Clock) -> None:
        for index, row in other.entries.items():
            if row[0] > self.entries.get(index, BOTTOM)[0]:
                self.entries[index] = row
        for index, base in other.bases.items():
            self._rebase(index, base)

    def freeze(self, names: Names, *, live: bool) -> Any:
        ranks = names.ranks
        plain = []
        for index in sorted(self.entries, key=ranks.__getitem__):
            row, base = self.entries[index], self.bases.get(index, BOTTOM)
            if live and row[0] <= base[0]:
                continue
            if live:
                sent = {to: total - base[2].get(to, 0) for to, total in row[2].items()}
                row, base = (row[0], row[1] - base[1], {to: moved for to, moved in sent.items() if moved}), BOTTOM
            plain.append((ranks[index], _freeze_row(row, ranks), _freeze_row(base, ranks)))
        return plain

    def thaw(self, plain: bytes, names: Thaw, depth: int) -> None:
        for rank, row, base in _entries_decode(plain):
            index = names.index(rank)
            self.entries[index] = _thaw_row(rank, row, names)
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
        return dict(self.entries), dict(self.bases)

    def restore(self, memento: Any) -> None:
        self.entries, self.bases = memento

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
        self._doc.write(Grant(self._wire, amount - debt))

    def decrement(self, amount: int = 1) -> None:
        """Take ``amount`` >= 0 away. Raises ``BoundExceeded``, which names who holds the rest of the rights."""
        self._require(whole(amount))
        self._doc.write(Grant(self._wire, -amount))

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
        self._doc.write(Transfer(self._wire, amount, self._doc.refer(to)))

    @property
    def rights(self) -> int:
        """How much this actor may take away now, without asking anybody."""
        return max(0, self._held())

    @property
    def value(self) -> int:
        """The sum of all rights; 0 while absent."""
        store = self._doc.find(self._path, BoundedStore)
        return 0 if store is None else store.value(self._doc.actors)

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
_entries_decode = msgspec.msgpack.Decoder(list[tuple[int, _RowPlain, _RowPlain]]).decode
