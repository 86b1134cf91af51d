"""Registers: one that shows a winner among concurrent writes, and one that shows them all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

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
    check_path,
    is_seen,
    join_dots,
    register,
    resolve,
)
from crdt.clock import INDEX_BITS, INDEX_MASK, Dot
from crdt.errors import InvalidBytes
from crdt.handle import Handle
from crdt.hlc import HLC_MAX
from crdt.value import Value, check_packed, pack, unpack

if TYPE_CHECKING:
    from crdt.document import Document

Written = tuple[Dot, int, bytes]  # dot, HLC, canonical bytes of the value


class Write(Op, tag=4):
    """Show ``value`` instead of the writes that were seen."""

    value: bytes
    seen: list[int]

    def perform(self, store: RegisterStore, dot: Dot, refs: Sequence[int], stamp: int) -> None:
        written = (dot, stamp, self.value)
        writes = store.writes
        if not writes or (len(writes) == 1 and (writes[0][0] ^ dot) & INDEX_MASK == 0):
            store.writes = (written,)
        else:
            seen = resolve(self.seen, refs)
            store.writes = (*(each for each in writes if not is_seen(each[0], dot, seen)), written)

    def check(self, needs: Needs) -> None:
        if type(self.path) is not str or len(self.path) > SHORT_KEY:
            check_path(self.path)
        check_packed(self.value)
        if self.seen:
            needs.seen(self.seen)


class WriteMulti(Write, tag=5):
    """The same for a multi-value register."""


@register(Write)
class RegisterStore(Store):
    """The writes nobody has seen past. A write removes those it saw, so it beats them whatever their stamps.

    Shows  the greatest (HLC, actor's name in bytes, seq): any total order that all share would do; this one follows
           wall time where clocks are good.
    Join   of the writes, each kept unless the other side saw it and has it no more.
    Cost   O(concurrent writes), mostly one: about 200 B and the value's bytes.
    """

    __slots__ = ("writes",)
    kind = "register"

    def __init__(self) -> None:
        self.writes: tuple[Written, ...] = ()

    def is_live(self) -> bool:
        return bool(self.writes)

    def ranked(self, names: ActorTable) -> list[bytes]:
        """Distinct values, the winner first."""
        writes = self.writes
        if len(writes) < 2:
            return [each[2] for each in writes]
        table = names.names
        ordered = sorted(writes, key=lambda w: (w[1], table[w[0] & INDEX_MASK].encode(), w[0] >> INDEX_BITS))
        return list(dict.fromkeys(each[2] for each in reversed(ordered)))

    def value(self, names: ActorTable) -> Value:
        return unpack(self.ranked(names)[0]) if self.writes else None

    def others(self, names: ActorTable) -> list[Value]:
        return [unpack(raw) for raw in self.ranked(names)[1:]]

    def dots(self) -> Iterator[Dot]:
        for dot, _, _ in self.writes:
            yield dot

    def remove(self, by: Dot, seen: Seen, rows: Rows) -> None:
        self.writes = tuple(each for each in self.writes if not is_seen(each[0], by, seen))

    def join(self, other: RegisterStore, mine: Clock, theirs: Clock) -> None:
        if self.writes != other.writes:
            every = {each[0]: each for each in (*self.writes, *other.writes)}
            ours, others = [each[0] for each in self.writes], [each[0] for each in other.writes]
            self.writes = tuple(every[dot] for dot in join_dots(ours, others, mine, theirs))

    def freeze(self, names: Names, *, live: bool) -> Any:
        ranks = names.ranks
        return sorted((ranks[dot & INDEX_MASK], dot >> INDEX_BITS, stamp, raw) for dot, stamp, raw in self.writes)

    def thaw(self, plain: bytes, names: Thaw, depth: int) -> None:
        writes = []
        for rank, seq, stamp, raw in _writes_decode(plain):
            check_packed(raw)
            if not 0 <= stamp <= HLC_MAX:
                raise InvalidBytes("a stamp of more than 63 bits")
            writes.append((names.dot(rank, seq), stamp, raw))
        if len({dot & INDEX_MASK for dot, _, _ in writes}) < len(writes):
            raise InvalidBytes("two writes of one actor in one register")
        self.writes = tuple(writes)

    def copy(self) -> RegisterStore:
        twin = type(self)()
        twin.writes = self.writes
        return twin

    def memento(self, op: Any, dot: Dot, refs: Sequence[int]) -> Any:
        return self.writes

    def restore(self, memento: Any) -> None:
        self.writes = memento


@register(WriteMulti)
class MultiStore(RegisterStore):
    """The same writes, all of them shown: sorted by their canonical bytes, equal ones once."""

    __slots__ = ()
    kind = "multi"

    def value(self, names: ActorTable) -> list[Value]:
        return [unpack(raw) for raw in sorted({each[2] for each in self.writes})]

    def others(self, names: ActorTable) -> list[Value]:
        return []


class Register(Handle):
    """Handle of a register."""

    __slots__ = ()
    _store = RegisterStore
    _write = Write

    def set(self, value: Value) -> None:
        """Write ``value``. Raises ``InvalidValue``."""
        assign(self._doc, self._wire, value, self._write)

    @property
    def value(self) -> Value:
        """The winner of the concurrent writes; ``None`` while absent."""
        store: Any = self._doc.find(self._path, self._store)
        return None if store is None else store.value(self._doc.actors)


class Multi(Register):
    """Handle of a multi-value register."""

    __slots__ = ()
    _store = MultiStore
    _write = WriteMulti

    @property
    def value(self) -> list[Value]:
        """All concurrent writes, in canonical order; empty while absent."""
        store = self._doc.find(self._path, MultiStore)
        return [] if store is None else store.value(self._doc.actors)


def assign(doc: Document, path: Path, value: Value, write: type[Write] = Write) -> None:
    """Write ``value`` into the register at ``path``, without a handle of it. Raises ``InvalidValue``."""
    raw = pack(value)
    store = doc.target(path, write.store)  # type: ignore[arg-type]
    seen = doc.seen([dot for dot, _, _ in store.writes]) if store is not None and store.writes else []
    doc.write(write(path, raw, seen), True)


_writes_decode = msgspec.msgpack.Decoder(list[tuple[int, int, int, bytes]]).decode
