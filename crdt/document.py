"""Typed objects under one clock: a space without a network. Pure and in memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from crdt import garbage, genesis, plain
from crdt import snapshot as snapshots
from crdt.change import Change
from crdt.clock import VectorClock
from crdt.errors import HistoryCut, LogClosed
from crdt.events import Conflict, Event, conflicts_under, event_at
from crdt.intake import Intake
from crdt.map import Objects
from crdt.value import Value


class Document(Intake, Objects):
    """A named set of typed objects that are replicated together: one clock, one causal context.

    Each local transaction becomes one ``Change``; equal clocks mean equal states, whatever the order of arrival.
    ``actor`` names who writes here: no two histories may ever be written under one name. Not for several threads.

    Attributes others may set: ``on_change(change)``, called after each local commit; ``guard()``, called before each
    local write or transaction, refuses it by raising; ``hlc.ahead_ms_max``.
    """

    def __init__(
        self, actor: str, clock_ms: Callable[[], int] | None = None, on_change: Callable[[Change], None] | None = None,
        *, keep_history: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(actor, clock_ms, on_change, keep_history)
        self._path = ()

    @property
    def _doc(self) -> Document:  # type: ignore[override]
        return self

    # -- what it shows ---------------------------------------------------------------------------------------------

    @property
    def value(self) -> dict[str, Value]:
        """All of it as plain Python, by key."""
        return self._root.value(self.actors)  # type: ignore[no-any-return]

    def get(self, key: str, default: Any = None) -> Any:
        """What ``value`` shows under ``key``, or ``default``; without looking at the other keys."""
        store = self._root.shown(key)
        return default if store is None else store.value(self.actors)

    def live_keys(self) -> list[str]:
        """Keys that ``value`` shows."""
        return self._root.live_keys()

    @property
    def clock(self) -> VectorClock:
        """How many operations of each actor were applied."""
        names = self.actors.names
        return VectorClock({names[index]: count for index, count in enumerate(self._clock) if count})

    def digest(self) -> str:
        """Of clock and live state: the same changes seen, the same digest. O(state) after a change."""
        self._settled()
        if self._digest is None:
            self._digest = snapshots.digest(self._root, self.actors, self._clock)
        return self._digest

    def conflicts(self) -> list[Conflict]:
        """Where concurrent writes left more than what is shown."""
        return conflicts_under(self._root, self.actors)

    # -- whole states ------------------------------------------------------------------------------------------------

    def changes_since(self, clock: Mapping[str, int]) -> list[Change]:
        """The changes ``clock`` has not seen, in an order that can be applied. Raises ``HistoryCut`` below what
        ``compact`` or a snapshot folded."""
        self._settled()
        if self._history is None:
            raise HistoryCut("this document keeps no history: send a snapshot")
        return self._history.since(clock)

    def compact(self, stable_clock: Mapping[str, int]) -> None:
        """Fold the changes that everybody has seen: they stay in the state, and are no longer kept one by one."""
        self._settled()
        if self._history is not None:
            mine = self.clock
            self._history.cut({actor: min(count, mine.get(actor)) for actor, count in stable_clock.items()})

    def collect(
        self, *, lead: bool = True, is_enough: Callable[[Collection[str]], bool] = lambda answered: True
    ) -> int:
        """Take part in forgetting what removals left behind; call it now and then at each replica, after exchanging
        changes. Returns how many removed things everybody forgets by what was written here.

        Writes changes like any other, if there is a reason: an answer when somebody asks for it; when this replica
        leads, the question whether all have seen what is removed here, and once every actor that is not retired has
        answered, that it goes. One replica should lead; several do no harm. ``is_enough`` may ask for more answers than
        that: it gets the actors that have answered. See ``garbage`` for why nothing is lost.
        """
        self._settled()
        self.require_open()
        return garbage.collect(self, lead=lead, is_enough=is_enough)

    def snapshot(self) -> bytes:
        """The whole state, for ``join`` or ``load``."""
        self._settled()
        return snapshots.write(self._root, self.actors, self._clock, self.hlc.now)

    def join(self, snapshot: bytes, *, events: bool = True, admitted: bool = False) -> list[Event]:
        """Become the least upper bound with a snapshot: nothing here is lost, nothing there is missed.

        Events name whole top-level keys. Raises ``InvalidBytes`` or ``UnknownOperation``, or ``LogClosed`` when it has
        more of a retired actor than may be taken in (``admitted``: it was before, so it may); then nothing changed.
        """
        self._settled()
        theirs = snapshots.read(snapshot)
        their_clock = theirs.clock()
        mine_before = self.clock
        if mine_before.dominates(their_clock):
            return []
        ends = self.retired
        beyond = {
            actor: (end + 1, count)
            for actor, end in ends.items()
            if (count := their_clock.get(actor)) > max(end, mine_before.get(actor), theirs.closed.get(actor, 0))
        }
        if beyond and not admitted:
            raise LogClosed(ends, beyond)
        root, counts = theirs.thaw(self.actors)
        mine = self._clock
        mine += [0] * (len(self.actors) - len(mine))
        keys = dict.fromkeys((*self._root.live_keys(), *root.live_keys())) if events else {}
        before = {key: self._shown(key) for key in keys}
        if any(mine):
            self._root.join(root, mine, counts)
        else:
            self._root = root  # the join with nothing
        advanced = []
        for index, count in enumerate(counts):
            if count > mine[index]:
                mine[index] = count
                advanced.append(index)
                if index == self.index:
                    self._stamp = 0
                else:
                    self._news[index] = None
        self._digest = None
        self.hlc.observe(theirs.hlc)
        if self._history is not None:
            self._history.skip({self.actors.names[index]: mine[index] for index in advanced})
        waited: list[Change] | None = [] if events else None
        self._drain(advanced, waited)
        out = [
            event_at(self._root, (key,), self.actors, "", False) for key in before if self._shown(key) != before[key]
        ]
        return out + self._events_of(waited) if waited else out

    @classmethod
    def load(
        cls, raw: bytes, *, actor: str, clock_ms: Callable[[], int] | None = None,
        on_change: Callable[[Change], None] | None = None, keep_history: bool = True,
    ) -> Document:  # fmt: skip
        """The document of a snapshot. ``actor`` goes on with its own log if the snapshot knows it; then it must be the
        latest of what that actor wrote, or else a new name is needed."""
        doc = cls(actor, clock_ms, on_change, keep_history=keep_history)
        doc.join(raw, events=False)
        return doc

    @classmethod
    def from_value(
        cls, value: dict[str, Value], *, actor: str, clock_ms: Callable[[], int] | None = None,
        on_change: Callable[[Change], None] | None = None,
    ) -> Document:  # fmt: skip
        """A document that begins with ``value``: dicts become maps, lists lists, all else registers. Replicas that
        begin with the same value have it once, not once each. Raises ``InvalidValue``."""
        doc = cls(actor, clock_ms, on_change)
        doc.apply(genesis.changes(value), events=False)
        return doc

    def to_json(self) -> str:
        """``value`` as JSON text; see ``plain``."""
        return plain.to_json(self.value)

    @classmethod
    def from_json(cls, text: str, *, actor: str, clock_ms: Callable[[], int] | None = None) -> Document:
        """``from_value`` of what ``to_json`` wrote, or any other JSON object. Raises ``InvalidValue``."""
        return cls.from_value(plain.from_json(text), actor=actor, clock_ms=clock_ms)

    def stats(self) -> dict[str, Any]:
        """What takes room: ``actors`` and ``operations`` in the clock, how many actors are ``retired``, ``changes``
        kept one by one and their bytes, ``waiting`` for what they depend on, and ``keys``: for each its ``type``, how
        many ``elements`` show, how many ``removed`` ones are kept for late returners (until ``collect``), and its
        ``bytes`` in a snapshot. O(state)."""
        self._settled()
        kept = (0, 0) if self._history is None else self._history.weight()
        return {
            "actors": sum(1 for count in self._clock if count),
            "operations": sum(self._clock),
            "retired": len(self._root.closed),
            "changes": {"kept": kept[0], "bytes": kept[1]},
            "waiting": len(self._buffer.held),
            "keys": snapshots.weights(self._root, self.actors, self._clock),
        }

    def _shown(self, key: str) -> tuple[str, Any] | None:
        store = self._root.shown(key)
        return None if store is None else (store.kind, store.mark(self.actors))

    def __repr__(self) -> str:
        return f"Document({self.actor!r}, {self.clock!r})"
