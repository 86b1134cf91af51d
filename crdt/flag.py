"""Flags: enable-wins and disable-wins. Each is the set of its rule with one possible element."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from crdt.actors import ActorTable
from crdt.causal import Needs, Op, check_path, register
from crdt.clock import Dot
from crdt.handle import Handle
from crdt.sets import Put, PutStrict, SetStore, Settle, StrictSetStore
from crdt.value import pack

ON = pack(True)


class Turn(Op, tag=8):
    """Turn the flag on or off."""

    removes: ClassVar[bool] = True
    on: bool
    seen: list[int]

    @property
    def element(self) -> bytes:
        return ON

    def perform(self, store: Any, dot: Dot, refs: Sequence[int], stamp: int) -> None:
        Put(self.path, ON, self.on, self.seen).perform(store, dot, refs, stamp)

    def check(self, needs: Needs) -> None:
        check_path(self.path)
        needs.seen(self.seen)


class TurnStrict(Turn, tag=9):
    """The same for a disable-wins flag."""

    def perform(self, store: Any, dot: Dot, refs: Sequence[int], stamp: int) -> None:
        PutStrict(self.path, ON, self.on, self.seen).perform(store, dot, refs, stamp)


@register(Turn)
class FlagStore(SetStore):
    """Enable-wins: a disable removes the enables it saw."""

    __slots__ = ()
    kind = "flag"

    def value(self, names: ActorTable) -> bool:
        return self.has(ON)


class SettleFlag(Settle, tag=41):
    """The same for a disable-wins flag."""


@register(TurnStrict, SettleFlag)
class StrictFlagStore(StrictSetStore):
    """Disable-wins: an enable cancels the disables it saw; on while enabled and no disable is left."""

    __slots__ = ()
    kind = "flag-disable-wins"
    _settle = SettleFlag

    def value(self, names: ActorTable) -> bool:
        return self.has(ON)


class Flag(Handle):
    """Handle of an enable-wins flag."""

    __slots__ = ()
    _store: ClassVar[Any] = FlagStore
    _turn = Turn

    def enable(self) -> None:
        """Turn it on."""
        self._write(True)

    def disable(self) -> None:
        """Turn it off."""
        if self._doc.target(self._path, self._store) is not None and self.value:
            self._write(False)

    @property
    def value(self) -> bool:
        """Whether it is on; ``False`` while absent."""
        store = self._doc.find(self._path, self._store)
        return store is not None and store.has(ON)

    def _write(self, on: bool) -> None:
        store = self._doc.find(self._path, self._store)
        seen = [] if store is None else self._doc.seen(store.at(ON))
        self._doc.write(self._turn(self._wire, on, seen))


class StrictFlag(Flag):
    """Handle of a disable-wins flag."""

    __slots__ = ()
    _store = StrictFlagStore
    _turn = TurnStrict

    def disable(self) -> None:
        """Turn it off, and off it stays whatever was enabled elsewhere meanwhile."""
        self._write(False)
