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

_NONE: Mapping[str, int] = {}
NO_NAMES: list[str] = []
_NAMELESS = Needs("", NO_NAMES)  # names nobody, so it notes nothing and can be shared
_encode = msgspec.msgpack.Encoder().encode


class Change:
    """What one actor did at once: operations that consume the dots ``seq`` to ``last``, in order, all or nothing.

    ``deps`` are the clock entries that changed since the actor's previous change; with ``seq`` they say what must be
    applied before. Its bytes are fixed when it is made.
    """

    __slots__ = ("_raw", "_step", "_whole", "actor", "count", "deps", "hlc", "names", "needs", "ops", "seq")

    def __init__(
        self, actor: str, seq: int, hlc: int, step: int, ops: Sequence[Op],
        names: list[str] = NO_NAMES, deps: Mapping[str, int] = _NONE, raw: Any = None,
    ) -> None:  # fmt: skip
        self.actor = actor
        self.seq = seq
        self.count = len(ops)
        self.hlc = hlc
        self.ops = ops
        self.deps = deps
        self.needs = deps  # deps, and what the operations name: never more than deps, if the author is honest
        self._step = step
        self.names = names  # actors its operations refer to
        self._raw = raw
        self._whole: bytes | None = None  # the standalone form it was read from; its item is cut out at need

    @property
    def last(self) -> int:
        """Sequence of its last operation."""
        return self.seq + self.count - 1

    @property
    def size(self) -> int:
        """Bytes of its item; of its standalone form, where it was read from that."""
        raw = self._raw
        if raw is None:
            return len(self._whole or self.item())
        return len(raw)

    def item(self) -> bytes:
        """One MessagePack value for the body of a frame of this actor's log."""
        raw = self._raw
        if raw is None and self._whole is not None:
            raw = self._raw = _standalone_decode(self._whole)[4]
        if raw is None:
            if self.deps or self.names:
                names = {name: ref for ref, name in enumerate(self.names)}
                deps: list[int] = []
                for actor, count in self.deps.items():
                    deps += (names.setdefault(actor, len(names)), count)
                raw = _encode((deps or 0, self._step, self._wire(), list(names)))
            else:
                raw = _encode((0, self._step, self._wire()))
            self._raw = raw
        return raw if type(raw) is bytes else bytes(raw)

    def _wire(self) -> Sequence[Any]:
        return self.ops if self.count == 1 else packed(self.ops)

    def encode(self) -> bytes:
        """The standalone form."""
        return _encode((VERSION, self.actor, self.seq, self.hlc, msgspec.Raw(self.item())))

    @staticmethod
    def decode(raw: bytes) -> Change:
        """Back from ``encode``. Raises ``InvalidBytes`` or ``UnknownOperation``, in time and memory bounded by the
        protocol's constants."""
        if len(raw) > FRAME_BYTES_MAX:
            raise InvalidBytes(f"a change of {len(raw)} bytes")
        try:
            _, actor, seq, hlc, item = _decoders(len(OPERATIONS))[2](raw)
        except (msgspec.MsgspecError, RecursionError, ValueError):
            pass  # the longer way finds what is wrong, and says how
        else:
            change = _read(item, None, actor, seq, hlc)
            change._whole = raw
            return change
        try:
            _, actor, seq, hlc, item = _standalone_decode(raw)
        except (msgspec.MsgspecError, RecursionError, ValueError) as wrong:
            raise InvalidBytes(f"bytes that are no change: {wrong}") from None
        return _read(_decode_item(item, actor, seq), item, actor, seq, hlc)

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
        try:
            raws = _body_decode(body)
        except (msgspec.MsgspecError, RecursionError, ValueError) as wrong:
            raise InvalidBytes(f"bytes that are no items: {wrong}") from None
        try:
            decoded = _decoders(len(OPERATIONS))[1](body)
        except (msgspec.MsgspecError, RecursionError, ValueError):
            decoded = [_decode_item(raw, actor, first) for raw in raws]  # finds the one that is wrong, and says how
        changes: list[Change] = []
        seq, hlc = first, hlc - decoded[0].step  # the frame says the first one's stamp, its step is from before
        for item, raw in zip(decoded, raws, strict=True):
            hlc += item.step
            change = _read(item, raw, actor, seq, hlc)
            changes.append(change)
            seq += change.count
        return changes

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Change):
            return NotImplemented
        mine = (self.actor, self.seq, self.hlc, self.item())
        return mine == (other.actor, other.seq, other.hlc, other.item())

    def __hash__(self) -> int:
        return hash((self.actor, self.seq))

    def __repr__(self) -> str:
        return f"Change({self.actor!r}, {self.seq}..{self.last}, {[type(op).__name__ for op in self.ops]})"


def _decode_item(raw: Any, actor: str, seq: int) -> Any:
    try:
        return _decoders(len(OPERATIONS))[0](raw)
    except (msgspec.MsgspecError, RecursionError, ValueError) as wrong:
        raise _explain(raw, actor, seq, wrong) from None


def _read(item: Any, raw: Any, actor: str, seq: int, hlc: int) -> Change:
    """The change of a decoded item, checked."""
    ops = item.ops
    for op in ops:
        if op.__class__ is Additions:
            ops = unpacked(ops)
            break
    if not ops or not 0 < seq <= SEQ_MAX - len(ops) or not 0 <= hlc <= HLC_MAX:
        raise InvalidBytes("a change with no operations, or out of bounds")
    names = item.names
    change = Change(actor, seq, hlc, item.step, ops, names, _NONE, raw)
    deps = item.deps
    try:
        if not names:
            if deps:
                raise InvalidBytes("dependencies on actors the change does not name")
            for op in ops:
                op.check(_NAMELESS)
            return change
        _check_names(actor, names)
        needs = Needs(actor, names)
        if type(deps) is list:
            needs.seen(deps)
            change.deps = dict(needs.counts)
        elif deps:
            raise InvalidBytes("dependencies of another shape")
        for op in ops:
            op.check(needs)
        change.needs = needs.counts
    except UnknownOperation as newer:
        raise UnknownOperation(actor, seq, newer.kind) from None
    except (UnicodeEncodeError, OverflowError) as wrong:
        raise InvalidBytes(str(wrong)) from None
    return change


def _check_names(actor: str, names: list[str]) -> None:
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


@functools.cache
def _decoders(known: int) -> tuple[Callable[[Any], Any], Callable[[Any], Any], Callable[[Any], Any]]:
    """Decoders of an item, a body and a standalone change, for the operations there are by now."""
    operations: Any = functools.reduce(operator.or_, (OPERATIONS[tag] for tag in sorted(OPERATIONS)), Additions)
    step = Annotated[int, Meta(ge=0, le=HLC_MAX)]
    name = Annotated[str, Meta(max_length=ACTOR_BYTES_MAX)]
    item = msgspec.defstruct(
        "Item",
        [("deps", int | list[int]), ("step", step), ("ops", list[operations]), ("names", list[name], [])],
        array_like=True,
        gc=False,
    )
    body: Any = Annotated[list[item], Meta(max_length=ITEMS_MAX)]  # type: ignore[valid-type]
    standalone: Any = tuple[*_OUTSIDE, item]  # type: ignore[valid-type]
    decoders = [msgspec.msgpack.Decoder(each) for each in (item, body, standalone)]
    return decoders[0].decode, decoders[1].decode, decoders[2].decode


_OUTSIDE: tuple[Any, ...] = (
    Annotated[int, Meta(ge=VERSION, le=VERSION)],
    Annotated[str, Meta(min_length=1, max_length=ACTOR_BYTES_MAX)],
    Annotated[int, Meta(ge=1, le=SEQ_MAX)],
    Annotated[int, Meta(ge=0, le=HLC_MAX)],
)
_standalone_decode: Callable[[bytes], Any] = msgspec.msgpack.Decoder(tuple[*_OUTSIDE, msgspec.Raw]).decode  # type: ignore[valid-type]
_shape_decode = msgspec.msgpack.Decoder(_Shape).decode
_body_decode = msgspec.msgpack.Decoder(Annotated[list[msgspec.Raw], Meta(max_length=ITEMS_MAX)]).decode
