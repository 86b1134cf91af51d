"""What removals leave behind, and when it may go.

A removal leaves something for operations that were made without having seen it: dots of a remove-wins set, totals of a
counter, places in a text. *Garbage* is such a thing once no operation without having seen it can come any more. Then an
operation may say: this goes. It is one like any other, in somebody's log, applied in causal order; so everybody forgets
the same, equal clocks still mean equal states, and an operation whose author had forgotten finds it forgotten.

Who leads takes a *census*: what could go if everybody saw it, at clock C. Then it writes a ``Mark``, and everybody
answers by writing something after it, if they write nothing anyway. A change that depends on the mark has seen C; so
has all its author writes later. When each actor has answered whose log is not closed, what is not here yet comes

  from one that has answered, after its answer: it saw C, since causes come first;
  or from a closed log, below its end: everybody had taken in no more of it than its answer rests on, and that is here
  (``retirement``), as closings that count had been seen before the census;
  or from somebody nobody had heard of. What those do beside it is defined with each operation that forgets (``Settle``,
  ``purge``), so that the order does not matter: it commutes with whatever they do.

So what is in the census and is still as it was may go: nothing to come can tell, but by those who are new.

Join: what one side lacks and has seen, it has forgotten; so does the other, with the join.
Source: causal stability, Baquero, Almeida, Shoker 2014 (arXiv:1710.04469, section 5); answers instead of clocks, since
no replica keeps those of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TYPE_CHECKING

from crdt.causal import Path, Store
from crdt.genesis import is_genesis
from crdt.map import MapStore
from crdt.retirement import Mark
from crdt.value import sorted_keys

if TYPE_CHECKING:
    from crdt.change import Change
    from crdt.document import Document

ASK_AGAIN = 8  # attempts after which a mark is made anew: who joined a snapshot does not know that it was asked


class Census:
    """What could go, taken at ``clock``, and who has answered the mark that followed it."""

    __slots__ = ("answered", "asker", "attempts", "clock", "closed", "found", "mark")

    def __init__(self, doc: Document) -> None:
        self.clock = list(doc._clock)
        self.closed = dict.fromkeys(doc._root.closed)
        self.found = [(path, type(store), found) for path, store in walk(doc._root) if (found := store.garbage())]
        self.answered: dict[int, None] = {}
        self.asker, self.mark = doc.actor, doc.upcoming
        self.attempts = 0

    def hear(self, index: int, changes: Iterable[Change]) -> None:
        """Changes of that actor were taken in: one that depends on the mark is its answer."""
        if any(change.deps.get(self.asker, 0) >= self.mark for change in changes):
            self.answered[index] = None

    def missing(self, doc: Document) -> list[int]:
        """Actors that have not answered, by number."""
        names = doc.actors.names
        return [
            index
            for index, count in enumerate(doc._clock)
            if count and index != doc.index and index not in self.closed and index not in self.answered
            and not is_genesis(names[index])
        ]  # fmt: skip


def collect(doc: Document, *, lead: bool, is_enough: Callable[[Collection[str]], bool]) -> int:
    """See ``Document.collect``."""
    if doc.overtaken:
        doc.retire(*doc.overtaken)
    gone = 0
    census = doc._census
    if census is not None:
        missing = census.missing(doc)
        if any(index in doc._root.closed for index in missing):
            census = doc._census = None  # retired since: what it may still write counts from a closing on
        elif not missing and is_enough([doc.actors.names[index] for index in census.answered]):
            gone = forget(doc, census)
            census = doc._census = None
    if lead:
        if census is None:
            census = Census(doc)
            if census.found and not census.missing(doc) and is_enough([]):
                gone += forget(doc, census)
            elif census.found:
                doc._census = census
                doc.write(Mark("", True))
        else:
            census.attempts += 1
            if census.attempts % ASK_AGAIN == 0:
                doc.write(Mark("", True))
    if doc._root.is_asked:
        doc.write(Mark("", False))
    return gone


def forget(doc: Document, census: Census) -> int:
    """Write what makes everybody forget all in ``census`` that is still as it was. Returns how much that was."""
    gone = 0
    for path, kind, found in census.found:
        store = doc.find(path, kind)
        if store is not None:
            wire: Path = path[0] if len(path) == 1 else path
            for op, count in store.forgetting(found, census.clock, wire, doc):
                doc.write(op, True)
                gone += count
    return gone


def walk(place: MapStore, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Store]]:
    """All objects but maps, by path."""
    for key in sorted_keys(place.children):
        for store in place.at(key):
            if isinstance(store, MapStore):
                yield from walk(store, (*above, key))
            else:
                yield (*above, key), store
