"""Insertions and removals as they travel: where in a sequence, by names that every replica knows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeAlias

from msgspec import Meta

from crdt.causal import Needs, Op, check_path
from crdt.clock import INDEX_BITS, INDEX_MASK, Dot
from crdt.errors import InvalidBytes

if TYPE_CHECKING:
    from crdt.sequence import SequenceStore

OFFSET_MAX = 1 << 20  # no operation puts in as many
DISTANCE_MAX = 1 << 42
_Distance = Annotated[int, Meta(gt=-DISTANCE_MAX, lt=DISTANCE_MAX)]
Place: TypeAlias = _Distance | list[int]  # where an element hangs
RANGE = 5  # integers of a range to remove
RANGES_MAX = 4096  # in one operation: far less than a change may weigh


class Insert(Op):
    """Put elements in at ``place``: 0 the beginning; n to the right of the last element of one's own n-th operation
    before this one, -n to the left of the first; [n, code] another element of it; [reference, seq, code] of somebody
    else's; code is the offset there, twice, and one more for the right side."""

    place: Place

    def perform(self, store: Any, dot: Dot, refs: Sequence[int], stamp: int) -> None:
        place, content = self.place, self.content  # type: ignore[attr-defined]
        author = store.authors.get(dot & INDEX_MASK)
        if (
            author is None or type(place) is not int or (dot >> INDEX_BITS) - place != author.last
            or not store.type_on(author, dot, content)
        ):  # fmt: skip
            store.insert(dot, content[:], store.hook_of(place, dot, refs))

    def check_place(self, needs: Needs) -> None:
        """Raise ``InvalidBytes`` unless path and place are in a shape they may travel in."""
        check_path(self.path)
        place = self.place
        if type(place) is int:
            return
        if len(place) == 3:  # type: ignore[arg-type]
            needs.see(place[0], place[1])  # type: ignore[index]
        elif len(place) != 2 or not 0 < place[0] < DISTANCE_MAX:  # type: ignore[arg-type, index]
            raise InvalidBytes("a place of no allowed shape")
        if not 0 <= place[-1] >> 1 < OFFSET_MAX:  # type: ignore[index]
            raise InvalidBytes("a place of no allowed shape")


class Erase(Op):
    """Remove elements: n for the first one of one's own n-th operation before this one; or ranges, each as who, seq,
    offset of the first, and how many operations later and at what offset the last one is. Who is 0 for oneself, and
    then seq a distance; else a reference, plus 1. In ascending order, so that no range is gone through twice."""

    removes: ClassVar[bool] = True
    targets: int | list[int]

    def perform(self, store: Any, dot: Dot, refs: Sequence[int], stamp: int) -> None:
        if type(self.targets) is int:
            own = dot & INDEX_MASK
            author = store.authors.get(own)
            number = 0 if author is None else author.number((dot >> INDEX_BITS) - self.targets, 0)
            if number:
                store.erase(own, number, number)
            return
        for actor, low, high in self.ranges(store, dot, refs):
            store.erase(actor, low, high)

    def ranges(self, store: SequenceStore, dot: Dot, refs: Sequence[int]) -> Iterator[tuple[int, int, int]]:
        """Actor, number of the first and of the last."""
        targets, own, seq = self.targets, dot & INDEX_MASK, dot >> INDEX_BITS
        if type(targets) is int:
            author = store.authors.get(own)
            number = 0 if author is None else author.number(seq - targets, 0)
            if number:
                yield own, number, number
            return
        flat: list[int] = targets  # type: ignore[assignment]
        for at in range(0, len(flat), RANGE):
            who, begin, offset, more, end = flat[at : at + RANGE]
            actor, begin = (refs[who - 1], begin) if who else (own, seq - begin)
            author = store.authors.get(actor)
            if author is not None:
                yield actor, author.before(begin, offset) + 1, author.before(begin + more, end + 1)

    def check(self, needs: Needs) -> None:
        check_path(self.path)
        targets = self.targets
        if type(targets) is int:
            if not 0 < targets < DISTANCE_MAX:
                raise InvalidBytes("a removal of what is not there yet")
            return
        flat: list[int] = targets  # type: ignore[assignment]
        if len(flat) % RANGE:
            raise InvalidBytes("half a range")
        latest = (-1, 0, 0)
        for at in range(0, len(flat), RANGE):
            who, begin, offset, more, end = flat[at : at + RANGE]
            if not (who >= 0 and 0 <= more < DISTANCE_MAX and 0 <= offset < OFFSET_MAX and 0 <= end < OFFSET_MAX):
                raise InvalidBytes("a range of no allowed shape")
            if who:
                needs.see(who - 1, begin + more)
                if begin < 1:
                    raise InvalidBytes("a range from before all operations")
            elif not more < begin < DISTANCE_MAX:
                raise InvalidBytes("a removal of what is not there yet")
            else:
                begin = -begin
            if (who, begin, offset) <= latest or (more == 0 and end < offset):
                raise InvalidBytes("ranges in disorder")
            latest = (who, begin + more, end)
