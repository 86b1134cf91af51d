"""Real editing sessions (github.com/josephg/editing-traces), replayed one transaction at a time, bytes out, by ours,
pycrdt and loro: by one writer, and by several who take in each other's updates as they did then."""

from __future__ import annotations

import gzip
import json
import os
import sys
from pathlib import Path
from typing import Any

from bench.libraries import WALL_MS, Run, Spent, loro, pycrdt, spent
from crdt import Change, Document

SEQUENTIAL = ("sveltecomponent", "json-crdt-patch", "rustcode", "seph-blog1_ascii")
CONCURRENT = ("friendsforever", "clownschool")
FOLDER = Path(os.environ.get("GOSSAMER_TRACES", Path(__file__).parents[2] / "shared" / "data" / "editing-traces"))


def trace(name: str) -> dict[str, Any]:
    """Raises ``FileNotFoundError`` where the traces are not."""
    with gzip.open(FOLDER / f"{name}.json.gz") as file:
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


def sides(replay: Any, read: dict[str, Any]) -> dict[str, Run]:
    """Each side that is installed."""
    found: dict[str, Run] = {"gossamer": lambda: replay(Ours, read)}
    if pycrdt is not None:
        found["pycrdt"] = lambda: replay(Yrs, read)
    if loro is not None:
        found["loro"] = lambda: replay(Rust, read)
    return found


def alone(side: Any, read: dict[str, Any]) -> Spent:
    """One writes all of it, another one takes it in."""
    writer, reader = side("a"), side("b")
    if read["startContent"]:
        writer.edit([(0, 0, read["startContent"])])
    edits = [txn["patches"] for txn in read["txns"]]

    def local() -> None:
        for each in edits:
            writer.edit(each)

    def remote() -> None:
        for each in writer.made:
            reader.take(each)

    seconds = spent(local), spent(remote)
    for each in (writer, reader):
        assert content(each) == read["endContent"]
    return Spent(*seconds, sum(map(len, writer.made)) / len(edits))


def content(side: Any) -> str:
    return str(side) if isinstance(side, Rust) else str(side.text)


def schedule(txns: list[dict[str, Any]]) -> list[tuple[int, int, list[int]]]:
    """For each transaction its agent, and the others' transactions that agent has to take in before."""
    seen: list[dict[int, int]] = []  # by transaction: how many of each agent's it follows
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
    return out


def together(side: Any, read: dict[str, Any]) -> Spent:
    """Each writes its own part after exactly what it had seen; all replicas in one process."""
    txns = read["txns"]
    plan = schedule(txns)
    replicas = {agent: side(chr(97 + agent)) for agent in sorted({txn["agent"] for txn in txns})}
    made: list[list[bytes]] = []

    def work() -> None:
        taken = dict.fromkeys(replicas, 0)
        for at, agent, needed in plan:
            me = replicas[agent]
            for each in needed:
                for update in made[each]:
                    me.take(update)
            me.edit(txns[at]["patches"])
            made.append(me.made[taken[agent] :])
            taken[agent] = len(me.made)

    live = spent(work)
    for agent, me in replicas.items():
        delivered = {each for at, who, needed in plan if who == agent for each in (*needed, at)}
        for at in range(len(txns)):
            if at not in delivered:
                for update in made[at]:
                    me.take(update)
    ends = {content(me) for me in replicas.values()}
    assert len(ends) == 1, "replicas that do not agree"
    if ends != {read["endContent"]}:  # indices of the trace then meant another order: not an error, but worth a look
        print(f"{side.__name__}: all replicas agree, on another text than the trace ends with", file=sys.stderr)
    return Spent(live, live, sum(map(len, (u for each in made for u in each))) / len(txns))
