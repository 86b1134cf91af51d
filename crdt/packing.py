"""Operations of a change that are alike and follow each other, in fewer bytes. Only on the wire: no type sees it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from crdt.causal import Op, Path
from crdt.errors import InvalidBytes
from crdt.sets import Put

UNPACKED_MAX = 1 << 17  # operations of one change: as many as fit when none is packed


class Additions(msgspec.Struct, array_like=True, gc=False, tag=16):
    """``count`` additions to one set that saw nothing; ``elements`` are their canonical bytes, one after the other."""

    path: Path
    count: Annotated[int, Meta(ge=2, le=UNPACKED_MAX)]
    elements: bytes


def packed(ops: Sequence[Op]) -> Sequence[Any]:
    """``ops`` with runs of additions packed."""
    if len(ops) > UNPACKED_MAX:
        return ops
    out: list[Any] = []
    for path, group in groupby(ops, _packs_as):
        run = list(group)
        if path is None or len(run) < 2:
            out += run
        else:
            out.append(Additions(path, len(run), b"".join([op.element for op in run])))  # type: ignore[attr-defined]
    return out


def unpacked(ops: list[Any]) -> list[Op]:
    """Back from ``packed``. Raises ``InvalidBytes``."""
    if sum(op.count if type(op) is Additions else 1 for op in ops) > UNPACKED_MAX:
        raise InvalidBytes("more operations than a change may have")
    out: list[Op] = []
    for op in ops:
        if type(op) is Additions:
            try:
                elements = _split(b"\xdd" + op.count.to_bytes(4, "big") + op.elements)
            except msgspec.MsgspecError as wrong:
                raise InvalidBytes(f"packed elements that are none: {wrong}") from None
            out += [Put(op.path, bytes(each), True, []) for each in elements]
        else:
            out.append(op)
    return out


def _packs_as(op: Op) -> Path | None:
    return op.path if type(op) is Put and op.present and not op.seen else None


_split = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
