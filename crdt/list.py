"""Lists: values in the order of ``sequence``, that can be moved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from crdt import columns
from crdt.actors import ActorTable
from crdt.author import Author, Element
from crdt.causal import SHORT_KEY, Clock, Names, Needs, Thaw, register
from crdt.clock import INDEX_BITS, INDEX_MASK, Dot
from crdt.cursor import SequenceHandle
from crdt.edits import DISTANCE_MAX, OFFSET_MAX, Erase, Insert
from crdt.errors import InvalidBytes
from crdt.fugue import Hook
from crdt.purge import Purge, level
from crdt.sequence import SequenceStore
from crdt.spans import Span
from crdt.value import VALUE_BYTES_MAX, Value, check_packed, pack, unpack

TURN_MAX = (1 << 63) - 1


class InsertValues(Insert, tag=13):
    """Put values in, at least one; each as its canonical bytes."""

    adds: ClassVar[bool] = True
    content: Annotated[list[bytes], Meta(min_length=1, max_length=OFFSET_MAX - 1)]

    def check(self, needs: Needs) -> None:
        path = self.path
        if type(self.place) is not int or type(path) is not str or len(path) > SHORT_KEY:
            self.check_place(needs)
        for raw in self.content:
            check_packed(raw)


class EraseValues(Erase, tag=14):
    """Remove values, wherever they were moved."""


class Move(Insert, tag=15):
    """Show a value at ``place`` from now on. ``element``: who, seq and offset, as in ``Erase``; ``turn``: one more than
    the moves of it that its author had seen, so that this one comes after them."""

    element: Annotated[list[int], Meta(min_length=3, max_length=3)]
    turn: int

    def perform(self, store: ListStore, dot: Dot, refs: Sequence[int], stamp: int) -> None:
        store.move(dot, store.hook_of(self.place, dot, refs), self.what(store, dot, refs), self.turn)

    def what(self, store: ListStore, dot: Dot, refs: Sequence[int]) -> Element:
        """The element it moves; 0 if there is none."""
        who, seq, offset = self.element
        if who:
            return store.element(refs[who - 1], seq, offset)
        return store.element(dot & INDEX_MASK, (dot >> INDEX_BITS) - seq, offset)

    def check(self, needs: Needs) -> None:
        self.check_place(needs)
        who, seq, offset = self.element
        if who:
            needs.see(who - 1, seq)
        if who < 0 or not 0 < seq < DISTANCE_MAX or not 0 <= offset < OFFSET_MAX or not 0 < self.turn <= TURN_MAX:
            raise InvalidBytes("a move of nothing")


class PurgeValues(Purge, tag=47):
    """Forget removed values and old slots, for good."""


@register(InsertValues, EraseValues, Move, PurgeValues)
class ListStore(SequenceStore):
    """A sequence of values. A move puts a *slot* in, an element that shows another one's value.

    Law    a value shows in one place: where it was put in, or in the slot of its last move. Of concurrent moves the
           one with the greatest (turn, actor's name in bytes, number) counts; turns rise along causality, so that a
           move beats those it saw. A removal beats them all.
    Source Kleppmann 2020, "Moving Elements in List CRDTs" (PaPoC), doi:10.1145/3380787.3393677.
    """

    __slots__ = ("moved", "slots")
    kind = "list"
    _purge = PurgeValues

    def __init__(self) -> None:
        super().__init__()
        self.slots: dict[Element, Element] = {}  # slot: the value that was put in there
        self.moved: dict[Element, tuple[int, Element]] = {}  # value: turn and slot of the move that counts

    def content(self) -> list[bytes]:
        """All that shows, as canonical bytes."""
        return [raw for span in self.spans if span.live for raw in span.content]

    def value(self, names: ActorTable) -> list[Value]:
        return [unpack(raw) for raw in self.content()]

    def move(self, dot: Dot, hook: Hook, element: Element, turn: int) -> None:
        """Operation ``dot`` puts a slot in at ``hook``, for ``element`` if there is such a one."""
        actor = dot & INDEX_MASK
        what = self.slots.get(element, element)
        author = self.authors.setdefault(actor, Author())
        slot = author.begin(dot >> INDEX_BITS, 1) << INDEX_BITS | actor
        held, raw = None, None
        if what:
            held = self.moved.get(what)
            if held is None or self._order((turn, slot)) > self._order(held):
                raw = self._raw(held[1] if held else what)
                if raw is not None:
                    self._conceal(held[1] if held else what)
                self.moved[what] = turn, slot
            self.slots[slot] = what
        self.attach(Span(slot, 1, None if raw is None else [raw], hook, raw is not None), author)

    def _order(self, move: tuple[int, Element]) -> tuple[int, bytes, int]:
        turn, slot = move
        return turn, self.names.names[slot & INDEX_MASK].encode(), slot >> INDEX_BITS

    def _raw(self, element: Element) -> bytes | None:
        """What shows in this very place."""
        span, offset = self.span(element)
        return span.content[offset] if span.live else None

    def _conceal(self, element: Element) -> None:
        number = element >> INDEX_BITS
        self.hide(element & INDEX_MASK, number, number)

    def where(self, element: Element) -> Element:
        """The place that shows ``element``, if it shows."""
        held = self.moved.get(element)
        return element if held is None else held[1]

    def named(self, span: Span, offset: int, count: int) -> list[tuple[int, int, int]]:
        if not self.slots:
            return super().named(span, offset, count)
        first = span.first + (offset << INDEX_BITS)
        elements = (first + (at << INDEX_BITS) for at in range(count))
        values = [self.slots.get(each, each) for each in elements]
        return [(each & INDEX_MASK, each >> INDEX_BITS, each >> INDEX_BITS) for each in values]

    def places(self, actor: int, low: int, high: int) -> Iterator[tuple[int, int, int]]:
        special: dict[int, None] = {}
        if self.slots:
            if high - low < len(self.slots):
                every: Iterable[Element] = (number << INDEX_BITS | actor for number in range(low, high + 1))
                marked = [each for each in every if each in self.slots or each in self.moved]
            else:
                marked = [each for each in (*self.slots, *self.moved) if each & INDEX_MASK == actor]
            special = dict.fromkeys(sorted(each >> INDEX_BITS for each in marked))
        for number in special:
            if low <= number <= high:
                if low < number:
                    yield actor, low, number - 1
                held = self.moved.get(number << INDEX_BITS | actor)
                if held is not None:  # slots are no values: only with their value do they go
                    where = held[1]
                    yield where & INDEX_MASK, where >> INDEX_BITS, where >> INDEX_BITS
                low = number + 1
        if low <= high:
            yield actor, low, high

    def unite(self, other: SequenceStore) -> bool:
        assert isinstance(other, ListStore)
        if not (self._agrees(other) and other._agrees(self)):
            return False
        fates: dict[Element, tuple[bytes | None, tuple[int, Element], list[Element]]] = {}
        for what in {**self.moved, **other.moved}:
            here, there = self._fate(what), other._fate(what)
            raw = here[1] if here[0] and (here[1] is None or not there[0]) else there[1]
            moves = [store.moved[what] for store in (self, other) if what in store.moved]
            fates[what] = raw, max(moves, key=self._order), [what, *(slot for _, slot in moves)]
        if not super().unite(other):
            return False
        self.slots.update(other.slots)
        for what, (raw, move, places) in fates.items():
            for each in places:
                self._conceal(each)
            self.moved[what] = move
            if raw is not None:
                number = move[1] >> INDEX_BITS
                self.show(move[1] & INDEX_MASK, number, number, [raw])
        return True

    def join(self, other: Any, mine: Clock, theirs: Clock) -> None:
        level(self, other, mine, theirs)
        for one, two in ((self, other), (other, self)):
            one._settle_slots(two)
        self.unite(other)

    def _settle_slots(self, other: ListStore) -> None:
        """Slots of a removed value are slots no more where the other side has forgotten that."""
        for slot, what in list(self.slots.items()):
            author = other.authors.get(slot & INDEX_MASK)
            if author is None or slot >> INDEX_BITS > author.count or slot in other.slots:
                continue
            known, raw = other._fate(what)
            if known and raw is None:
                self._conceal(self.where(what))
                self.moved.pop(what, None)
                del self.slots[slot]

    def referred(self) -> Iterable[Element]:
        return [what for what, (_, slot) in self.moved.items() if self._raw(slot) is not None]

    def withdraw(self, actor: int, low: int, high: int) -> None:
        for slot in [each for each in self.slots if each & INDEX_MASK == actor and low <= each >> INDEX_BITS <= high]:
            what = self.slots[slot]
            raw = self._raw(slot)
            if raw is not None:  # moved on where it was forgotten: the value itself stays
                self._conceal(slot)
                del self.moved[what]
                number = what >> INDEX_BITS
                self.show(what & INDEX_MASK, number, number, [raw])
        self.erase(actor, low, high)

    def renamed(self, name: Callable[[Element], Element]) -> None:
        moved = {}
        for what, (turn, slot) in self.moved.items():
            if name(what) and name(slot):
                moved[name(what)] = turn, name(slot)
        slots = {name(slot): name(what) for slot, what in self.slots.items()}
        self.moved = moved
        self.slots = {slot: what for slot, what in slots.items() if slot and what in moved}

    def _agrees(self, other: ListStore) -> bool:
        """Whether ``other`` says the same of all slots here that it has."""
        for slot, what in self.slots.items():
            author = other.authors.get(slot & INDEX_MASK)
            if author is not None and slot >> INDEX_BITS <= author.count and other.slots.get(slot) != what:
                return False
        return True

    def _fate(self, element: Element) -> tuple[bool, bytes | None]:
        """Whether it was ever here, and its value if it still is."""
        author = self.authors.get(element & INDEX_MASK)
        number = element >> INDEX_BITS
        if author is None or author.count < number or (author.has_gaps and not author.has(number)):
            return False, None
        return True, self._raw(self.where(element))

    def copy(self) -> ListStore:
        twin: ListStore = super().copy()
        twin.slots, twin.moved = dict(self.slots), dict(self.moved)
        return twin

    def freeze(self, names: Names, *, live: bool) -> Any:
        if live:
            return super().freeze(names, live=True)
        order = sorted(self.authors, key=names.ranks.__getitem__)
        place, width = {actor: at for at, actor in enumerate(order)}, len(order)
        moves = []
        for slot, what in self.slots.items():
            turn, winner = self.moved[what]
            codes = [(each >> INDEX_BITS) * width + place[each & INDEX_MASK] for each in (slot, what)]
            moves.append((*codes, turn if winner == slot else 0))
        return [*columns.freeze(self, names), sorted(moves)]

    def thaw(self, plain: bytes, names: Thaw, depth: int) -> None:
        decoded = columns.decode(plain, self.kind)
        actors = columns.thaw(self, decoded, names)
        for raw in decoded[4]:
            check_packed(raw)

        def known(code: int) -> Element:
            number, at = divmod(code, len(actors))
            author = self.authors[actors[at]]
            if not 0 < number <= author.count or (author.has_gaps and not author.has(number)):
                raise InvalidBytes("a move of nothing")
            return number << INDEX_BITS | actors[at]

        for slot_code, code, turn in decoded[5]:
            slot, what = known(slot_code), known(code)
            if slot in self.slots or not 0 <= turn <= TURN_MAX or (turn and what in self.moved):
                raise InvalidBytes("a move that is there twice")
            self.slots[slot] = what
            if turn:
                self.moved[what] = turn, slot
        for slot, what in self.slots.items():
            if what in self.slots or what not in self.moved or self._raw(what) is not None:
                raise InvalidBytes("a value that shows twice")
            if self.moved[what][1] != slot and self._raw(slot) is not None:
                raise InvalidBytes("a value that shows twice")

    def memento(self, op: Any, dot: Dot, refs: Sequence[int]) -> Any:
        below = super().memento(op, dot, refs)
        if not isinstance(op, Move):
            return below
        what = op.what(self, dot, refs)
        what = self.slots.get(what, what)
        where = self.where(what)
        raw = self._raw(where) if what else None
        return below, what, self.moved.get(what), where, raw

    def restore(self, memento: Any) -> None:
        if len(memento) != 5 or isinstance(memento, list):
            super().restore(memento)
            return
        below, what, held, where, raw = memento
        actor, count = below
        self.slots.pop((count + 1) << INDEX_BITS | actor, None)
        if held is None:
            self.moved.pop(what, None)
        else:
            self.moved[what] = held
        self.cut(actor, count)
        if raw is not None and self._raw(where) is None:
            number = where >> INDEX_BITS
            self.show(where & INDEX_MASK, number, number, [raw])


class List(SequenceHandle):
    """Handle of a list of values. Indices as those of a Python list."""

    __slots__ = ()
    _store = ListStore
    _erase = EraseValues

    def insert(self, index: int, value: Value) -> None:
        """Put ``value`` in before ``index``; past an end, at that end, as in Python. Raises ``InvalidValue``."""
        self._insert(index, [pack(value)])

    def append(self, value: Value) -> None:
        """Put ``value`` in at the end."""
        raw = pack(value)
        doc = self._doc
        store = doc.target(self._wire, ListStore)
        doc.write(InsertValues(self._wire, self._place(store, 0 if store is None else store.spans.live), [raw]), True)

    def extend(self, values: Iterable[Value]) -> None:
        """Put values in at the end, as one change."""
        self._insert(len(self), [pack(value) for value in values])

    def move(self, source: int, to: int) -> None:
        """As ``insert(to, pop(source))``, but of concurrent moves of one value one counts, so it is never doubled."""
        size = len(self)
        if not -size <= source < size:
            raise IndexError(f"index {source} of a list of {size}")
        source %= size
        to = max(0, to + size - 1) if to < 0 else min(to, size - 1)
        if source == to:
            return
        doc = self._doc
        store = doc.target(self._wire, ListStore)
        doc.seen(())
        element = store.element_at(source)
        element = store.slots.get(element, element)
        place = self._place(store, to if to < source else to + 1)
        actor, seq, offset = store.outside(element)
        who = 0 if actor == doc.index else doc.refer(doc.actors.names[actor]) + 1
        turn = store.moved.get(element, (0,))[0] + 1
        doc.write(Move(self._wire, place, [who, seq if who else doc.upcoming - seq, offset], turn), True)

    def pop(self, index: int = -1) -> Value:
        """Remove a value and return it."""
        value = self[index]
        del self[index]
        return value

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return self.value[index]
        size = len(self)
        if not -size <= index < size:
            raise IndexError(f"index {index} of a list of {size}")
        span, offset = self._doc.find(self._path, ListStore).spans.find(index % size)
        return unpack(span.content[offset])

    def __setitem__(self, index: int, value: Value) -> None:
        """Put ``value`` in the place of another, as one change. Two that do so at once leave both."""
        raw = pack(value)
        del_at = self._checked(index)
        with self._together():
            self._insert(del_at, [raw])
            self._remove(del_at + 1, 1)

    def __delitem__(self, index: int | slice) -> None:
        self._drop(index)

    def __iter__(self) -> Iterator[Value]:
        return iter(self.value)

    def __contains__(self, value: Value) -> bool:
        store = self._doc.find(self._path, ListStore)
        return store is not None and pack(value) in store.content()

    @property
    def value(self) -> list[Value]:
        """All of it as a plain list; empty while absent."""
        store = self._doc.find(self._path, ListStore)
        return [] if store is None else store.value(self._doc.actors)

    def _insert(self, index: int, raws: list[bytes]) -> None:
        size = len(self)
        index = max(0, index + size) if index < 0 else min(index, size)
        chunks: list[list[bytes]] = [[]]
        room = VALUE_BYTES_MAX
        for raw in raws:
            if chunks[-1] and room < len(raw) + 5:
                chunks.append([])
                room = VALUE_BYTES_MAX
            chunks[-1].append(raw)
            room -= len(raw) + 5
        doc = self._doc
        if len(chunks) > 1:
            with self._together():
                for chunk in chunks:
                    place = self._place(doc.find(self._path, ListStore), index)
                    doc.write(InsertValues(self._wire, place, chunk))
                    index += len(chunk)
        elif raws:
            store = doc.target(self._wire, ListStore)
            doc.write(InsertValues(self._wire, self._place(store, index), raws), True)
