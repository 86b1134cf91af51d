"""Documents beside pycrdt and loro: rates, bytes, traces of real editing, growth.

Each side commits one transaction an operation and emits its bytes; remote takes those bytes in, one update at a time.
CPU time, sides alternated, best of ``ROUNDS``. Figures above 1.0x mean that ours is the faster. A library that is not
installed is left out. Traces are read from ``GOSSAMER_TRACES`` (see tests/crdt/traces/README.md).
"""

from __future__ import annotations

import gzip
import json
import os
import random
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from crdt import Change, Document

OPERATIONS = 20_000
ROUNDS = int(os.environ.get("ROUNDS", "3"))
WALL_MS = 1_700_000_000_000
ACTOR = "a" * 52
SEQUENTIAL = ("sveltecomponent", "json-crdt-patch", "rustcode", "seph-blog1_ascii")
CONCURRENT = ("friendsforever", "clownschool")

_rng = random.Random(7)
SOMEWHERE = [_rng.randint(0, at) for at in range(50_000)]

Run = Callable[[], tuple[float, float, float]]  # local and remote seconds, bytes

try:
    import pycrdt
except ImportError:
    pycrdt = None  # type: ignore[assignment]
try:
    import loro
except ImportError:
    loro = None


def spent(work: Callable[[], Any]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


# -- one operation a transaction --------------------------------------------------------------------------------------


def ours(
    open_: Callable[[Document], Any], write: Callable[[Any, int], None], count: int = OPERATIONS
) -> tuple[float, float, float]:
    made: list[bytes] = []
    doc = Document(ACTOR, lambda: WALL_MS, lambda change: made.append(change.encode()), keep_history=False)
    place = open_(doc)
    local = spent(lambda: [write(place, at) for at in range(count)])
    twin = Document("b", keep_history=False)
    remote = spent(lambda: [twin.apply([Change.decode(each)], events=False) for each in made])
    assert twin.digest() == doc.digest()
    return local, remote, sum(map(len, made)) / count


def framed(open_: Callable[[Document], Any], write: Callable[[Any, int], None]) -> float:
    """Seconds to take in the same from frames of 256, as the mesh does."""
    made: list[Change] = []
    doc = Document(ACTOR, lambda: WALL_MS, made.append, keep_history=False)
    place = open_(doc)
    for at in range(OPERATIONS):
        write(place, at)
    frames = []
    for at in range(0, OPERATIONS, 256):
        part = made[at : at + 256]
        body = b"\xdc" + len(part).to_bytes(2, "big") + b"".join(each.item() for each in part)
        frames.append((part[0].seq, part[0].hlc, body, len(part)))
    twin = Document("b", keep_history=False)
    return spent(lambda: [twin.apply(Change.from_items(ACTOR, *each), events=False) for each in frames])


def with_pycrdt(kind: str, write: Callable[[Any, int], None], count: int = OPERATIONS) -> tuple[float, float, float]:
    made: list[bytes] = []
    doc = pycrdt.Doc(client_id=1)
    place = doc.get("x", type=getattr(pycrdt, kind))
    watch = doc.observe(lambda event: made.append(event.update))

    def work() -> None:
        for at in range(count):
            with doc.transaction():
                write(place, at)

    local = spent(work)
    doc.unobserve(watch)
    twin = pycrdt.Doc(client_id=2)
    remote = spent(lambda: [twin.apply_update(each) for each in made])
    return local, remote, sum(map(len, made)) / count


def with_loro(kind: str, write: Callable[[Any, int], None], count: int = OPERATIONS) -> tuple[float, float, float]:
    made: list[bytes] = []
    doc = loro.LoroDoc()
    place = getattr(doc, f"get_{kind}")("x")
    watch = doc.subscribe_local_update(lambda update: made.append(bytes(update)) or True)

    def work() -> None:
        for at in range(count):
            write(place, at)
            doc.commit()

    local = spent(work)
    del watch
    twin = loro.LoroDoc()
    remote = spent(lambda: [twin.import_(each) for each in made])
    return local, remote, sum(map(len, made)) / count


def alternated(runs: dict[str, Run]) -> dict[str, tuple[float, ...]]:
    best: dict[str, tuple[float, ...]] = {}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            figures = run()
            best[name] = tuple(map(min, figures, best.get(name, figures)))
    return best


def rates() -> None:
    print(f"{'one operation a transaction':28} {'local/s':>10} {'remote/s':>10} {'bytes':>6}   its time to ours")
    table: dict[str, tuple[Any, Any, Any]] = {
        "map put": (
            (lambda doc: doc.map("x"), lambda m, at: m.__setitem__(f"k{at % 1000}", at)),
            ("Map", lambda m, at: m.__setitem__(f"k{at % 1000}", at)),
            ("map", lambda m, at: m.insert(f"k{at % 1000}", at)),
        ),
        "set add (there: map put)": (
            (lambda doc: doc.set("x"), lambda s, at: s.add(f"k{at}")),
            ("Map", lambda m, at: m.__setitem__(f"k{at}", True)),
            ("map", lambda m, at: m.insert(f"k{at}", True)),
        ),
        "list append": (
            (lambda doc: doc.list("x"), lambda s, at: s.append(at)),
            ("Array", lambda s, at: s.append(at)),
            ("list", lambda s, at: s.insert(at, at)),
        ),
        "counter (pycrdt: map put)": (
            (lambda doc: doc.counter("x"), lambda c, at: c.increment(1)),
            ("Map", lambda m, at: m.__setitem__("n", at)),
            ("counter", lambda c, at: c.increment(1)),
        ),
        "text, typed on": (
            (lambda doc: doc.text("x"), lambda t, at: t.insert(at, "a")),
            ("Text", lambda t, at: t.insert(at, "a")),
            ("text", lambda t, at: t.insert(at, "a")),
        ),
        "text, all over": (
            (lambda doc: doc.text("x"), lambda t, at: t.insert(SOMEWHERE[at], "a")),
            ("Text", lambda t, at: t.insert(SOMEWHERE[at], "a")),
            ("text", lambda t, at: t.insert(SOMEWHERE[at], "a")),
        ),
    }
    for name, (mine, yrs, rust) in table.items():
        runs: dict[str, Run] = {"gossamer": lambda mine=mine: ours(*mine)}  # type: ignore[misc]
        if pycrdt is not None:
            runs["pycrdt"] = lambda yrs=yrs: with_pycrdt(*yrs)  # type: ignore[misc]
        if loro is not None:
            runs["loro"] = lambda rust=rust: with_loro(*rust)  # type: ignore[misc]
        best = alternated(runs)
        in_frames = min(framed(*mine) for _ in range(ROUNDS))
        for who, (local, remote, size) in best.items():
            versus = f"{local / best['gossamer'][0]:.2f}x {remote / best['gossamer'][1]:.2f}x"
            if who == "gossamer":
                versus = f"from frames of 256: {OPERATIONS / in_frames:,.0f}/s"
            print(f"{name if who == 'gossamer' else '':28} {OPERATIONS / local:>10,.0f} {OPERATIONS / remote:>10,.0f} "
                  f"{size:>6.1f}   {who:8} {versus}")  # fmt: skip


# -- traces -----------------------------------------------------------------------------------------------------------


def trace(name: str) -> dict[str, Any]:
    folder = Path(os.environ.get("GOSSAMER_TRACES", "/work/shared/data/editing-traces"))
    with gzip.open(folder / f"{name}.json.gz") as file:
        read: dict[str, Any] = json.load(file)
    # pycrdt counts bytes: one byte a code point for all
    for txn in read["txns"]:
        txn["patches"] = [(at, gone, ascii_only(new)) for at, gone, new in txn["patches"]]
    read["startContent"], read["endContent"] = ascii_only(read.get("startContent", "")), ascii_only(read["endContent"])
    return read


def ascii_only(text: str) -> str:
    return text if text.isascii() else text.encode("ascii", "replace").decode()


class Ours:
    """One replica of a text."""

    def __init__(self, actor: str) -> None:
        self.made: list[bytes] = []
        self.doc = Document(actor * 52, lambda: WALL_MS, lambda c: self.made.append(c.encode()), keep_history=False)
        self.text = self.doc.text("t")

    def edit(self, patches: list[tuple[int, int, str]]) -> None:
        if len(patches) == 1 and not (patches[0][1] and patches[0][2]):
            at, gone, new = patches[0]
            if gone:
                self.text.delete(at, gone)
            else:
                self.text.insert(at, new)
            return
        with self.doc.transaction():
            for at, gone, new in patches:
                if gone:
                    self.text.delete(at, gone)
                if new:
                    self.text.insert(at, new)

    def take(self, update: bytes) -> None:
        self.doc.apply([Change.decode(update)], events=False)


class Yrs:
    def __init__(self, actor: str) -> None:
        self.made: list[bytes] = []
        self.doc = pycrdt.Doc(client_id=ord(actor))
        self.text = self.doc.get("t", type=pycrdt.Text)
        self.watch = self.doc.observe(lambda event: self.made.append(event.update))

    def edit(self, patches: list[tuple[int, int, str]]) -> None:
        with self.doc.transaction():
            for at, gone, new in patches:
                if gone:
                    del self.text[at : at + gone]
                if new:
                    self.text.insert(at, new)

    def take(self, update: bytes) -> None:
        self.doc.apply_update(update)


class Rust:
    def __init__(self, actor: str) -> None:
        self.made: list[bytes] = []
        self.doc = loro.LoroDoc()
        self.text = self.doc.get_text("t")
        self.watch = self.doc.subscribe_local_update(lambda update: self.made.append(bytes(update)) or True)

    def edit(self, patches: list[tuple[int, int, str]]) -> None:
        for at, gone, new in patches:
            if gone:
                self.text.delete(at, gone)
            if new:
                self.text.insert(at, new)
        self.doc.commit()

    def take(self, update: bytes) -> None:
        self.doc.import_(update)

    def __str__(self) -> str:
        return str(self.text.to_string())


def replayed(side: Any, read: dict[str, Any]) -> tuple[float, float, float]:
    writer, reader = side("a"), side("b")
    if read["startContent"]:
        writer.edit([(0, 0, read["startContent"])])
    edits = [txn["patches"] for txn in read["txns"]]
    local = spent(lambda: [writer.edit(each) for each in edits])
    remote = spent(lambda: [reader.take(each) for each in writer.made])
    for each in (writer, reader):
        assert content(each) == read["endContent"]
    return local, remote, sum(map(len, writer.made)) / len(edits)


def content(side: Any) -> str:
    return str(side) if isinstance(side, Rust) else str(side.text)


def schedule(txns: list[dict[str, Any]]) -> list[tuple[int, int, list[int]]]:
    """For each transaction its agent, and the others' transactions that agent has to take in before."""
    seen: list[dict[int, int]] = []  # by transaction: how many of each agent's it follows
    ranks: list[int] = []
    by_agent: dict[int, list[int]] = {}
    has: dict[int, dict[int, int]] = {}
    out = []
    for at, txn in enumerate(txns):
        agent = txn["agent"]
        clock: dict[int, int] = {}
        for parent in txn["parents"]:
            for other, count in seen[parent].items():
                clock[other] = max(clock.get(other, 0), count)
        mine = has.setdefault(agent, {})
        needed = []
        for other, count in clock.items():
            if other != agent:
                needed += by_agent[other][mine.get(other, 0) : count]
                mine[other] = max(mine.get(other, 0), count)
        out.append((at, agent, sorted(needed)))
        by_agent.setdefault(agent, []).append(at)
        clock[agent] = len(by_agent[agent])
        seen.append(clock)
        ranks.append(clock[agent])
    return out


def together(side: Any, read: dict[str, Any]) -> tuple[float, float, float]:
    txns = read["txns"]
    plan = schedule(txns)
    sides = {agent: side(chr(97 + agent)) for agent in sorted({txn["agent"] for txn in txns})}
    made: list[list[bytes]] = []

    def work() -> None:
        taken = dict.fromkeys(sides, 0)
        for at, agent, needed in plan:
            me = sides[agent]
            for each in needed:
                for update in made[each]:
                    me.take(update)
            me.edit(txns[at]["patches"])
            made.append(me.made[taken[agent] :])
            taken[agent] = len(me.made)

    live = spent(work)
    for agent, me in sides.items():
        delivered = {each for at, who, needed in plan if who == agent for each in (*needed, at)}
        for at in range(len(txns)):
            if at not in delivered:
                for update in made[at]:
                    me.take(update)
        assert content(me) == read["endContent"], "a replica that ends elsewhere"
    return live, live, sum(map(len, (u for each in made for u in each))) / len(txns)


def traces(names: tuple[str, ...], replay: Any, label: str) -> None:
    print(f"\n{label:28} {'seconds':>10} {'remote':>10} {'bytes':>6}   its time to ours")
    for name in names:
        try:
            read = trace(name)
        except FileNotFoundError:
            print(f"{name:28} not here")
            continue
        runs: dict[str, Run] = {"gossamer": lambda read=read: replay(Ours, read)}  # type: ignore[misc]
        if pycrdt is not None:
            runs["pycrdt"] = lambda read=read: replay(Yrs, read)  # type: ignore[misc]
        if loro is not None:
            runs["loro"] = lambda read=read: replay(Rust, read)  # type: ignore[misc]
        best = alternated(runs)
        for who, (local, remote, size) in best.items():
            mine = best["gossamer"]
            print(f"{name if who == 'gossamer' else '':28} {local:>10.3f} {remote:>10.3f} {size:>6.1f}   {who:8} "
                  f"{local / mine[0]:.2f}x {remote / mine[1]:.2f}x")  # fmt: skip


# -- whole states -----------------------------------------------------------------------------------------------------


def states() -> None:
    print("\nwhole states")
    doc = Document(ACTOR, lambda: WALL_MS, keep_history=False)
    text = doc.text("t")

    def append() -> None:
        with doc.transaction():
            for _ in range(100_000):
                text.append("a")

    print(f"  100,000 appends to a text in one transaction: {spent(append):.2f} s")
    sizes: list[int] = []
    doc = Document(ACTOR, lambda: WALL_MS, lambda change: sizes.append(change.size), keep_history=False)
    payload = 0
    for at in range(0, 6400, 64):
        with doc.transaction():
            for each in range(at, at + 64):
                doc.set("s").add(f"k{each:05}")
                payload += 7
    print(f"  set add, 64 a transaction: {sum(sizes) / 6400:.1f} B an operation, {payload / 6400:.1f} of them payload")

    one, other = Document("a"), Document("b")
    members = [f"key{at}" for at in range(100_000)]
    for at in range(0, len(members), 4000):
        with one.transaction():
            for each in members[at : at + 4000]:
                one.set("s").add(each)
    other.apply(one.changes_since({}))
    for at in range(100):
        one.set("s").add(f"new{at}")
    snapshot = one.snapshot()
    twin = Document.load(other.snapshot(), actor="c")
    print(f"  two sets of 100,000 that differ by 100: "
          f"by changes {spent(lambda: other.apply(one.changes_since(other.clock))) * 1e3:.1f} ms, "
          f"by snapshot {spent(lambda: twin.join(snapshot)) * 1e3:.0f} ms; "
          f"load {100_100 / spent(lambda: Document.load(snapshot, actor='d')):,.0f} elements/s")  # fmt: skip
    assert one.digest() == other.digest() == twin.digest()
    for kind in ("set", "list", "text"):
        tracemalloc.start()
        doc = Document("a", keep_history=False)
        fill(doc, kind)
        used = tracemalloc.get_traced_memory()[0] / 50_000
        tracemalloc.stop()
        raw = doc.snapshot()
        rate = 50_000 / spent(lambda raw=raw: Document.load(raw, actor="b"))  # type: ignore[misc]
        print(
            f"  {kind}: {used:.0f} B of memory an element, {len(raw) / 50_000:.1f} B in a snapshot, loads {rate:,.0f}/s"
        )
    churn()


def fill(doc: Document, kind: str) -> None:
    if kind == "set":
        for at in range(50_000):
            doc.set("s").add(f"key{at}")
    elif kind == "list":
        for at in range(50_000):
            doc.list("l").append(at)
    else:
        for at in range(50_000):
            doc.text("t").insert(SOMEWHERE[at], "x")


def churn() -> None:
    doc = Document("a", keep_history=False)
    sizes = {}
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
        sizes[turn] = len(doc.snapshot())
    print(f"  churn over the same keys: a snapshot of {sizes[10]} B after 10 rounds, {sizes[200]} B after 200")


def run(parts: list[str]) -> None:
    """Print it all, or only the named parts: rates, traces, together, states."""
    wanted = parts or ["rates", "traces", "together", "states"]
    if "rates" in wanted:
        rates()
    if "traces" in wanted:
        traces(SEQUENTIAL, replayed, "one writer, a transaction each")
    if "together" in wanted:
        traces(CONCURRENT, together, "live, every replica")
    if "states" in wanted:
        states()


if __name__ == "__main__":
    run(sys.argv[1:])
