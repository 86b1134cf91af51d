"""One transaction and its bytes.

An *item* is a change as an entry of a frame's body: ``[deps, step, operations]``, and a fourth field with the names
that deps and operations refer to, when there are any. ``deps`` is 0 or reference, count, reference, count, …; ``step``
the HLC's difference from the actor's previous change. Actor, sequence and absolute HLC are the frame's; the standalone
form carries them itself.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from crdt.actors import ACTOR_BYTES_MAX, check_actor
from crdt.causal import OPERATIONS, Needs, Op
from crdt.clock import SEQ_MAX
from crdt.errors import CrdtError, InvalidBytes, UnknownOperation
from crdt.hlc import HLC_MAX
from crdt.packing import Additions, packed, unpacked

FRAME_BYTES_MAX = 1 << 20  # a protocol constant, the transport's
CHANGE_BYTES_MAX = FRAME_BYTES_MAX - 4096  # an item must fit one frame, with its header and signature
ITEMS_MAX = 4096
VERSION = 1

NOBODY: Mapping[str, int] = MappingProxyType({})
NO_NAMES: Sequence[str] = ()
_NAMELESS = Needs("", NO_NAMES)  # names nobody, so it notes nothing and can be shared
_encode = msgspec.msgpack.Encoder().encode


class Change(msgspec.Struct, gc=False, eq=False):  # made in C: as an ordinary class it costs more than to decode it
    """What one actor did at once: operations that consume the dots ``seq`` to ``last``, in order, all or nothing.

    ``deps`` are the clock entries that changed since the actor's previous change; with ``seq`` they say what must be
    applied before. ``needs`` is that and what the operations name: never more than deps, if the author is honest.
    ``names`` are the actors its operations refer to. Its bytes are fixed when it is made.
    """

    actor: str
    seq: int
    hlc: int
    step: int  # the HLC's difference from the actor's previous change
    ops: Sequence[Op]
    names: Sequence[str] = NO_NAMES
    deps: Mapping[str, int] = NOBODY
    needs: Mapping[str, int] = NOBODY
    source: bytes | Items | None = None  # what it was read from: its standalone form, or a frame's items
    at: int = 0  # its place in those
    raw: Any = None  # its item, once somebody asked for it

    @property
    def count(self) -> int:
        """How many operations it has."""
        return len(self.ops)

    @property
    def last(self) -> int:
        """Sequence of its last operation."""
        return self.seq + len(self.ops) - 1

    @property
    def size(self) -> int:
        """Bytes of its item; of its standalone form, where it was read from that."""
        source = self.source
        return len(source) if type(source) is bytes else len(self.item())

    def item(self) -> bytes:
        """One MessagePack value for the body of a frame of this actor's log."""
        raw = self.raw
        if raw is None:
            source = self.source
            if type(source) is bytes:
                raw = _standalone_decode(source)[4]
            elif source is not None:
                raw = source.raws[self.at]  # type: ignore[union-attr]
            elif self.deps or self.names:
                names = {name: ref for ref, name in enumerate(self.names)}
                deps: list[int] = []
                for actor, count in self.deps.items():
                    deps += (names.setdefault(actor, len(names)), count)
                raw = _encode((deps or 0, self.step, self._wire(), list(names)))
            else:
                raw = _encode((0, self.step, self._wire()))
            self.raw = raw
        return raw if type(raw) is bytes else bytes(raw)

    def _wire(self) -> Sequence[Any]:
        return self.ops if len(self.ops) == 1 else packed(self.ops)

    def encode(self) -> bytes:
        """The standalone form."""
        if self.raw is None and self.source is None and len(self.ops) == 1 and not self.deps and not self.names:
            return _encode((VERSION, self.actor, self.seq, self.hlc, (0, self.step, self.ops)))  # as below, in one go
        return _encode((VERSION, self.actor, self.seq, self.hlc, msgspec.Raw(self.item())))

    @staticmethod
    def decode(raw: bytes) -> Change:
        """Back from ``encode``. Raises ``InvalidBytes`` or ``UnknownOperation``, in time and memory bounded by the
        protocol's constants."""
        if len(raw) > FRAME_BYTES_MAX:
            raise InvalidBytes(f"a change of {len(raw)} bytes")
        try:
            _, actor, seq, hlc, item = _reader.standalone(raw)
        except (msgspec.MsgspecError, RecursionError, ValueError):
            try:
                _, actor, seq, hlc, outside = _standalone_decode(raw)
            except (msgspec.MsgspecError, RecursionError, ValueError) as wrong:
                raise InvalidBytes(f"bytes that are no change: {wrong}") from None
            item = _decode_item(outside, actor, seq)  # says what is wrong, and how
        ops = item.ops
        if len(ops) == 1 and not item.names and not item.deps and ops[0].__class__ is not Additions:
            try:  # the commonest by far: one operation that names nobody
                ops[0].check(_NAMELESS)
                return Change(actor, seq, hlc, item.step, ops, NO_NAMES, NOBODY, NOBODY, raw)
            except (CrdtError, ValueError, OverflowError):
                pass  # found again, and told in full
        return _read(item, actor, seq, hlc, raw, 0)

    @staticmethod
    def from_items(actor: str, first: int, hlc: int, body: bytes, items: int) -> list[Change]:
        """The changes of a frame's body: ``first`` is the sequence of the first, ``hlc`` its stamp.

        Raises ``InvalidBytes`` or ``UnknownOperation``; then none of them counts.
        """
        if len(body) > FRAME_BYTES_MAX or not 0 < items <= ITEMS_MAX:
            raise InvalidBytes(f"a body of {len(body)} bytes and {items} items")
        opening = bytes((0x90 | items,)) if items < 16 else b"\xdc" + items.to_bytes(2, "big")
        if not body.startswith(opening):
            raise InvalidBytes("a body that does not hold its items")
        source = Items(body)
        try:
            decoded = _reader.body(body)
        except (msgspec.MsgspecError, RecursionError, ValueError):
            try:
                raws = source.raws
            except (msgspec.MsgspecError, RecursionError, ValueError) as wrong:
                raise InvalidBytes(f"bytes that are no items: {wrong}") from None
            decoded = [_decode_item(raw, actor, first) for raw in raws]  # finds the one that is wrong, and says how
        changes: list[Change] = []
        seq, hlc = first, hlc - decoded[0].step  # the frame says the first one's stamp, its step is from before
        for at, item in enumerate(decoded):
            hlc += item.step
            ops = item.ops
            if len(ops) == 1 and not item.names and not item.deps and ops[0].__class__ is not Additions:
                try:  # the commonest by far, as above
                    ops[0].check(_NAMELESS)
                except (CrdtError, ValueError, OverflowError):
                    _read(item, actor, seq, hlc, source, at)
                    raise
                changes.append(Change(actor, seq, hlc, item.step, ops, NO_NAMES, NOBODY, NOBODY, source, at))
                seq += 1
            else:
                change = _read(item, actor, seq, hlc, source, at)
                changes.append(change)
                seq += len(change.ops)
        if not (first > 0 and seq - 1 <= SEQ_MAX and changes[0].hlc >= 0 and hlc <= HLC_MAX):
            raise InvalidBytes("changes that are out of bounds")
        return changes

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Change):
            return NotImplemented
        mine = (self.actor, self.seq, self.hlc, self.item())
        return mine == (other.actor, other.seq, other.hlc, other.item())

    def __ne__(self, other: object) -> bool:  # a struct brings its own, which would ask for identity
        return not self == other

    def __hash__(self) -> int:
        return hash((self.actor, self.seq))

    def __repr__(self) -> str:
        return f"Change({self.actor!r}, {self.seq}..{self.last}, {[type(op).__name__ for op in self.ops]})"


class Items:
    """A frame's body, cut into items when somebody asks for the bytes of one."""

    __slots__ = ("_body", "_raws")

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._raws: list[Any] | None = None

    @property
    def raws(self) -> list[Any]:
        """The bytes of each."""
        if self._raws is None:
            self._raws = _body_decode(self._body)
        return self._raws


def _decode_item(raw: Any, actor: str, seq: int) -> Any:
    _reader.renew()
    try:
        return _reader.item(raw)
    except (msgspec.MsgspecError, RecursionError, ValueError) as wrong:
        raise _explain(raw, actor, seq, wrong) from None


def _read(item: Any, actor: str, seq: int, hlc: int, source: bytes | Items, at: int) -> Change:
    """The change of a decoded item, checked."""
    ops = item.ops
    for op in ops:
        if op.__class__ is Additions:
            ops = unpacked(ops)
            break
    if not ops or not 0 < seq <= SEQ_MAX + 1 - len(ops) or not 0 <= hlc <= HLC_MAX:
        raise InvalidBytes("a change with no operations, or out of bounds")
    names, deps = item.names, item.deps
    try:
        if not names:
            if deps:
                raise InvalidBytes("dependencies on actors the change does not name")
            for op in ops:
                op.check(_NAMELESS)
            return Change(actor, seq, hlc, item.step, ops, NO_NAMES, NOBODY, NOBODY, source, at)
        _check_names(actor, names)
        needs, counts = Needs(actor, names), NOBODY
        if type(deps) is list:
            needs.seen(deps)
            counts = dict(needs.counts)
        elif deps:
            raise InvalidBytes("dependencies of another shape")
        for op in ops:
            op.check(needs)
        return Change(actor, seq, hlc, item.step, ops, names, counts, needs.counts, source, at)
    except UnknownOperation as newer:
        raise UnknownOperation(actor, seq, newer.kind) from None
    except (UnicodeEncodeError, OverflowError) as wrong:
        raise InvalidBytes(str(wrong)) from None


def _check_names(actor: str, names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        raise InvalidBytes("an actor named twice")
    for name in names:
        try:
            check_actor(name)
        except ValueError as wrong:
            raise InvalidBytes(str(wrong)) from None


def _explain(raw: Any, actor: str, seq: int, wrong: Exception) -> CrdtError:
    """Why an item was not understood: an operation newer than this version, or plain nonsense."""
    try:
        for op in _shape_decode(raw).ops:
            if len(op) and type(op) is list:
                tag = msgspec.msgpack.decode(op[0], type=int)
                if tag >= 0 and tag not in OPERATIONS and tag != Additions.__struct_config__.tag:
                    return UnknownOperation(actor, seq, tag)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        pass  # nonsense down to its shape: say what was wrong first
    return InvalidBytes(f"bytes that are no change: {wrong}")


class _Shape(msgspec.Struct, array_like=True):
    """An item whose operations are not looked into."""

    deps: msgspec.Raw
    step: int
    ops: Annotated[list[Annotated[list[msgspec.Raw], Meta(max_length=64)]], Meta(max_length=1 << 16)]


class _Reader:
    """Decoders of an item, a body and a standalone change, for the operations there are by now."""

    __slots__ = ("_known", "body", "item", "standalone")

    def __init__(self) -> None:
        self._known = 0
        self.item: Callable[[Any], Any] = _not_yet
        self.body: Callable[[Any], Any] = _not_yet
        self.standalone: Callable[[Any], Any] = _not_yet

    def renew(self) -> None:
        """Learn the operations that were registered meanwhile."""
        if self._known == len(OPERATIONS):
            return
        self._known = len(OPERATIONS)
        operations: Any = functools.reduce(operator.or_, (OPERATIONS[tag] for tag in sorted(OPERATIONS)), Additions)
        step = Annotated[int, Meta(ge=0, le=HLC_MAX)]
        name = Annotated[str, Meta(max_length=ACTOR_BYTES_MAX)]
        item = msgspec.defstruct(
            "Item",
            [("deps", int | list[int]), ("step", step), ("ops", list[operations]), ("names", tuple[name, ...], ())],
            array_like=True,
            gc=False,
        )
        body: Any = Annotated[list[item], Meta(max_length=ITEMS_MAX)]  # type: ignore[valid-type]
        standalone: Any = tuple[*_OUTSIDE, item]  # type: ignore[valid-type]
        self.item = msgspec.msgpack.Decoder(item).decode
        self.body = msgspec.msgpack.Decoder(body).decode
        self.standalone = msgspec.msgpack.Decoder(standalone).decode


def _not_yet(raw: Any) -> Any:
    raise msgspec.ValidationError("no operation is known yet")


_OUTSIDE: tuple[Any, ...] = (
    Annotated[int, Meta(ge=VERSION, le=VERSION)],
    Annotated[str, Meta(min_length=1, max_length=ACTOR_BYTES_MAX)],
    Annotated[int, Meta(ge=1, le=SEQ_MAX)],
    Annotated[int, Meta(ge=0, le=HLC_MAX)],
)
_standalone_decode: Callable[[bytes], Any] = msgspec.msgpack.Decoder(tuple[*_OUTSIDE, msgspec.Raw]).decode  # type: ignore[valid-type]
_shape_decode = msgspec.msgpack.Decoder(_Shape).decode
_body_decode = msgspec.msgpack.Decoder(Annotated[list[msgspec.Raw], Meta(max_length=ITEMS_MAX)]).decode
_reader = _Reader()
