"""The side of a document that takes in what others wrote, in whatever order it arrives."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from crdt.buffer import CausalBuffer
from crdt.causal import Path, as_keys
from crdt.change import Change
from crdt.clock import INDEX_BITS, ONE
from crdt.errors import ActorReused, LogClosed
from crdt.events import Event, events_at
from crdt.writer import Writer


class Intake(Writer):
    """Others' changes: each is applied once, whole, and after all it depends on. See ``Document``."""

    def __init__(
        self, actor: str, clock_ms: Callable[[], int] | None, on_change: Callable[[Change], None] | None,
        keep_history: bool,
    ) -> None:  # fmt: skip
        super().__init__(actor, clock_ms, on_change, keep_history)
        self._buffer = CausalBuffer()

    def is_ready(self, change: Change) -> bool:
        """Whether all it depends on was applied, and it was not."""
        index = self.actors.find(change.actor)
        have = 0 if index is None else self._clock[index]
        return change.seq == have + 1 and self._missing(change) is None

    def apply(self, changes: Iterable[Change], *, events: bool = True, admitted: bool = False) -> list[Event]:
        """Take in changes in any order; those that are not ready wait, repeats do nothing. Each is all or nothing.

        Returns what changed for an observer: one event for each place and origin, with the value after all of
        them. Nothing when ``events`` is false, which costs nothing. Raises ``CausalBufferFull`` before anything
        changed, ``ActorReused`` after the changes before the wrong one, or ``LogClosed`` after all that is not beyond
        the end of a closed log. ``admitted``: these were taken in before (a log that is read again), so that is not
        asked.
        """
        batch = changes if type(changes) is list else list(changes)
        if self._transaction is not None or self._buffer.held or not batch:
            return self._apply_each(batch, events, admitted)
        # The fast lane: the next changes of one other author, all of them ready, as frames hold them. Does the same as
        # the general one, once for all what that does for each.
        author = batch[0].actor
        index = self.actors.indices.get(author, self.index)
        if index == self.index or index in self._root.closed:
            return self._apply_each(batch, events, admitted)
        first = upcoming = self._clock[index] + 1
        for change in batch:
            if (
                change.seq != upcoming or change.actor != author
                or (change.needs and self._missing(change) is not None)
            ):  # fmt: skip
                return self._apply_each(batch, events, admitted)
            upcoming += len(change.ops)
        children = self._root.children
        dot = first << INDEX_BITS | index
        latest, kind = 0, None
        path: Path = ""
        for change in batch:
            stamp, names = change.hlc, change.names
            refs = [self._intern(name) for name in names] if names else ()
            if stamp > latest:
                latest = stamp
            for op in change.ops:
                if op.__class__ is not kind or op.path != path:
                    path, kind = op.path, op.__class__
                    slot: Any = children.get(path) if type(path) is str else None
                    if slot.__class__ is not kind.store:
                        slot = self._opened(path, kind.store)
                op.perform(slot, dot, refs, stamp)
                dot += ONE
                if kind.removes and (kind.store is None or slot.is_bottom()):
                    self._root.prune(as_keys(path))
                    kind = None
        self._clock[index] = upcoming - 1
        self._news[index] = None
        self._digest = None
        if self._census is not None:
            self._census.hear(index, batch)
        if latest > self.hlc.now and self.hlc.observe(latest):  # too far ahead to be followed: perhaps not each is
            for change in batch:
                self.hlc.observe(change.hlc)
        if self._history is not None:
            self._history.extend(batch)
        return self._events_of(batch) if events else []

    def _apply_each(self, batch: list[Change], events: bool, admitted: bool = False) -> list[Event]:
        """The general lane: any authors, any order, anything missing."""
        if self._transaction is not None:
            self._settled()
        self._buffer.require_room(batch, self._count)
        out: list[Change] | None = [] if events else None
        closed, refused = () if admitted else self._root.closed, list[Change]()
        for change in batch:
            index = self._intern(change.actor)
            if closed and index in closed and self._is_beyond(change, index):
                refused.append(change)
            elif change.seq == self._clock[index] + 1 and self._missing(change) is None:
                self._admit(change, index, out)
                if self._buffer.held:
                    self._drain([index], out)
            else:
                self._set_aside(change, index)
        while refused:
            left = self._offered_again(refused, out)
            if len(left) == len(refused):
                raise self._refusal(left, out)
            refused = left
        return self._events_of(out) if out else []

    def _is_beyond(self, change: Change, index: int) -> bool:
        """Whether it lies beyond the end of its closed log, and nothing that may enter rests on it."""
        end = self._root.closed[index]
        return self._clock[index] < change.last > max(end, self._buffer.wanted(self.retired).get(change.actor, 0))

    def _offered_again(self, refused: list[Change], out: list[Change] | None) -> list[Change]:
        """Take in what is no longer beyond the end, since a later one of the batch rests on it. Returns the others."""
        left = []
        for change in refused:
            index = self._intern(change.actor)
            if self._is_beyond(change, index):
                left.append(change)
            elif change.seq == self._clock[index] + 1 and self._missing(change) is None:
                self._admit(change, index, out)
                self._drain([index], out)
            else:
                self._set_aside(change, index)
        return left

    def _refusal(self, refused: list[Change], out: list[Change] | None) -> LogClosed:
        names: dict[str, tuple[int, int]] = {}
        for change in refused:
            first, last = names.get(change.actor, (change.seq, change.last))
            names[change.actor] = min(first, change.seq), max(last, change.last)
        ends = self.retired
        error = LogClosed({actor: ends[actor] for actor in names}, names)
        error.events = self._events_of(out) if out else []
        return error

    def events_of(self, change: Change) -> list[Event]:
        """What ``change``, just applied or committed, means to an observer."""
        return self._events_of([change])

    def _events_of(self, changes: list[Change]) -> list[Event]:
        touched = ((op.path, change.actor) for change in changes for op in change.ops if op.shows)
        return events_at(self._root, touched, self.actors, self.actor)

    def _set_aside(self, change: Change, index: int) -> None:
        """A change that is not ready waits; a repeat does nothing."""
        have = self._clock[index]
        if change.seq <= have:
            self._recognise(change, have)
        elif change.seq > have + 1:
            self._buffer.wait(change, index, change.seq - 1)
        else:
            missing = self._missing(change)
            assert missing is not None
            self._buffer.wait(change, *missing)

    def _drain(self, advanced: list[int], out: list[Change] | None) -> None:
        """Apply what waited for these actors, and what waited for that."""
        while advanced:
            index = advanced.pop()
            for change in self._buffer.ready(index, self._clock[index]):
                author = self._intern(change.actor)
                if author in self._root.closed and self._is_beyond(change, author):
                    continue  # the log was closed while it waited
                if change.seq == self._clock[author] + 1 and self._missing(change) is None:
                    self._admit(change, author, out)
                    advanced.append(author)
                else:
                    self._set_aside(change, author)

    def _admit(self, change: Change, index: int, out: list[Change] | None) -> None:
        """Perform a change that is ready."""
        names = change.names
        refs = [self._intern(name) for name in names] if names else []
        stamp = change.hlc
        dot = change.seq << INDEX_BITS | index
        for op in change.ops:
            self._perform(op, dot, refs, stamp)
            dot += ONE
        self._clock[index] += change.count
        self._digest = None
        if index == self.index:
            self._stamp = stamp  # the own log, fetched back
            if stamp > self.hlc.now:
                self.hlc.now = stamp  # own stamps only rise, also when the machine came up with its clock behind
        else:
            self._news[index] = None
            if self._census is not None:
                self._census.hear(index, (change,))
        if stamp > self.hlc.now:
            self.hlc.observe(stamp)
        if self._history is not None:
            self._history.append(change)
        if out is not None:
            out.append(change)

    def _recognise(self, change: Change, have: int) -> None:
        """A repeat does nothing; something else in its place is another history."""
        held = None if self._history is None else self._history.find(change.actor, change.seq)
        if change.last > have or (held is not None and held != change):
            raise ActorReused(change.actor, change.seq)

    def _missing(self, change: Change) -> tuple[int, int] | None:
        """Actor number and count that ``change`` waits for, or ``None``."""
        clock = self._clock
        for actor, count in change.needs.items():
            index = self._intern(actor)
            if clock[index] < count:
                return index, count
        return None
