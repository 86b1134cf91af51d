"""This node's own writes that were on its disk and can be nobody's history any more: handed back, not dropped.

Two things bring that about. A backup that was restored where nobody could be reached, and written to: the others go on
from another history of that log. And a record that rotted before anybody else had it, found at a start: what follows
it in its log can never be applied. The frames stay on disk until the application has looked at them and says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from crdt import CrdtError
from crdt.causal import Op, as_keys
from mesh.protocol.effects import Slot
from mesh.protocol.facts import WritesLost
from mesh.state import records
from mesh.state.folding import changes_of
from mesh.state.journal import nothing
from mesh.state.room import Room
from transport.frame import SignedFrame, parse
from transport.identity import Origin

if TYPE_CHECKING:
    from mesh.state.replica import Replica

REMEDY = "space.lost() lists them; write again what still matters, then space.forget_lost()"
HLC_LOGICAL_BITS = 16


@dataclass(frozen=True, slots=True)
class LostWrite:
    """One operation that did not survive: what it did, at which place. ``fields`` are its plain values, such as
    ``{"amount": 3}`` of an increment or ``{"value": "x"}`` of a register's write."""

    origin: str
    seq: int
    at_ms: int  # wall clock of the writer
    path: tuple[str, ...]
    type: str  # "" for the deletion of a key
    act: str
    fields: dict[str, Any]


class Lost:
    """The lost writes of one space; on disk, in the order in which they were written."""

    def __init__(self, replica: Replica, room: Room) -> None:
        self._replica, self._room = replica, room
        self._key = records.stream_key(replica.name)
        self._taken: set[Origin] = {frame.origin for frame in self._kept()}

    def has(self, origin: Origin) -> bool:
        """Whether a history of this log was taken back before: the next one that differs was seen by others."""
        return origin in self._taken

    def keep(self, slot: Slot, frames: Iterable[SignedFrame], reason: str) -> None:
        """Move these frames of one log out of it, in one commit, and tell. Nothing is told of no frames."""
        taken = list(frames)
        if not taken:
            return
        puts = [(records.LOST, records.frame_key(slot, frame.last), frame.raw) for frame in taken]
        cuts = [(records.FRAMES, records.frame_key(slot, frame.last), records.frame_key(slot, frame.last + 1))
                for frame in taken]  # fmt: skip
        self._room.journal.append(puts, cuts, saved=nothing)
        self._taken.add(slot.origin)
        self.tell(slot, taken, reason)

    def returned(self, slot: Slot, frame: SignedFrame) -> None:
        """This one came back: others have taken it in after all."""
        key = records.frame_key(slot, frame.last)
        if slot.origin in self._taken and self._room.storage.get(records.LOST, key) == frame.raw:
            self._room.journal.append([], [(records.LOST, key, key + b"\0")], saved=nothing)

    def tell(self, slot: Slot, frames: list[SignedFrame], reason: str) -> None:
        """Say that these frames of a log cannot be applied here."""
        first, last = frames[0].first, frames[-1].last
        self._room.tell(WritesLost(slot.stream, slot.origin, first, last, f"{reason}; {REMEDY}"))

    def writes(self) -> list[LostWrite]:
        """What was lost, and what waits behind a damaged record. Raises ``StorageFault``."""
        found: list[LostWrite] = []
        for frame in (*self._kept(), *self._stuck()):
            found += _writes_of(frame)
        return found

    def _kept(self) -> Iterator[SignedFrame]:
        end = records.after_prefix(self._key)
        return (parse(raw) for _, raw in self._room.storage.scan(records.LOST, self._key, end))

    def _stuck(self) -> Iterator[SignedFrame]:
        """Own frames on disk that do not follow what is held: a record before them is damaged, and not here yet."""
        own = self._room.identity.id
        for origin, log in self._replica.logs.items():
            if origin.node == own and not log.fork:
                end = records.after_prefix(records.log_key(log.slot))
                first = records.frame_key(log.slot, log.head.seq + 1)
                for _, raw in self._room.storage.scan(records.FRAMES, first, end):
                    frame = parse(raw)
                    if frame.first > log.head.seq + 1:
                        yield frame

    def forget(self) -> None:
        """The application has seen them."""
        self._room.journal.append(
            [], [(records.LOST, self._key, records.after_prefix(self._key))], saved=nothing
        )  # fmt: skip


def _writes_of(frame: SignedFrame) -> list[LostWrite]:
    origin = str(frame.origin)
    try:
        changes = changes_of(frame, origin, {})
    except CrdtError:
        return []
    found = []
    for change in changes:
        for at, op in enumerate(change.ops):
            kind = op.store.kind if op.store is not None else ""
            fields = _fields_of(op)
            found.append(
                LostWrite(origin, change.seq + at, change.hlc >> HLC_LOGICAL_BITS, as_keys(op.path), kind,
                          type(op).__name__.lower(), fields)
            )  # fmt: skip
    return found


def _fields_of(op: Op) -> dict[str, Any]:
    """An operation's values, without what only orders it."""
    plain: dict[str, Any] = {}
    for name in op.__struct_fields__:
        if name in ("path", "seen", "totals"):
            continue
        value = getattr(op, name)
        if isinstance(value, bytes):
            try:
                value = msgspec.msgpack.decode(value)
            except msgspec.DecodeError:
                value = value.hex()
        plain[name] = value
    return plain
