"""Documents beside pycrdt and loro, and beside what is promised of them.

    python -m bench.crdt [rates|traces|together|states]… [--json]

One table: what was seen, how many times longer pycrdt and loro took for the same, what must hold and what is aimed at,
and whether it held. Ratios can be trusted on a busy machine, figures by themselves only on a quiet one. Where something
did not hold, a note says where our time went. A library that is not installed is left out. Traces of real editing are
read from ``GOSSAMER_TRACES`` (see tests/crdt/traces/README.md), else from ``../shared/data/editing-traces``.
"""

from __future__ import annotations

import cProfile
import json
import os
import platform
import pstats
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from bench import libraries
from bench.editing import CONCURRENT, FOLDER, SEQUENTIAL, Ours, alone, schedule, sides, together, trace
from bench.libraries import ACTOR, OPERATIONS, ROUNDS, SOMEWHERE, WALL_MS, WORK, Run, in_turns, runs, spent
from crdt import Document

__all__ = ["Ours", "run", "schedule"]

LOCAL_MIN, REMOTE_MIN = 200_000, 400_000  # operations a second, on a quiet machine
PARTS = ("rates", "traces", "together", "states")


@dataclass
class Figure:
    """One line. ``ratio``: their time to ours, by name. ``must`` and ``aim`` are words; ``held``: whether must did."""

    what: str
    seen: str
    must: str = ""
    aim: str = ""
    held: bool | None = None
    ratio: dict[str, float] | None = None
    note: str = ""


def rates() -> Iterator[Figure]:
    """One operation a transaction."""
    for work in WORK:
        sides = runs(work)
        best = in_turns(sides)
        mine = best["gossamer"]
        is_bound = not work.name.startswith("text")
        times, aimed = (2.0, "3x") if work.name == "counter" else (1.0, "1.5x")
        for way, bound in (("local", LOCAL_MIN), ("remote", REMOTE_MIN)):
            spent_here = getattr(mine, way)
            rate = OPERATIONS / spent_here
            ratio = {who: getattr(each, way) / spent_here for who, each in best.items() if who != "gossamer"}
            held = None
            if is_bound:
                held = rate >= bound and ratio.get("pycrdt", times) >= times
            yield Figure(
                f"{work.name}, {way}", f"{rate:,.0f}/s, {mine.size:.0f} B" if way == "local" else f"{rate:,.0f}/s",
                f"{times:.0f}x, {bound:,}/s" if is_bound else "", aimed if is_bound else "", held, ratio,
                "" if held is not False else profile(sides["gossamer"], way == "remote"),
            )  # fmt: skip
        rate = OPERATIONS / mine.framed
        held = rate >= REMOTE_MIN if is_bound else None
        yield Figure(f"{work.name}, frames of 256", f"{rate:,.0f}/s", f"{REMOTE_MIN:,}/s" if is_bound else "", "", held)


def traces(names: tuple[str, ...], replay: Any) -> Iterator[Figure]:
    """Real editing sessions."""
    is_live = replay is together
    for name in names:
        try:
            read = trace(name)
        except FileNotFoundError:
            yield Figure(f"trace {name}", f"not in {FOLDER}: set GOSSAMER_TRACES")
            continue
        both = sides(replay, read)
        best = in_turns(both)
        mine = best["gossamer"]
        for way in ("live",) if is_live else ("local", "remote"):
            field = "local" if is_live else way
            seconds = getattr(mine, field)
            ratio = {who: getattr(each, field) / seconds for who, each in best.items() if who != "gossamer"}
            times = 0.5 if is_live else 1.0
            held = ratio["pycrdt"] >= times if "pycrdt" in ratio and way != "remote" else None
            must, aim = "" if way == "remote" else f"{times:g}x", "2x" if way == "local" else ""
            yield Figure(
                f"trace {name}, {way}", f"{seconds:.3f} s, {mine.size:.0f} B", must, aim,
                held, ratio, "" if held is not False else profile(both["gossamer"], way == "remote"),
            )  # fmt: skip


def states() -> Iterator[Figure]:
    """Whole states, and how they grow."""
    tracemalloc.start()
    appends()
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    seconds = min(spent(appends) for _ in range(ROUNDS))
    yield Figure("100,000 appends to a text in one transaction", f"{seconds:.2f} s, {peak:.0f} MB", "1 s, 100 MB",
                 held=seconds < 1 and peak < 100)  # fmt: skip

    sizes: list[int] = []
    doc = Document(ACTOR, lambda: WALL_MS, lambda change: sizes.append(change.size), keep_history=False)
    for at in range(0, 6400, 64):
        with doc.transaction():
            for each in range(at, at + 64):
                doc.set("s").add(f"k{each:05}")
    size = sum(sizes) / 6400
    yield Figure("set add, 64 a transaction", f"{size:.1f} B an operation", "9.0 B: payload (7) + 2", held=size <= 9)

    one, other, snapshot = differing()
    clocks = other.clock
    changes = min(spent(lambda: Document("c").apply(one.changes_since(clocks))) for _ in range(ROUNDS))
    changes = min(changes, spent(lambda: other.apply(one.changes_since(other.clock))))
    assert one.digest() == other.digest()
    yield Figure("two sets of 100,000 that differ by 100: by changes", f"{changes * 1e3:.1f} ms", "5 ms",
                 held=changes <= 0.005)  # fmt: skip
    joins = []
    for _ in range(ROUNDS):
        twin = Document.load(other_at(clocks, one), actor="c")
        joins.append(spent(lambda twin=twin: twin.join(snapshot)))  # type: ignore[misc]
        assert twin.digest() == one.digest()
    yield Figure("the same by snapshot", f"{min(joins) * 1e3:.0f} ms", "100 ms", held=min(joins) <= 0.1)

    for kind in ("set", "list", "text, typed on", "text, all over"):
        tracemalloc.start()
        doc = Document("a", keep_history=False)
        fill(doc, kind)
        used = tracemalloc.get_traced_memory()[0] / 50_000
        tracemalloc.stop()
        raw = doc.snapshot()

        def load(raw: bytes = raw) -> Any:
            return Document.load(raw, actor="b")

        seconds = min(spent(load) for _ in range(ROUNDS))
        yield Figure(f"{kind}: memory", f"{used:.0f} B an element", "250 B", held=used <= 250)
        rate = 50_000 / seconds
        yield Figure(f"{kind}: load, {len(raw) / 50_000:.1f} B an element", f"{rate:,.0f}/s", "500,000/s", "",
                     rate >= 500_000, note="" if rate >= 500_000 else profile(load))  # fmt: skip
    sizes_by_turn, memory_by_turn = churn()
    growth, weight = sizes_by_turn[200] / sizes_by_turn[10], memory_by_turn[200] / memory_by_turn[10]
    yield Figure("churn over the same keys: 200 rounds to 10", f"snapshot {growth:.2f}x, memory {weight:.2f}x", "1.2x",
                 held=growth <= 1.2 and weight <= 1.2)  # fmt: skip


def appends() -> None:
    doc = Document(ACTOR, lambda: WALL_MS, keep_history=False)
    text = doc.text("t")
    with doc.transaction():
        for _ in range(100_000):
            text.append("a")


def differing() -> tuple[Document, Document, bytes]:
    """Two documents, one of which has 100 elements more, and its snapshot."""
    one, other = Document("a"), Document("b")
    for at in range(0, 100_000, 4000):
        with one.transaction():
            for each in range(at, at + 4000):
                one.set("s").add(f"key{each}")
    other.apply(one.changes_since({}))
    for at in range(100):
        one.set("s").add(f"new{at}")
    return one, other, one.snapshot()


def other_at(clock: Any, one: Document) -> bytes:
    """The snapshot of what ``one`` was at ``clock``."""
    doc = Document("x")
    doc.apply([each for each in one.changes_since({}) if each.last <= clock.get(each.actor)])
    return doc.snapshot()


def fill(doc: Document, kind: str) -> None:
    if kind == "set":
        for at in range(50_000):
            doc.set("s").add(f"key{at}")
    elif kind == "list":
        for at in range(50_000):
            doc.list("l").append(at)
    elif kind == "text, typed on":
        for at in range(50_000):
            doc.text("t").insert(at, "x")
    else:
        for at in range(50_000):
            doc.text("t").insert(SOMEWHERE[at], "x")


def churn() -> tuple[dict[int, int], dict[int, int]]:
    """Bytes of a snapshot and of memory after so many rounds of writes and removals."""
    tracemalloc.start()
    doc = Document("a", keep_history=False)
    sizes, used = {}, {}
    for turn in range(1, 201):
        for key in range(50):
            doc.map("m")[f"k{key}"] = turn
            doc.set("s").add(f"k{key}")
            doc.counter(f"c{key}").increment()
            doc.list("l").append(key)
            doc.text("t").append("word ")
        for key in range(50):
            doc.map("m").delete(f"k{key}")
            doc.set("s").discard(f"k{key}")
        doc.list("l").__delitem__(slice(0, 50))
        doc.text("t").delete(0, 250)
        if turn in (10, 200):
            sizes[turn] = len(doc.snapshot())
            used[turn] = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return sizes, used


def profile(work: Run | Callable[[], Any], stage: int | None = None, rows: int = 5) -> str:
    """Where the time of ``work`` goes: the functions that take most by themselves, and their part of it. ``stage``:
    look only at what is measured so many measurements in."""
    profiler = cProfile.Profile()
    if stage is None:
        profiler.runcall(work)
    else:
        libraries.spies = iter((*[None] * stage, profiler))
        work()
    timed: dict[Any, Any] = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    whole = sum(each[2] for each in timed.values())
    top = sorted(timed.items(), key=lambda each: -each[1][2])[:rows]
    return ", ".join(f"{name.split(' of ')[0].strip('<>')} {own / whole:.0%}" for (_, _, name), (_, _, own, *_) in top)


def told(figure: Figure) -> str:
    """One line of the table."""
    ratio = figure.ratio or {}
    beside = " ".join(f"{ratio[who]:6.2f}x" if who in ratio else " " * 7 for who in ("pycrdt", "loro"))
    held = {True: "yes", False: "NO", None: ""}[figure.held]
    line = f"{figure.what:50} {figure.seen:>24} {beside}  {figure.must:14} {figure.aim:5} {held}".rstrip()
    return line + (f"\n{'':6}where the time goes: {figure.note}" if figure.note else "")


def run(arguments: list[str]) -> None:
    """Print it all, or only the named parts; with ``--json`` one object a line."""
    is_json = "--json" in arguments
    parts = [each for each in arguments if each != "--json"] or list(PARTS)
    unknown = [each for each in parts if each not in PARTS]
    if unknown:
        raise SystemExit(f"no part {unknown[0]!r}: there are {', '.join(PARTS)}")
    made: dict[str, Callable[[], Iterator[Figure]]] = {
        "rates": rates,
        "traces": lambda: traces(SEQUENTIAL, alone),
        "together": lambda: traces(CONCURRENT, together),
        "states": states,
    }
    if not is_json:
        print(f"CPython {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; "
              f"best of {ROUNDS}; their time to ours: above 1x ours is the faster")  # fmt: skip
        print(f"{'':50} {'seen':>24} {'pycrdt':>7} {'loro':>7}  {'must':14} {'aim':5} held")
    for part in parts:
        for figure in made[part]():
            print(json.dumps(asdict(figure)) if is_json else told(figure), flush=True)


if __name__ == "__main__":
    run(sys.argv[1:])
