"""Proof that the simulator bites: small deliberate breakages of our own protocols, each caught by a named story.

``python -m tests.sim.mutants`` breaks the real code at run time, one way after the other, and counts the seeds until a
story fails for a reason of the world: a law that does not hold, a deadline missed. An error in the breakage itself
(``TypeError`` and kin) is no catch. ``python -m tests.sim.mutants NAME …`` runs some; exit code 1: one lives.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from crdt import UnknownOperation, causal, sets
from crdt.bounded import Bounded, BoundedStore
from crdt.clock import INDEX_MASK
from crdt.counter import CounterStore
from crdt.document import Document
from crdt.register import RegisterStore, Write
from mesh import runtime
from mesh.messages import Graft, KindUnknown, Want
from mesh.protocol import effects as do
from mesh.protocol.antientropy import AntiEntropy
from mesh.protocol.logs import Logs
from mesh.protocol.plumtree import Plumtree
from mesh.protocol.roster import Roster
from mesh.protocol.stack import Stack
from mesh.protocol.swim import Swim
from mesh.runtime import Runtime
from mesh.state import folder, folding, intake, replica
from mesh.state.forks import Forks
from mesh.state.replica import Replica
from mesh.state.reports import Reports
from mesh.state.roll import Roll
from mesh.state.writer import Writer
from sim.scenario import Outcome, find
from transport.errors import PeerFault
from transport.lanes import Lanes

Breakage = Callable[[], Iterator[None]]
BUGS_OF_ITS_OWN = (TypeError, AttributeError, NameError, KeyError, IndexError, ImportError, UnboundLocalError)


@dataclass(frozen=True)
class Mutant:
    """One breakage, the story that catches it, and within how many seeds (from 0 on). ``by``: what the error has to
    say, where it is there to prove that one checker bites."""

    name: str
    story: str
    within: int
    breaks: Callable[[], Any]
    by: str = ""

    @property
    def moral(self) -> str:
        return (self.breaks.__doc__ or "").strip()

    def hunt(self) -> tuple[int, Outcome | None]:
        """Seeds used, and the outcome that caught it; ``None`` when it lives."""
        story = find(self.story)
        for seed in range(self.within):
            with self.breaks():
                outcome = story.tell(seed)
            if outcome.error is not None:
                if isinstance(_root(outcome.error), BUGS_OF_ITS_OWN):
                    raise AssertionError(f"{self.name} is itself broken") from outcome.error
                if re.search(self.by, f"{type(outcome.error).__name__}: {outcome.error}"):
                    return seed + 1, outcome
        return self.within, None


def _root(error: BaseException) -> BaseException:
    return error if error.__cause__ is None else _root(error.__cause__)


MUTANTS: dict[str, Mutant] = {}


def mutant(story: str, within: int, by: str = "") -> Callable[[Breakage], Breakage]:
    """Make a generator that breaks something while it is suspended a mutant, called as the function is."""

    def wrap(breakage: Breakage) -> Breakage:
        name = breakage.__name__.replace("_", "-")
        MUTANTS[name] = Mutant(name, story, within, contextmanager(breakage), by)
        return breakage

    return wrap


# -- values ------------------------------------------------------------------------------------------------------------


@mutant("chaos", 5)
def tie_by_arrival() -> Iterator[None]:
    """Of concurrent writes a register shows the one that arrived last."""
    ranked = lambda self, names: list(dict.fromkeys(each[2] for each in reversed(self.writes)))  # noqa: E731
    with patch.object(RegisterStore, "ranked", ranked):
        yield


@mutant("clock-strobe", 5)
def last_writer_by_stamp_alone() -> Iterator[None]:
    """A write does not beat what its author saw: the greatest stamp does."""

    def perform(self: Any, store: Any, dot: int, refs: Any, stamp: int) -> None:
        index = dot & INDEX_MASK
        others = [each for each in store.writes if each[0] & INDEX_MASK != index]
        own = [each for each in store.writes if each[0] & INDEX_MASK == index]
        store.writes = (max([*others, *own, (dot, stamp, self.value)], key=lambda each: each[1]),)

    with patch.object(Write, "perform", perform):
        yield


@mutant("chaos", 5)
def removal_ignores_what_it_saw() -> Iterator[None]:
    """A removal takes away also what was added beside it."""
    with patch.object(sets, "survivors", lambda cell, by, seen: None):
        yield


@mutant("folded-backup", 3)
def counter_joins_by_sum() -> Iterator[None]:
    """The join of two counters adds their totals, instead of taking the later one."""

    def join(self: Any, other: Any, mine: Any, theirs: Any) -> None:
        for index, last in other.lasts.items():
            self.totals[index] = self.totals.get(index, 0) + other.totals[index]
            self.lasts[index] = max(last, self.lasts.get(index, 0))
        self.recount()

    with patch.object(CounterStore, "join", join):
        yield


@mutant("folded-backup", 5)
def join_by_union() -> Iterator[None]:
    """A join keeps every dot of either side, also what the other one had seen and removed."""

    def union(mine: Any, theirs: Any, my_clock: Any, their_clock: Any) -> list[int]:
        return [*mine, *(dot for dot in theirs if dot not in mine)]

    with patch.object(causal, "join_dots", union):
        yield


@mutant("chaos", 3)
def torn_transaction() -> Iterator[None]:
    """Of another's transaction only the first operation is performed."""
    admit = Document._admit

    def half(self: Any, change: Any, index: int, out: Any) -> None:
        ops, change.ops = change.ops, change.ops[:1]
        admit(self, change, index, out)
        change.ops = ops

    with patch.object(Document, "_admit", half):
        yield


@mutant("chaos", 10)
def own_stamps_go_back() -> Iterator[None]:
    """A node that comes up with its clock behind forgets how far its own stamps had gone."""
    follow = Document._admit

    def admit(self: Any, change: Any, index: int, out: Any) -> None:
        before = self.hlc.now
        follow(self, change, index, out)
        if index == self.index:
            self.hlc.now = before

    with patch.object(Document, "_admit", admit):
        yield


# -- order and memory --------------------------------------------------------------------------------------------------


@mutant("replay-storm", 2)
def missing_dedup() -> Iterator[None]:
    """A frame that comes again is applied again."""
    take = Replica._take

    def again(self: Any, frame: Any, peer: Any) -> None:
        log = self.logs.get(frame.origin)
        if peer is not None and log is not None and frame.last <= log.head.seq:
            for change in folding.changes_of(frame, log.actor, self.forks.at):
                index = self.doc.actors.find(change.actor)
                self.doc._admit(change, index, None)
                self.doc._clock[index] -= change.count
            return
        take(self, frame, peer)

    with patch.object(Replica, "_take", again), patch.object(Replica, "holds", lambda self, frame: None):
        yield


@mutant("chaos", 10)
def causal_check_off() -> Iterator[None]:
    """A change is applied before what it rests on."""
    off = lambda *args: None  # noqa: E731
    with patch.object(replica, "missing_cause", off), patch.object(Document, "_missing", off):
        yield


@mutant("torn-journal", 5)
def acknowledge_before_persist() -> Iterator[None]:
    """``flush`` returns while the commit is under way."""

    async def flush(self: Any) -> None:
        self.seal()

    with patch.object(Writer, "flush", flush):
        yield


@mutant("chaos-folding", 5, by="came back without")
def gossip_before_journal() -> Iterator[None]:
    """A node's own frames leave it before they are on its disk."""
    seal = Writer.seal

    def at_once(self: Any) -> None:
        before = self.own.head
        seal(self)
        log = self.own
        if log.head != before:
            frame = next(reversed(log.unsaved.values()))
            self._room.feed(do.Held(log.slot, frame.first, log.head, None, len(frame.raw)))

    with (
        patch.object(Writer, "seal", at_once),
        patch.object(Replica, "servable", lambda self, log: log.head.seq),
        patch.object(Writer, "seen", lambda self, origin, seq: None),
    ):
        yield


@mutant("crash", 10)
def sequence_used_again() -> Iterator[None]:
    """After a crash a node goes on one frame behind the end of its log, and does not listen to who knows better."""
    read = Replica._read_frames

    def short(self: Any) -> Any:
        chained, loose = read(self)
        for origin, frames in chained.items():
            if origin.node == self.room.identity.id and len(frames) > 1:
                frames.pop()
        return chained, loose

    with (
        patch.object(Replica, "_read_frames", short),
        patch.object(Writer, "seen", lambda self, origin, seq: None),
    ):
        yield


@mutant("full-disk", 3)
def lost_writes_stay_shown() -> Iterator[None]:
    """What the disk refused is not taken back."""
    with patch.object(Writer, "_on_own_lost", lambda self, fault: None):
        yield


# -- repair and broadcast ----------------------------------------------------------------------------------------------


@mutant("rolling-restart", 2)
def anti_entropy_not_armed_after_restart() -> Iterator[None]:
    """A node that was started a second time neither compares vectors nor looks after what it lacks."""
    init, handle = Stack.__init__, AntiEntropy.handle

    def marked(self: Any, *args: Any, incarnation: int = 1, **options: Any) -> None:
        init(self, *args, incarnation=incarnation, **options)
        self.repair.is_dead = incarnation > 1

    def deaf(self: Any, event: Any, now: int) -> Any:
        if self.is_dead and not isinstance(event, do.LinkClosed | do.Held | do.Forked | do.Leave):
            return []
        return handle(self, event, now)

    with patch.object(Stack, "__init__", marked), patch.object(AntiEntropy, "handle", deaf):
        yield


@mutant("detour", 3)
def graft_ignored() -> Iterator[None]:
    """Whoever asks for a frame he was only told of is not answered."""
    on_message = Plumtree._on_message

    def deaf(self: Any, peer: Any, message: Any, now: int) -> Any:
        return [] if isinstance(message, Graft) else on_message(self, peer, message, now)

    with patch.object(Plumtree, "_on_message", deaf):
        yield


@mutant("split", 2)
def want_ignored() -> Iterator[None]:
    """Whoever asks for the frames it lacks is not answered."""
    on_message = Plumtree._on_message

    def deaf(self: Any, peer: Any, message: Any, now: int) -> Any:
        return [] if isinstance(message, Want) else on_message(self, peer, message, now)

    with patch.object(Plumtree, "_on_message", deaf):
        yield


@mutant("detour", 3)
def nobody_is_told_of_frames() -> Iterator[None]:
    """Lazy peers hear nothing: no ihave is ever sent."""
    with patch.object(Plumtree, "_note", lambda self, peers, slot, now: []):
        yield


@mutant("withholding", 10)
def liar_asked_for_ever() -> Iterator[None]:
    """A holder that was passed over is not put at the end of the line."""

    def pump(self: Any, now: int) -> list[Any]:
        out: list[Any] = []
        for slot in list(self._queue):
            tries = self._queue.pop(slot)
            holders = sorted(self._logs.holders(slot))
            if slot in self._logs.asked or not holders:
                continue
            peer, upto = max(holders)
            self._logs.ask(peer, slot, upto, now, tries)
            out.append(do.Send(peer, Want(slot.stream, slot.origin, self._logs.head(slot).seq)))
        return out + self._look_after()  # type: ignore[no-any-return]

    with patch.object(AntiEntropy, "_pump", pump):
        yield


@mutant("overload", 1)
def credit_never_returned() -> Iterator[None]:
    """What was read is never given back to the sender as credit."""
    with patch.object(Lanes, "consumed", lambda self, lane, size: False):
        yield


@mutant("thundering-heal", 2)
def asks_never_settle() -> Iterator[None]:
    """What was asked for counts as asked for when it has come."""
    with patch.object(Logs, "_settle", lambda self, slot, seq: None):
        yield


# -- trust -------------------------------------------------------------------------------------------------------------


@mutant("byzantine-relay", 3)
def unverified_relay() -> Iterator[None]:
    """What another node relays is taken in unchecked."""

    def trust(group: Any, mesh: Any, suite: Any) -> None:
        for pending in group:
            pending.is_genuine = True

    with patch.object(intake, "_check", trust):
        yield


@mutant("equivocation", 2)
def fork_not_judged() -> Iterator[None]:
    """Of two histories of one log each node keeps the one it heard first."""
    with patch.object(Forks, "prove", lambda self, log, seq, one, other: None):
        yield


@mutant("chaos", 10)
def forks_from_clocks() -> Iterator[None]:
    """An honest frame is refused when its stamp is from the future."""
    take = Replica._take

    def refuse(self: Any, frame: Any, peer: Any) -> None:
        ahead = (frame.hlc >> 16) - self._clock_ms()
        if peer is None or ahead < 60_000:
            take(self, frame, peer)

    with patch.object(Replica, "_take", refuse):
        yield


# -- folding -----------------------------------------------------------------------------------------------------------


@mutant("long-offline-writer", 2)
def fold_below_an_unstable_cut() -> Iterator[None]:
    """A node folds what it has on disk itself, whatever the others have."""

    def stable(self: Any, logs: Any) -> Any:
        return {log.slot.origin: log.saved for log in logs if log.saved.seq > log.floor.seq}

    with patch.object(Reports, "stable", stable):
        yield


@mutant("chaos-folding", 10)
def who_counts_is_forgotten() -> Iterator[None]:
    """A node that starts again counts nobody it has not heard of yet (the bug that ``check_floors`` found)."""
    with patch.object(Roll, "load", lambda self: None):
        yield


@mutant("late-joiner", 3)
def snapshot_adopted() -> Iterator[None]:
    """A snapshot takes the place of the document instead of being joined with it."""

    def adopt(self: Any, snapshot: bytes, *, events: bool = True) -> list[Any]:
        fresh = Document(self.actor, keep_history=False)
        join(fresh, snapshot, events=False)
        for name in ("_root", "_clock", "actors", "_news"):
            if hasattr(fresh, name):
                setattr(self, name, getattr(fresh, name))
        self.index, self._digest = fresh.index, None
        return []

    join = Document.join
    with (
        patch.object(Document, "join", adopt),
        patch.object(folding, "load", _loads(join)),
        patch.object(folder, "load", _loads(join)),
    ):
        yield


def _loads(join: Any) -> Any:
    def load(state: bytes, actor: str, clock_ms: Any = None, on_change: Any = None) -> Document:
        made = Document(actor, clock_ms, on_change, keep_history=False)
        if state:
            join(made, state, events=False)
        return made

    return load


# -- membership --------------------------------------------------------------------------------------------------------


@mutant("hiccup", 5)
def refutation_at_the_old_incarnation() -> Iterator[None]:
    """Who is doubted says so again, without raising its incarnation."""

    def refute(self: Any, incarnation: int, now: int) -> Any:
        return self.speak(self.incarnation, now)

    with patch.object(Roster, "_refute", refute):
        yield


# -- one for each checker: the law of its own has to say so ----------------------------------------------------------


@mutant("chaos", 3, by="are overdrawn")
def rights_spent_twice() -> Iterator[None]:
    """A bounded counter is taken from, whoever holds the rights."""
    with patch.object(Bounded, "_require", lambda self, amount: None):
        yield


@mutant("tickets", 3, by="are overdrawn")
def rights_handed_over_and_kept() -> Iterator[None]:
    """Who hands rights over spends them all the same, at home."""

    def rights(self: Any) -> dict[int, int]:
        return {index: own for index, (_, own, _) in self.entries.items()}

    with patch.object(BoundedStore, "rights", rights):
        yield


@mutant("calm", 1, by="until all had it")
def nothing_is_pushed() -> Iterator[None]:
    """A write waits until the next comparison finds it: nobody pushes."""
    with patch.object(Runtime, "_push", lambda self, held, peers: None):
        yield


@mutant("calm", 1, by=r"messages for \d+ writes")
def everybody_is_probed_all_the_time() -> Iterator[None]:
    """A neighbour that said nothing for 20 ms is probed, instead of after 400."""
    init = Swim.__init__

    def restless(self: Any, identity: Any, mesh: Any, config: Any, *args: Any, **options: Any) -> None:
        prober = replace(config.prober, quiet_ms=20)
        init(self, identity, mesh, replace(config, prober=prober), *args, **options)

    with patch.object(Swim, "__init__", restless):
        yield


@mutant("tickets", 5, by="belong to nobody")
def name_not_kept() -> Iterator[None]:
    """A log's name is on disk with its first frame only (the bug that ``tickets`` found)."""
    with patch.object(Writer, "keep_name", lambda self: None):
        yield


@mutant("chaos-folding", 10, by="no longer shows|came back without")
def snapshot_forgets() -> Iterator[None]:
    """A snapshot takes the place of the document: what only this node showed is gone. Reads are not monotonic."""
    yield from snapshot_adopted()


@mutant("version-mix", 1, by="links were made anew|connected did not hold")
def unknown_kinds_end_links() -> Iterator[None]:
    """A message of a kind that is not known counts as a broken rule."""
    decode = runtime.decode

    def strict(peer: Any, raw: bytes) -> Any:
        try:
            return decode(peer, raw)
        except KindUnknown:
            raise PeerFault(peer, "a link message must be known") from None

    with patch.object(runtime, "decode", strict):
        yield


@mutant("operation-of-tomorrow", 1, by="was taken in|did not say")
def unknown_operations_are_skipped() -> Iterator[None]:
    """A change that is not understood counts as seen, and its log goes on."""
    changes_of = replica.changes_of

    def lenient(frame: Any, actor: str, at: Any) -> Any:
        try:
            return changes_of(frame, actor, at)
        except UnknownOperation:
            return []

    with patch.object(replica, "changes_of", lenient):
        yield


@mutant("mdns-alone", 1, by="everybody sees everybody did not hold")
def hints_of_mdns_are_dropped() -> Iterator[None]:
    """What only zeroconf finds is not dialled."""
    hint = Runtime.hint

    def deaf(self: Any, heard: Any) -> None:
        if heard.source != "mdns":
            hint(self, heard)

    with patch.object(Runtime, "hint", deaf):
        yield


def main(names: list[str]) -> int:
    """Hunt these (none: all); how many lived."""
    logging.disable(logging.CRITICAL)
    lived = 0
    began = time.monotonic()
    for each in [MUTANTS[name] for name in names] or MUTANTS.values():
        try:
            seeds, outcome = each.hunt()
        except AssertionError as wrong:
            lived += 1
            print(f"BROKEN  {each.name}: {_root(wrong)!r}")
            continue
        if outcome is None:
            lived += 1
            print(f"LIVES   {each.name}: {each.story} held for {seeds} seeds")
        else:
            error = outcome.error
            print(f"caught  {each.name}: {each.story} --seed {outcome.seed}, seed {seeds} of {each.within}: "
                  f"{type(error).__name__}: {str(error)[:110]}", flush=True)  # fmt: skip
    print(f"{len(names) or len(MUTANTS)} mutants, {lived} lived, {time.monotonic() - began:.1f} s")
    return lived


if __name__ == "__main__":
    sys.exit(bool(main(sys.argv[1:])))
