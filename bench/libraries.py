"""The same work done by ours, pycrdt and loro: each commits one transaction an operation and emits its bytes, and a
second replica takes those bytes in, one update at a time. CPU time, sides in turns, the best of ``ROUNDS``."""

from __future__ import annotations

import gc
import os
import random
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from crdt import Change, Document

OPERATIONS = 20_000
FRAME = 256  # changes in one frame of the mesh
ROUNDS = int(os.environ.get("ROUNDS", "3"))
WALL_MS = 1_700_000_000_000
ACTOR = "a" * 52  # as long as the mesh's

_rng = random.Random(7)
SOMEWHERE = [_rng.randint(0, at) for at in range(50_000)]

pycrdt: Any
loro: Any
try:
    import pycrdt
except ImportError:
    pycrdt = None
try:
    import loro
except ImportError:
    loro = None


class Spent(NamedTuple):
    """Seconds to write, seconds to take in, bytes an operation; ``framed``: seconds to take in from frames."""

    local: float
    remote: float
    size: float
    framed: float = 0.0


Run = Callable[[], Spent]
Write = Callable[[Any, int], None]


class Work(NamedTuple):
    """One kind of operation, as each side says it: how to open the place, and what to do there."""

    name: str
    ours: tuple[Callable[[Document], Any], Write]
    pycrdt: tuple[str, Write]
    loro: tuple[str, Write]


WORK = (
    Work(
        "map put",
        (lambda doc: doc.map("x"), lambda m, at: m.__setitem__(f"k{at % 1000}", at)),
        ("Map", lambda m, at: m.__setitem__(f"k{at % 1000}", at)),
        ("map", lambda m, at: m.insert(f"k{at % 1000}", at)),
    ),
    Work(
        "set add",  # they have no set: a map put
        (lambda doc: doc.set("x"), lambda s, at: s.add(f"k{at}")),
        ("Map", lambda m, at: m.__setitem__(f"k{at}", True)),
        ("map", lambda m, at: m.insert(f"k{at}", True)),
    ),
    Work(
        "list append",
        (lambda doc: doc.list("x"), lambda s, at: s.append(at)),
        ("Array", lambda s, at: s.append(at)),
        ("list", lambda s, at: s.insert(at, at)),
    ),
    Work(
        "counter",  # pycrdt has none: a map put
        (lambda doc: doc.counter("x"), lambda c, at: c.increment(1)),
        ("Map", lambda m, at: m.__setitem__("n", at)),
        ("counter", lambda c, at: c.increment(1)),
    ),
    Work(
        "text, typed on",
        (lambda doc: doc.text("x"), lambda t, at: t.insert(at, "a")),
        ("Text", lambda t, at: t.insert(at, "a")),
        ("text", lambda t, at: t.insert(at, "a")),
    ),
    Work(
        "text, all over",
        (lambda doc: doc.text("x"), lambda t, at: t.insert(SOMEWHERE[at], "a")),
        ("Text", lambda t, at: t.insert(SOMEWHERE[at], "a")),
        ("text", lambda t, at: t.insert(SOMEWHERE[at], "a")),
    ),
)


def spent(work: Callable[[], Any]) -> float:
    """CPU seconds. What was made before is no garbage to look for."""
    gc.collect()
    gc.freeze()
    profiler = next(spies, None)
    if profiler is not None:
        profiler.enable()
    began = time.process_time()
    work()
    took = time.process_time() - began
    if profiler is not None:
        profiler.disable()
    gc.unfreeze()
    return took


spies: Iterator[Any] = iter(())  # for the next calls of ``spent``: who looks on, or nobody


def ours(work: Work, count: int = OPERATIONS) -> Spent:
    open_, write = work.ours
    made: list[bytes] = []

    def on_change(change: Change) -> None:
        made.append(change.encode())

    doc = Document(ACTOR, lambda: WALL_MS, on_change, keep_history=False)
    place = open_(doc)

    def local() -> None:
        for at in range(count):
            write(place, at)

    twin = Document("b", keep_history=False)

    def remote() -> None:
        for each in made:
            twin.apply([Change.decode(each)], events=False)

    seconds = spent(local), spent(remote)
    assert twin.digest() == doc.digest()
    changes = [Change.decode(each) for each in made]
    frames = []
    for at in range(0, count, FRAME):
        part = changes[at : at + FRAME]
        body = b"\xdc" + len(part).to_bytes(2, "big") + b"".join(each.item() for each in part)
        frames.append((part[0].seq, part[0].hlc, body, len(part)))
    other = Document("c", keep_history=False)

    def framed() -> None:
        for each in frames:
            other.apply(Change.from_items(ACTOR, *each), events=False)

    return Spent(*seconds, sum(map(len, made)) / count, spent(framed))


def with_pycrdt(work: Work, count: int = OPERATIONS) -> Spent:
    kind, write = work.pycrdt
    made: list[bytes] = []
    doc = pycrdt.Doc(client_id=1)
    place = doc.get("x", type=getattr(pycrdt, kind))
    watch = doc.observe(lambda event: made.append(event.update))

    def local() -> None:
        for at in range(count):
            with doc.transaction():
                write(place, at)

    seconds = spent(local)
    doc.unobserve(watch)
    twin = pycrdt.Doc(client_id=2)

    def remote() -> None:
        for each in made:
            twin.apply_update(each)

    return Spent(seconds, spent(remote), sum(map(len, made)) / count)


def with_loro(work: Work, count: int = OPERATIONS) -> Spent:
    kind, write = work.loro
    made: list[bytes] = []
    doc = loro.LoroDoc()
    place = getattr(doc, f"get_{kind}")("x")
    watch = doc.subscribe_local_update(lambda update: made.append(bytes(update)) or True)

    def local() -> None:
        for at in range(count):
            write(place, at)
            doc.commit()

    seconds = spent(local)
    del watch
    twin = loro.LoroDoc()

    def remote() -> None:
        for each in made:
            twin.import_(each)

    return Spent(seconds, spent(remote), sum(map(len, made)) / count)


def runs(work: Work) -> dict[str, Run]:
    """Each side that is installed."""
    found: dict[str, Run] = {"gossamer": lambda: ours(work)}
    if pycrdt is not None:
        found["pycrdt"] = lambda: with_pycrdt(work)
    if loro is not None:
        found["loro"] = lambda: with_loro(work)
    return found


def in_turns(sides: dict[str, Run]) -> dict[str, Spent]:
    """The least each side spent."""
    best: dict[str, Spent] = {}
    for _ in range(ROUNDS):
        for name, run in sides.items():
            figures = run()
            best[name] = Spent(*map(min, figures, best.get(name, figures)))
    return best
