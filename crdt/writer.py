"""The side of a document that writes: one log, under one actor."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from crdt.actors import ActorTable, check_actor
from crdt.causal import Op, Path, Store, as_keys
from crdt.change import CHANGE_BYTES_MAX, NO_NAMES, Change
from crdt.clock import INDEX_BITS, INDEX_MASK, SEQ_MAX, Dot
from crdt.errors import ActorReused, ChangeTooLarge, CrdtError, InvalidValue, LogClosed, TransactionOpen, TypeClash
from crdt.history import History
from crdt.hlc import Hlc
from crdt.map import MapStore
from crdt.retirement import Retire, Root
from crdt.transaction import Transaction

if TYPE_CHECKING:
    from crdt.garbage import Census

NAMES_UNCHECKED = 512  # a change that names fewer actors than this surely fits, if it writes one value


class Writer:
    """Typed objects under one clock, and the way of a local write into them. See ``Document``."""

    def __init__(
        self, actor: str, clock_ms: Callable[[], int] | None, on_change: Callable[[Change], None] | None,
        keep_history: bool,
    ) -> None:  # fmt: skip
        self.actors: Final = ActorTable()
        self.hlc: Final = Hlc(clock_ms)
        self.on_change = on_change
        self.guard: Callable[[], None] | None = None
        self._root = Root(self.actors)
        self._clock: list[int] = []  # operations seen, by actor number
        self._history: History | None = History() if keep_history else None
        self._transaction: Transaction | None = None
        self._digest: str | None = None
        self._census: Census | None = None
        self._become(actor)

    def _become(self, actor: str) -> None:
        try:
            self.actor = check_actor(actor)
        except ValueError as wrong:
            raise InvalidValue(str(wrong)) from None
        self._census = None  # its answers were to another name
        self.index = self._intern(actor)  # this document's own number
        # Clock entries that changed since the own previous change; at first, all there are.
        self._news: dict[int, None] = {
            index: None for index, count in enumerate(self._clock) if count and index != self.index
        }
        self._stamp = 0  # HLC of the own previous change
        self._names: dict[str, int] = {}  # actors the change being made refers to, and their references
        self._refs: list[int] = []  # their numbers, by reference

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
            if self._root.closed:
                self.require_open()
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

    def require_open(self) -> None:
        """Raise ``LogClosed`` if this document's own log is."""
        if self.index in self._root.closed:
            raise LogClosed({self.actor: self._root.closed[self.index]}, {}, ": this actor was retired; renew it")

    @property
    def forgets(self) -> bool:
        """Whether it was asked to help forget what is removed (``garbage``): then nothing new hangs on such."""
        return self._root.forgets

    @property
    def retired(self) -> dict[str, int]:
        """Where the logs of retired actors end."""
        return {self.actors.names[index]: seq for index, seq in self._root.closed.items()}

    def end_of(self, actor: str) -> int | None:
        """Where the log of ``actor`` was closed; ``None`` while it is open."""
        closed = self._root.closed
        return closed.get(self.actors.indices.get(actor, -1)) if closed else None

    @property
    def overtaken(self) -> list[str]:
        """Retired actors of whom more was taken in here than where their log was closed: ``retire`` them again, or the
        others never take that in."""
        closed = self._root.closed
        if not closed or self.index in closed:
            return []
        return [self.actors.names[index] for index, seq in closed.items() if self._clock[index] > seq]

    def retire(self, *actors: str) -> None:
        """Close the logs of these actors, for everybody, at what was taken in of them here: a change like any other.

        What they wrote beyond that is refused from then on (``LogClosed``), but for what somebody else has taken in
        already. What was kept only for their late return can then go: see ``collect``. Their owners write under new
        actors. Nothing is written for those that are closed there already. Raises ``InvalidValue`` for the own actor,
        and for one of whom nothing was seen.
        """
        self._settled()
        if self.actor in actors:
            raise InvalidValue(f"{self.actor} writes here: renew it, then retire the old one")
        ends: dict[int, int] = {}
        for actor in actors:
            index = self.actors.find(actor)
            if index is None or not self._clock[index]:
                raise InvalidValue(f"nothing of {actor} was seen, so there is no log to close")
            if self._clock[index] > self._root.closed.get(index, 0):
                ends[index] = self._clock[index]
        if ends:
            self.seen(())
            self.write(
                Retire("", [each for i, seq in ends.items() for each in (self.refer(self.actors.names[i]), seq)])
            )

    def renew(self, actor: str) -> None:
        """Write under a new actor from now on, from sequence 1: the old log could not go on (restored backup).

        Raises ``ActorReused`` if ``actor`` wrote before, and ``LogClosed`` if the own log was retired and this document
        holds more of retired logs than the others take in: then load a snapshot of theirs.
        """
        self._settled()
        if self.index in self._root.closed:
            ends = self.retired
            beyond = {name: (end + 1, self._count(name)) for name, end in ends.items() if self._count(name) > end}
            if beyond:
                raise LogClosed(ends, beyond, ": load a snapshot of somebody else's as a new actor")
        known = self.actors.find(actor)
        if known is not None and (self._clock[known] or known == self.index):
            raise ActorReused(actor, self._clock[known])
        self._become(actor)

    def _perform(self, op: Op, dot: Dot, refs: list[int], stamp: int) -> None:
        store = op.store
        slot = self._opened(op.path, store)
        op.perform(slot, dot, refs, stamp)
        if op.removes and self._transaction is None and (store is None or slot.is_bottom()):
            self._root.prune(as_keys(op.path))

    def _opened(self, path: Path, store: type[Store] | None) -> Any:
        """The object at ``path``, made at need; for no ``store`` the map that holds the last key."""
        parent: MapStore = self._root
        key: Any
        if type(path) is str:
            key = path
        else:
            key = path[-1]
            above = path[0]
            below = parent.children.get(above)
            parent = below if below.__class__ is MapStore else parent.open(above, MapStore)
            if len(path) > 2:
                for above in path[1:-1]:
                    parent = parent.open(above, MapStore)
        if store is None:
            return parent
        slot = parent.children.get(key)
        return slot if slot.__class__ is store else parent.open(key, store)

    def _commit(self, ops: tuple[Op, ...] | list[Op], seq: int, stamp: int) -> None:
        names = self._names
        change = Change(self.actor, seq, stamp, stamp - self._stamp, ops, list(names) if names else NO_NAMES)
        if self._news:
            change.deps = change.needs = self._news_counts()
            self._news = {}
        if names:
            self._names, self._refs = {}, []
        self._clock[self.index] = seq + change.count - 1
        self._root.is_asked = False
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

    def _settled(self) -> None:
        if self._transaction is not None:
            raise TransactionOpen("a transaction is open: nothing is read out of it, taken in or begun meanwhile")
