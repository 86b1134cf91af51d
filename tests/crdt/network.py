"""A network between documents that loses, repeats and reorders, with nodes that fold, restart and come back old."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from crdt import Change, Document, HistoryCut, VectorClock
from crdt.cursor import Cursor
from tests.crdt.oracle import about, conflicts_of, layout, survive, value_of
from tests.laws import require_join_laws, require_same, require_sound, state
from tests.strategies import ACTORS, PATHS, Action, History, Replica, random_argument

ALL = ("counter", "bounded", "transfer", "register", "multi", "set", "set-remove-wins", "flag", "flag-disable-wins",
       "delete", "list", "text")  # fmt: skip


class Network:
    """``replicas`` documents; whatever ``step`` does, each shows what the operations it has seen mean.

    Parcels under way are bytes: changes by themselves, frames of several, snapshots. Any may be lost, come late, come
    twice or be overtaken. ``kinds`` at ``paths`` are what is written.
    """

    def __init__(
        self, rng: random.Random, kinds: Sequence[str] = ALL, paths: Sequence[tuple[str, ...]] = PATHS,
        replicas: int = 3,
    ) -> None:  # fmt: skip
        self._rng, self._kinds, self._paths = rng, kinds, paths
        self.wall = 1
        # Half of the networks have no wall clocks: then stamps are equal more often than not.
        self._clock_ms = self._clock if rng.random() < 0.5 else None
        docs = [Document(actor, self._clock_ms) for actor in ACTORS[:replicas]]
        self.history = History([Replica(doc) for doc in docs], clock=self._clock_ms)
        self.flying: list[tuple[int, Any]] = []  # whom to, and bytes of a snapshot, or changes as a frame or one by one
        self.happened: dict[str, int] = {}
        self._began: dict[str, int] = {}  # a frame never holds what was written before its author's last start

    def _clock(self) -> int:
        """A wall that jumps, backwards too, and is another one for everybody who looks."""
        return self.wall + self._rng.randrange(20)

    @property
    def docs(self) -> list[Document]:
        return self.history.docs

    def step(self) -> None:
        """Something happens."""
        happening = self._rng.choice(
            (self._write,) * 9
            + (self._arrive,) * 7
            + (self._repair, self._repair, self._fold, self._send_snapshot, self._restart, self._return, self._tick)
        )
        happening()
        self.happened[happening.__name__] = self.happened.get(happening.__name__, 0) + 1

    def begin(self, actions: Sequence[Action]) -> None:
        """What all have at first."""
        for action in actions:
            self.history.step(("do", 0, [action], False))
        self.history.settle()

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.step()

    def _act(self) -> Action:
        kind = self._rng.choice(self._kinds)
        path = self._rng.choice(self._paths)
        if kind == "delete" and self._rng.random() < 0.4:
            path = path[: self._rng.randint(1, len(path))]
        return kind, path, random_argument(self._rng, kind)

    def _write(self) -> None:
        rng, who = self._rng, self._rng.randrange(len(self.docs))
        acts = [self._act() for _ in range(rng.choice((1, 1, 1, 2, 4)))]
        made = len(self.history.changes)
        self.history.step(("do", who, acts, rng.random() < 0.1))
        for to in range(len(self.docs)):
            mine = self.history.changes[made:]
            if to != who and mine and rng.random() < 0.7:  # else it is lost
                back = rng.randint(0, 3)  # a frame of the last few
                actor = mine[0].actor
                log = [c for c in self.history.changes if c.actor == actor and c.seq > self._began.get(actor, 0)]
                self.flying += [(to, framed(log[-1 - back :]))] * rng.choice((1, 1, 2))

    def _arrive(self) -> None:
        if not self.flying:
            return
        at = self._rng.randrange(len(self.flying))
        to, parcel = self.flying[at] if self._rng.random() < 0.1 else self.flying.pop(at)
        self._take(to, parcel)

    def _repair(self) -> None:
        one, other = self._rng.sample(self.docs, 2)
        repair(one, other, self._rng)

    def _fold(self) -> None:
        """At what all have seen; or, bolder, at anything: then the slow get a snapshot."""
        doc = self._rng.choice(self.docs)
        if self._rng.random() < 0.5:
            stable = {a: min(each.clock.get(a) for each in self.docs) for a in doc.clock}
        else:
            stable = {a: self._rng.randint(0, count) for a, count in doc.clock.items()}
        before = state(doc)
        doc.compact(stable)
        assert state(doc) == before, "folding is seen"

    def _send_snapshot(self) -> None:
        to = self._rng.randrange(len(self.docs))
        self.flying.append((to, self._rng.choice(self.docs).snapshot()))

    def _restart(self) -> None:
        """From what it had at last: it goes on under its name, without a history, and forgets what waited."""
        replica = self._rng.choice(self.history.replicas)
        actor = replica.doc.actor
        replica.doc = Document.load(replica.doc.snapshot(), actor=actor, clock_ms=self._clock_ms)
        self._began[actor] = replica.doc.clock.get(actor)

    def _return(self) -> None:
        who = self._rng.randrange(len(self.docs))
        self.history.step((self._rng.choice(("backup", "backup", "restore")), who))

    def _tick(self) -> None:
        self.wall = max(1, self.wall + self._rng.randint(-100, 300))

    # -- what must hold ------------------------------------------------------------------------------------------------

    def require_defined(self, doc: Document) -> None:
        """It shows what the operations it has seen mean, and nothing else; cursors are where their elements are. And it
        never sees an answer before its question."""
        seen, clock = self.history.seen_by(doc), doc.clock
        assert all(clock.dominates(each.clock) for each in seen), "an operation before its causes"
        assert repr(sorted_(doc.value)) == repr(sorted_(value_of(seen)))
        told = [(each.path, each.types, each.shown, each.others) for each in doc.conflicts()]
        assert repr(sorted_(told)) == repr(sorted_(conflicts_of(seen)))
        alive = survive(seen)
        for kind, path in {(each.kind, each.path): None for each in seen if each.kind in ("list", "text")}:
            every = about(seen, kind, path)
            self._require_cursors(doc, kind, path, layout(every, [each for each in alive if each in every]))

    def _require_cursors(self, doc: Document, kind: str, path: tuple[str, ...], elements: list[Any]) -> None:
        from crdt import List, Text

        handle = (List if kind == "list" else Text)(doc, path)
        if doc.find(path, handle._store) is None:
            assert not any(shows for _, shows in elements)
            return
        index = 0
        for name, shows in elements:
            assert Cursor(handle, name).index == index, f"{name} of {path}"
            if shows:
                assert handle.cursor(index).name == name
            index += shows
        assert len(handle) == index

    def settle(self) -> None:
        """All that can still be heard is heard, by repair alone. All are then the same, as the laws say."""
        for doc in self.docs:
            self.require_defined(doc)
        require_join_laws(*(self.docs[at % len(self.docs)].snapshot() for at in range(3)))
        self._repair_all()
        require_same(self.docs)
        for to, parcel in self.flying:  # some are from the lost end of a log whose writer came back old
            self._take(to, parcel)
        self._repair_all()
        for to, parcel in self.flying:
            assert self._take(to, parcel) == [], "a repeat that does something"
        require_same([*self.docs, Document.load(self.docs[0].snapshot(), actor="late")])
        self.require_defined(self.docs[0])
        for doc in self.docs:
            require_sound(doc)

    def _take(self, to: int, parcel: Any) -> Any:
        doc = self.docs[to]
        return doc.join(parcel) if isinstance(parcel, bytes) else doc.apply(opened(*parcel))

    def _repair_all(self) -> None:
        for _ in range(2 * len(self.docs)):
            for one in self.docs:
                for other in self.docs:
                    if one is not other:
                        repair(one, other, self._rng)


Frame = tuple[str, int, int, bytes, int]


def framed(changes: list[Change]) -> Frame:
    """Changes of one author that follow each other, as the body of a frame."""
    body = bytes((0x90 | len(changes),)) + b"".join(each.item() for each in changes)
    return changes[0].actor, changes[0].seq, changes[0].hlc, body, len(changes)


def opened(actor: str, seq: int, hlc: int, body: bytes, count: int) -> list[Change]:
    return Change.from_items(actor, seq, hlc, body, count)


def repair(one: Document, other: Document, rng: random.Random) -> None:
    """``one`` says what it has; ``other`` sends what is lacking, in a bad order, or all there is."""
    try:
        lacking = other.changes_since(VectorClock(dict(one.clock)))
    except HistoryCut:
        one.join(other.snapshot())
        return
    rng.shuffle(lacking)
    one.apply([Change.decode(each.encode()) for each in lacking])


def sorted_(value: Any) -> Any:
    """The same whatever the order of keys; ``repr`` of it still tells 1 from True."""
    if isinstance(value, dict):
        return [(key, sorted_(value[key])) for key in sorted(value)]
    return [sorted_(each) for each in value] if isinstance(value, list | tuple) else value
