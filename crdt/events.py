"""What changed for an observer: plain values at paths. Folding a document's events over its value gives its value."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from crdt.actors import ActorTable
from crdt.causal import Path, Store, as_keys
from crdt.map import MapStore
from crdt.value import Value

EAGER_ELEMENTS_MAX = 256  # a list of so many costs about 20 us; much more would make writing to a watched set quadratic


class Event:
    """The value at ``key`` and ``path`` below it is ``value`` now; with ``present`` false, nothing is there any more.

    ``type`` is the name of the type shown there, "delete" when nothing is. ``origin`` is the actor whose change did it,
    "" after the join of a snapshot; ``local`` says whether that is this document's. The value of a collection of more
    than ``EAGER_ELEMENTS_MAX`` is taken when it is first looked at, so it may be newer than the event, never older.
    """

    __slots__ = ("_later", "_value", "key", "local", "origin", "path", "present", "type")

    def __init__(
        self, key: str, path: tuple[str, ...], type: str, value: Value, origin: str, local: bool, present: bool = True,
        later: Callable[[], Value] | None = None,
    ) -> None:  # fmt: skip
        self.key, self.path, self.type, self.origin = key, path, type, origin
        self.local, self.present = local, present
        self._value, self._later = value, later

    @property
    def value(self) -> Value:
        """The new value at the path; ``None`` when nothing is there."""
        if self._later is not None:
            self._value, self._later = self._later(), None
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Event) and self._fields() == other._fields()

    __hash__ = None  # type: ignore[assignment]  # values are plain and may change

    def __repr__(self) -> str:
        path = "/".join((self.key, *self.path))
        value = "…" if self._later is not None else repr(self._value)
        return f"Event({path!r}, {self.type!r}, {value}, origin={self.origin!r}, local={self.local})"

    def _fields(self) -> tuple[Value, ...]:
        return self.key, self.path, self.type, self.value, self.origin, self.local, self.present


@dataclass(frozen=True, slots=True)
class Conflict:
    """Concurrent writes at ``path``: ``shown`` won, ``others`` are kept beside it until a write that saw them.

    ``types`` names the types kept there, the shown one first: more than one after a concurrent creation.
    """

    path: tuple[str, ...]
    types: tuple[str, ...]
    shown: Value
    others: tuple[Value, ...]


def event_at(root: MapStore, path: tuple[str, ...], names: ActorTable, origin: str, local: bool) -> Event:
    """The event for a change at ``path``: at the deepest place along it that an observer can see."""
    node: MapStore = root
    for depth, key in enumerate(path, 1):
        shown: Store | None = node.shown(key)
        if shown is None:
            return Event(path[0], path[1:depth], "delete", None, origin, local, present=False)
        if depth == len(path) or not isinstance(shown, MapStore):
            if shown.size() > EAGER_ELEMENTS_MAX:
                later = partial(shown.value, names)
                return Event(path[0], path[1:depth], shown.kind, None, origin, local, later=later)
            return Event(path[0], path[1:depth], shown.kind, shown.value(names), origin, local)
        node = shown
    raise AssertionError("a path has at least one key")


def events_at(
    root: MapStore, touched: Iterable[tuple[Path, str]], names: ActorTable, own: str
) -> list[Event]:  # fmt: skip
    """Events for paths that were touched, by whom: each place and origin once, with the values as they are now."""
    places: dict[tuple[str, ...], Event] = {}
    events: dict[tuple[str, tuple[str, ...], str], Event] = {}
    for path, origin in dict.fromkeys(touched):
        keys = as_keys(path)
        event = places.get(keys)
        if event is None or event.origin != origin:
            event = places[keys] = event_at(root, keys, names, origin, origin == own)
        events.setdefault((event.key, event.path, origin), event)
    return list(events.values())


def conflicts_under(root: MapStore, names: ActorTable, above: tuple[str, ...] = ()) -> list[Conflict]:
    """All conflicts, by path in canonical order."""
    found: list[Conflict] = []
    for key in root.live_keys():
        live, path = root.live(key), (*above, key)
        others: list[Any] = live[0].others(names)
        for each in live[1:]:
            others += [each.value(names), *each.others(names)]
        if others:
            found.append(Conflict(path, tuple(each.kind for each in live), live[0].value(names), tuple(others)))
        for each in live:
            if isinstance(each, MapStore):
                found += conflicts_under(each, names, path)
    return found


def fold(value: dict[str, Value], events: Iterable[Event]) -> dict[str, Value]:
    """``value`` after ``events``. Changes and returns it. A map that became empty vanishes, as it does from values."""
    for event in events:
        chain = [value]
        for key in (event.key, *event.path)[:-1]:
            below = chain[-1].get(key)
            if not isinstance(below, dict):
                if not event.present:
                    break
                below = chain[-1][key] = {}
            chain.append(below)
        else:
            last = (event.key, *event.path)[-1]
            if event.present:
                chain[-1][last] = event.value
            else:
                chain[-1].pop(last, None)
    return value
