"""State to bytes and back: ``[version, actors, counts, HLC, tree]``, canonical but for the HLC."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from crdt.actors import ACTOR_BYTES_MAX, ActorTable, check_actor
from crdt.causal import Names, Thaw
from crdt.clock import SEQ_MAX, VectorClock
from crdt.errors import InvalidBytes
from crdt.hlc import HLC_MAX
from crdt.map import MapStore
from crdt.value import DEPTH_MAX, sorted_keys

VERSION = 1

_encode = msgspec.msgpack.Encoder().encode


class Snapshot(msgspec.Struct, array_like=True):
    """A document's whole state under its clock. ``tree`` is looked into by ``read``."""

    version: Annotated[int, Meta(ge=VERSION, le=VERSION)]
    actors: list[Annotated[str, Meta(min_length=1, max_length=ACTOR_BYTES_MAX)]]
    counts: list[Annotated[int, Meta(ge=0, le=SEQ_MAX)]]
    hlc: Annotated[int, Meta(ge=0, le=HLC_MAX)]
    tree: msgspec.Raw

    def clock(self) -> VectorClock:
        """The clock it was taken at."""
        return VectorClock(dict(zip(self.actors, self.counts, strict=True)))

    def thaw(self, table: ActorTable) -> tuple[MapStore, list[int]]:
        """The tree and its clock by actor number, in the numbers of ``table``. Raises ``InvalidBytes``; then ``table``
        is as it was."""
        known = len(table)
        root = MapStore(table)
        try:
            indices = [table.intern(actor) for actor in self.actors]
            root.thaw(self.tree, Thaw(indices, self.counts), DEPTH_MAX)
        except BaseException as wrong:
            table.forget(known)
            if isinstance(wrong, msgspec.MsgspecError | RecursionError | UnicodeError | OverflowError):
                raise InvalidBytes(f"bytes that are no snapshot: {wrong}") from None
            raise
        clock = [0] * len(table)
        for index, count in zip(indices, self.counts, strict=True):
            clock[index] = count
        return root, clock


def read(raw: bytes) -> Snapshot:
    """The outside of a snapshot. Raises ``InvalidBytes``."""
    try:
        snapshot = _decode(raw)
        for actor in snapshot.actors:
            check_actor(actor)
    except (msgspec.MsgspecError, RecursionError, ValueError) as wrong:
        raise InvalidBytes(f"bytes that are no snapshot: {wrong}") from None
    if len(snapshot.actors) != len(snapshot.counts) or len(set(snapshot.actors)) < len(snapshot.actors):
        raise InvalidBytes("a snapshot whose clock is in disorder")
    return snapshot


def write(root: MapStore, table: ActorTable, clock: Sequence[int], hlc: int) -> bytes:
    """The snapshot of a document."""
    names = _names(root, table, clock)
    counts = [clock[table.intern(name)] for name in names.names]
    return _encode((VERSION, names.names, counts, hlc, root.freeze(names, live=False)))


def digest(root: MapStore, table: ActorTable, clock: Sequence[int]) -> str:
    """32 hex digits of clock and live state: the same changes seen, the same digest, in whatever order they came."""
    names = _names(root, table, clock)
    counts = [clock[table.intern(name)] for name in names.names]
    counted = [(name, count) for name, count in zip(names.names, counts, strict=True) if count]
    return hashlib.blake2b(_encode((counted, names.names, root.freeze(names, live=True))), digest_size=16).hexdigest()


def weights(root: MapStore, table: ActorTable, clock: Sequence[int]) -> dict[str, dict[str, Any]]:
    """By key: types under it, elements that show, removed ones that are kept, and bytes in a snapshot."""
    names = _names(root, table, clock)
    found = {}
    for key in sorted_keys(root.children):
        stores = root.at(key)
        found[key] = {
            "type": " ".join(store.kind for store in stores),
            "elements": sum(store.size() for store in stores if store.is_live()),
            "removed": sum(store.removed_count() for store in stores),
            "bytes": len(_encode([(store.kind, store.freeze(names, live=False)) for store in stores])),
        }
    return found


def _names(root: MapStore, table: ActorTable, clock: Sequence[int]) -> Names:
    counted = {index: None for index, count in enumerate(clock) if count}
    return Names(table, list({**counted, **dict.fromkeys(root.mentions())}))


_decode = msgspec.msgpack.Decoder(Snapshot).decode
