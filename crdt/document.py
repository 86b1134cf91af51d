"""Typed objects under one clock: a space without a network. Pure and in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Final

from crdt import genesis, plain
from crdt import snapshot as snapshots
from crdt.actors import ActorTable, check_actor
from crdt.buffer import CausalBuffer
from crdt.causal import Op, Path, Store, as_keys
from crdt.change import CHANGE_BYTES_MAX, NO_NAMES, Change
from crdt.clock import INDEX_BITS, INDEX_MASK, ONE, SEQ_MAX, Dot, VectorClock
from crdt.errors import ActorReused, ChangeTooLarge, CrdtError, HistoryCut, InvalidValue, TransactionOpen, TypeClash
from crdt.events import Conflict, Event, conflicts_under, event_at, events_at
from crdt.history import History
from crdt.hlc import Hlc
from crdt.map import Delete, MapStore, Objects, copy_slot
from crdt.value import Value

NAMES_UNCHECKED = 512  # a change that names fewer actors than this surely fits, if it writes one value


class Document(Objects):
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
        self.actors: Final = ActorTable()
        self.hlc: Final = Hlc(clock_ms)
        self.on_change = on_change
        self.guard: Callable[[], None] | None = None
        self._root = MapStore(self.actors)
        self._clock: list[int] = []  # operations seen, by actor number
        self._buffer = CausalBuffer()
        self._history: History | None = History() if keep_history else None
        self._transaction: Transaction | None = None
        self._digest: str | None = None
        self._path = ()
        self._become(actor)

    def _become(self, actor: str) -> None:
        try:
            self.actor = check_actor(actor)
        except ValueError as wrong:
            raise InvalidValue(str(wrong)) from None
        self.index = self._intern(actor)  # this document's own number
        # Clock entries that changed since the own previous change; at first, all there are.
        self._news: dict[int, None] = {
            index: None for index, count in enumerate(self._clock) if count and index != self.index
        }
        self._stamp = 0  # HLC of the own previous change
        self._names: dict[str, int] = {}  # actors the change being made refers to, and their references
        self._refs: list[int] = []  # their numbers, by reference

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

    # -- writing here ----------------------------------------------------------------------------------------------

    def transaction(self) -> Transaction:
        """``with doc.transaction():`` makes one change of all writes inside, at its end. Writes are visible at once; an
        exception takes all of them back. May not span an await, nor hold another one."""
        return Transaction(self)

    def write(self, op: Op, checked: bool = False) -> None:
        """For handles: perform one local operation. Raises before anything changes. ``checked``: the handle has just
        asked ``target`` for it."""
        transaction = self._transaction
        if transaction is not None:
            transaction.write(op)
            return
        index = self.index
        seq = self._clock[index] + 1
        try:
            if self.guard is not None:
                self.guard()
            store = op.store
            if store is not None and not checked:
                self.target(op.path, store)
            if store is None or len(self._names) > NAMES_UNCHECKED:
                self._require_fit(Change(self.actor, seq, 0, 1 << 62, (op,), list(self._names), self._news_counts()))
        except BaseException:
            self._names, self._refs = {}, []
            raise
        stamp = self.hlc.tick()
        self._perform(op, seq << INDEX_BITS | index, self._refs, stamp)
        self._commit((op,), seq, stamp)

    def seen(self, dots: Iterable[Dot]) -> list[int]:
        """For handles: others' dots as reference, seq, …, for the operation about to be written."""
        if self._transaction is None and self._names:
            self._names, self._refs = {}, []
        own = self.index
        flat: list[int] = []
        for dot in dots:
            index = dot & INDEX_MASK
            if index != own:
                flat += (self.refer(self.actors.names[index]), dot >> INDEX_BITS)
        return flat

    def refer(self, actor: str) -> int:
        """For handles: a reference to ``actor`` for the operation about to be written."""
        names = self._names
        ref = names.get(actor)
        if ref is None:
            ref = names[actor] = len(names)
            self._refs.append(self._intern(actor))
        return ref

    @property
    def upcoming(self) -> int:
        """For handles: the sequence of the operation about to be written."""
        transaction = self._transaction
        return self._clock[self.index] + 1 if transaction is None else transaction.upcoming

    @property
    def in_transaction(self) -> bool:
        """For handles: whether a transaction is open."""
        return self._transaction is not None

    def find(self, path: tuple[str, ...], store: type[Store]) -> Any:
        """The object of that type at ``path``, live or not, or ``None``."""
        node: Any = self._root
        for key in path[:-1]:
            node = node.child(key, MapStore)
            if node is None:
                return None
        return node.child(path[-1], store) if path else node

    def target(self, path: Path, store: type[Store]) -> Any:
        """``find`` for writing: raises ``TypeClash`` if something of another type is live on the way."""
        parent: Any = self._root
        if type(path) is str:
            slot = parent.children.get(path)
        else:
            for key in path[:-1]:
                parent = parent.children.get(key)
                if parent.__class__ is not MapStore:
                    return self._target(as_keys(path), store)
            slot = parent.children.get(path[-1]) if path else parent
        if slot is None or slot.__class__ is store:
            return slot
        return self._target(as_keys(path), store)

    def _target(self, path: tuple[str, ...], store: type[Store]) -> Any:
        """The same where something is absent on the way, or of another type."""
        node: Any = self._root
        for depth, key in enumerate(path, 1):
            wanted = store if depth == len(path) else MapStore
            slot = None if node is None else node.children.get(key)
            if slot is not None and slot.__class__ is not wanted:
                live = [each.kind for each in node.live(key)]
                if live and wanted.kind not in live:
                    raise TypeClash(tuple(path[:depth]), wanted.kind, live)
                slot = node.child(key, wanted)
            node = slot
        return node

    def renew(self, actor: str) -> None:
        """Write under a new actor from now on, from sequence 1: the old log could not go on (restored backup).

        Raises ``ActorReused`` if ``actor`` wrote before.
        """
        self._settled()
        known = self.actors.find(actor)
        if known is not None and (self._clock[known] or known == self.index):
            raise ActorReused(actor, self._clock[known])
        self._become(actor)

    # -- taking in others' changes -----------------------------------------------------------------------------------

    def is_ready(self, change: Change) -> bool:
        """Whether all it depends on was applied, and it was not."""
        index = self.actors.find(change.actor)
        have = 0 if index is None else self._clock[index]
        return change.seq == have + 1 and self._missing(change) is None

    def apply(self, changes: Iterable[Change], *, events: bool = True) -> list[Event]:
        """Take in changes in any order; those that are not ready wait, repeats do nothing. Each is all or nothing.

        Returns what changed for an observer: one event for each place and origin, with the value after all of
        them. Nothing when ``events`` is false, which costs nothing. Raises ``CausalBufferFull`` before anything
        changed, or ``ActorReused`` after the changes before the wrong one.
        """
        if self._transaction is not None:
            self._settled()
        batch = changes if isinstance(changes, list) else list(changes)
        if len(batch) > 1 or self._buffer.held:  # there is always room for one
            self._buffer.require_room(batch, self._count)
        out: list[Change] | None = [] if events else None
        author, index, clock = "", -1, self._clock
        for change in batch:
            if change.actor is not author:
                author = change.actor
                index = self._intern(author)
            if change.seq == clock[index] + 1 and (not change.needs or self._missing(change) is None):
                self._admit(change, index, out)
                if self._buffer.held:
                    self._drain([index], out)
            else:
                self._set_aside(change, index)
        return self._events_of(out) if out else []

    def events_of(self, change: Change) -> list[Event]:
        """What ``change``, just applied or committed, means to an observer."""
        return self._events_of([change])

    def _events_of(self, changes: list[Change]) -> list[Event]:
        touched = ((op.path, change.actor) for change in changes for op in change.ops)
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

    def snapshot(self) -> bytes:
        """The whole state, for ``join`` or ``load``."""
        self._settled()
        return snapshots.write(self._root, self.actors, self._clock, self.hlc.now)

    def join(self, snapshot: bytes, *, events: bool = True) -> list[Event]:
        """Become the least upper bound with a snapshot: nothing here is lost, nothing there is missed.

        Events name whole top-level keys. Raises ``InvalidBytes`` or ``UnknownOperation``; then nothing changed.
        """
        self._settled()
        theirs = snapshots.read(snapshot)
        their_clock = theirs.clock()
        if self.clock.dominates(their_clock):
            return []
        root, counts = theirs.thaw(self.actors)
        mine = self._clock
        mine += [0] * (len(self.actors) - len(mine))
        before = {key: self._shown(key) for key in (*self._root.live_keys(), *root.live_keys())} if events else {}
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
        """What takes room: ``actors`` and ``operations`` in the clock, ``changes`` kept one by one and their bytes,
        ``waiting`` for what they depend on, and ``keys``: for each its ``type``, how many ``elements`` show, how many
        ``removed`` ones are kept for late returners, and its ``bytes`` in a snapshot. O(state)."""
        self._settled()
        kept = (0, 0) if self._history is None else self._history.weight()
        return {
            "actors": sum(1 for count in self._clock if count),
            "operations": sum(self._clock),
            "changes": {"kept": kept[0], "bytes": kept[1]},
            "waiting": len(self._buffer.held),
            "keys": snapshots.weights(self._root, self.actors, self._clock),
        }

    # -- inside --------------------------------------------------------------------------------------------------------

    def _perform(self, op: Op, dot: Dot, refs: list[int], stamp: int) -> None:
        path, store = op.path, op.store
        root = self._root
        if type(path) is str:
            parent, key = root, path
        else:
            parent, key = root, path[-1]
            for each in path[:-1]:
                below = parent.children.get(each)
                parent = below if below.__class__ is MapStore else parent.open(each, MapStore)
        if store is None:
            op.perform(parent, dot, refs, stamp)
        else:
            slot: Any = parent.children.get(key)
            if slot.__class__ is not store:
                slot = parent.open(key, store)
            op.perform(slot, dot, refs, stamp)
            if not op.removes or not slot.is_bottom():
                return
        if self._transaction is None:
            root.prune(as_keys(path))

    def _commit(self, ops: tuple[Op, ...] | list[Op], seq: int, stamp: int) -> None:
        names = self._names
        change = Change(self.actor, seq, stamp, stamp - self._stamp, ops, list(names) if names else NO_NAMES)
        if self._news:
            change.deps = change.needs = self._news_counts()
            self._news = {}
        if names:
            self._names, self._refs = {}, []
        self._clock[self.index] = seq + change.count - 1
        self._stamp = stamp
        self._digest = None
        if self._history is not None:
            self._history.append(change)
        if self.on_change is not None:
            self.on_change(change)

    def _news_counts(self) -> dict[str, int]:
        names, clock = self.actors.names, self._clock
        return {names[index]: clock[index] for index in self._news}

    def _require_fit(self, change: Change) -> None:
        size = len(change.item())
        if size > CHANGE_BYTES_MAX:
            raise ChangeTooLarge(size, CHANGE_BYTES_MAX)
        if change.last > SEQ_MAX:
            raise CrdtError(f"{self.actor} has written all the operations there are: renew it")

    def _intern(self, actor: str) -> int:
        index = self.actors.intern(actor)
        if index >= len(self._clock):
            self._clock += [0] * (index + 1 - len(self._clock))
        return index

    def _count(self, actor: str) -> int:
        index = self.actors.find(actor)
        return 0 if index is None else self._clock[index]

    def _shown(self, key: str) -> tuple[str, Any] | None:
        store = self._root.shown(key)
        return None if store is None else (store.kind, store.mark(self.actors))

    def _settled(self) -> None:
        if self._transaction is not None:
            raise TransactionOpen("a transaction is open: nothing is read out of it, taken in or begun meanwhile")

    def __repr__(self) -> str:
        return f"Document({self.actor!r}, {self.clock!r})"


class Transaction:
    """Writes that become one change, or none. Made by ``Document.transaction``."""

    __slots__ = ("_doc", "_grown", "_ops", "_seq", "_stamp", "_undo")

    def __init__(self, doc: Document) -> None:
        self._doc = doc
        self._ops: list[Op] = []
        self._undo: list[Callable[[], None]] = []
        self._grown: Store | None = None  # what the latest operation only added to
        self._seq = self._stamp = 0

    def __enter__(self) -> None:
        doc = self._doc
        doc._settled()
        if doc.guard is not None:
            doc.guard()
        self._seq = doc._clock[doc.index] + 1
        self._stamp = doc.hlc.tick()
        doc._names, doc._refs = {}, []
        doc._transaction = self

    @property
    def upcoming(self) -> int:
        return self._seq + len(self._ops)

    def write(self, op: Op) -> None:
        doc = self._doc
        if op.store is not None:
            doc.target(op.path, op.store)
        dot = self._seq + len(self._ops) << INDEX_BITS | doc.index
        self._remember(op, dot)
        self._ops.append(op)
        doc._perform(op, dot, doc._refs, self._stamp)

    def __exit__(self, kind: type[BaseException] | None, *rest: BaseException | TracebackType | None) -> None:
        doc, ops = self._doc, self._ops
        try:
            if kind is None and ops:
                step = 1 << 62  # no step is longer on the wire
                doc._require_fit(Change(doc.actor, self._seq, 0, step, ops, list(doc._names), doc._news_counts()))
        except CrdtError:
            self._roll_back()
            raise
        if kind is not None:
            self._roll_back()
            return
        doc._transaction = None
        self._prune()
        if ops:
            doc._commit(ops, self._seq, self._stamp)

    def _roll_back(self) -> None:
        for undo in reversed(self._undo):
            undo()
        self._doc._transaction = None
        self._doc._names, self._doc._refs = {}, []
        self._prune()

    def _prune(self) -> None:
        """While it was open nothing was forgotten, so that it could be taken back."""
        for op in self._ops:
            self._doc._root.prune(as_keys(op.path))

    def _remember(self, op: Op, dot: Dot) -> None:
        """Note how to take ``op`` back; later ones are taken back before it."""
        path = as_keys(op.path)
        parent = self._doc._root
        for key in path[:-1]:
            parent = parent.open(key, MapStore)
        key = path[-1]
        if isinstance(op, Delete):
            self._grown = None
            # The copy is reset and goes on living; the original waits, untouched, for the undo of what came before.
            slot = parent.children[key]
            parent.children[key] = copy_slot(slot)

            def put_back() -> None:
                parent.children[key] = slot

            self._undo.append(put_back)
        else:
            assert op.store is not None
            store = parent.open(key, op.store)
            if op.adds and store is self._grown:
                return
            self._grown = store if op.adds else None
            memento = store.memento(op, dot, self._doc._refs)
            self._undo.append(lambda: store.restore(memento))
