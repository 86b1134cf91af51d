"""State to bytes and back: ``[version, actors, counts, closed, forgets, HLC, tree]``, canonical but for the HLC.

``actors`` are sorted names, each as how many characters it shares with the one before, if any, and the rest. ``closed``
are retired actors, each as how many others lie between it and the one before, and how many operations were counted
past the end of its log, mostly 0. So a past actor with a name like its neighbour's costs about 10 bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from crdt.actors import ActorTable, check_actor
from crdt.causal import Names, Thaw
from crdt.clock import SEQ_MAX, VectorClock
from crdt.errors import InvalidBytes
from crdt.hlc import HLC_MAX
from crdt.map import MapStore
from crdt.retirement import Root
from crdt.value import DEPTH_MAX, sorted_keys

VERSION = 2

_encode = msgspec.msgpack.Encoder().encode


class _Parts(msgspec.Struct, array_like=True):
    version: Annotated[int, Meta(ge=VERSION, le=VERSION)]
    actors: list[int | str]
    counts: list[Annotated[int, Meta(ge=0, le=SEQ_MAX)]]
    closed: list[Annotated[int, Meta(ge=0, le=SEQ_MAX)]]
    forgets: bool
    hlc: Annotated[int, Meta(ge=0, le=HLC_MAX)]
    tree: msgspec.Raw


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A document's whole state under its clock. ``closed``: where the logs of retired actors end. ``forgets``: whether
    a mark was seen (``retirement``)."""

    actors: list[str]
    counts: list[int]
    closed: dict[str, int]
    forgets: bool
    hlc: int
    tree: msgspec.Raw  # not looked into yet

    def clock(self) -> VectorClock:
        """The clock it was taken at."""
        return VectorClock(dict(zip(self.actors, self.counts, strict=True)))

    def thaw(self, table: ActorTable) -> tuple[Root, list[int]]:
        """The tree and its clock by actor number, in the numbers of ``table``. Raises ``InvalidBytes``; then ``table``
        is as it was."""
        known = len(table)
        root = Root(table)
        try:
            indices = [table.intern(actor) for actor in self.actors]
            root.thaw(self.tree, Thaw(indices, self.counts), DEPTH_MAX)
        except BaseException as wrong:
            table.forget(known)
            if isinstance(wrong, msgspec.MsgspecError | RecursionError | UnicodeError | OverflowError):
                raise InvalidBytes(f"bytes that are no snapshot: {wrong}") from None
            raise
        root.closed = {table.intern(actor): end for actor, end in self.closed.items()}
        root.forgets = self.forgets
        clock = [0] * len(table)
        for index, count in zip(indices, self.counts, strict=True):
            clock[index] = count
        return root, clock


def read(raw: bytes) -> Snapshot:
    """The outside of a snapshot. Raises ``InvalidBytes``."""
    try:
        parts = _decode(raw)
        actors = _read_names(parts.actors)
        for actor in actors:
            check_actor(actor)
    except (msgspec.MsgspecError, RecursionError, ValueError) as wrong:
        raise InvalidBytes(f"bytes that are no snapshot: {wrong}") from None
    counts, flat = parts.counts, parts.closed
    if len(actors) != len(counts) or len(set(actors)) < len(actors) or len(flat) % 2:
        raise InvalidBytes("a snapshot whose clock is in disorder")
    closed: dict[str, int] = {}
    place = -1
    for at in range(0, len(flat), 2):
        place += flat[at] + 1
        if place >= len(actors) or flat[at + 1] >= counts[place]:
            raise InvalidBytes("a closed log that is not there")
        closed[actors[place]] = counts[place] - flat[at + 1]
    return Snapshot(actors, counts, closed, parts.forgets, parts.hlc, parts.tree)


def _read_names(flat: list[int | str]) -> list[str]:
    names: list[str] = []
    name, shared = "", 0
    for each in flat:
        if type(each) is int:
            shared = each
        elif 0 <= shared <= len(name):
            name = name[:shared] + each  # type: ignore[operator]
            names.append(name)
            shared = 0
        else:
            raise InvalidBytes("a name that shares more than there is")
    return names


def _write_names(names: list[str]) -> list[int | str]:
    flat: list[int | str] = []
    last = ""
    for name in names:
        shared = next((at for at, (a, b) in enumerate(zip(last, name, strict=False)) if a != b), len(last))
        flat += (shared, name[shared:]) if shared else (name,)
        last = name
    return flat


def write(root: Root, table: ActorTable, clock: Sequence[int], hlc: int) -> bytes:
    """The snapshot of a document."""
    names = _names(root, table, clock)
    counts = [clock[table.intern(name)] for name in names.names]
    closed: list[int] = []
    last = -1
    for place, end in sorted((names.ranks[index], end) for index, end in root.closed.items()):
        closed += (place - last - 1, counts[place] - end)
        last = place
    tree = root.freeze(names, live=False)
    return _encode((VERSION, _write_names(names.names), counts, closed, root.forgets, hlc, tree))


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


_decode = msgspec.msgpack.Decoder(_Parts).decode
