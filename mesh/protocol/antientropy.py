"""Repair: whatever broadcast missed is found by comparing vectors, and fetched verbatim.

A 16-byte digest of the whole vector (sequences and chain heads) at every link-up and once a round with one random
neighbour. Unequal: the vector, or only its entries that changed since the last exchange with that peer (request
skipping, after ssb-ebt). Then the receiver asks for exactly what it lacks, each log from one neighbour at a time.

Equal sequences under different chain heads are two histories of one log. The frame that ends there is asked for
(``Want`` after the sequence before it), so that the state room sees both and can prove the equivocation. Where a
neighbour is ahead on another branch, the frame that follows does not fit the chain, which the state room sees too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TypeAlias, assert_never

from mesh.messages import Digest, Have, LinkMessage, Vector, Want
from mesh.protocol.effects import (
    Arriving,
    CancelTimer,
    Effect,
    Emit,
    Forked,
    Held,
    Leave,
    LinkClosed,
    LinkUp,
    LoopLate,
    Received,
    Send,
    SetTimer,
    Slot,
    Started,
    TimerFired,
)  # fmt: skip
from mesh.protocol.facts import Dropped
from mesh.protocol.logs import Logs
from transport.base import MILLISECOND, SECOND
from transport.identity import NodeId, Origin

Event: TypeAlias = Started | LinkUp | LinkClosed | Received | Arriving | LoopLate | Held | Forked | TimerFired | Leave

ROUND = ("repair", "round")
SWEEP = ("repair", "sweep")
SCAN_MAX = 1024  # queued logs looked at in one go: bounds the work a hostile vector can cause


@dataclass(frozen=True, slots=True, kw_only=True)
class AntiEntropyConfig:
    round_s: float = 5.0  # research 2.6: 5 to 10 s; idle cost 16 bytes
    entries_max: int = 1024  # of one vector message: about 100 KiB, so that probes are not long behind it
    asks_max: int = 256  # logs asked of one neighbour at a time; the others wait in our queue, not in its
    patience_rtts: int = 10  # guess: a neighbour that sends nothing at all for so long is passed over …
    patience_floor_ms: int = 500  # … but a busy one reads its disk first
    patience_doublings_max: int = 4  # nobody else has it: asked again after 0.5, 1, … 8 s
    sweep_ms: int = 250  # how often what was asked for is looked after
    claims_max: int = 8192  # logs a neighbour may name (``Logs``): more are told as dropped, and learnt later
    forks_max: int = 1024  # fork questions remembered, so that each is asked once

    def __post_init__(self) -> None:
        if self.round_s <= 0 or self.sweep_ms <= 0 or min(self.entries_max, self.asks_max, self.claims_max) < 1:
            raise ValueError(f"need positive intervals and bounds, got {self}")


class AntiEntropy:
    """Compares vectors and fetches what is missing.

    State, all gone with the link: how much of our vector each neighbour was told; and the queue of logs to ask for.
    """

    def __init__(
        self, config: AntiEntropyConfig, logs: Logs, rng: Random, *, rtt_ns: Callable[[NodeId], int]
    ) -> None:  # fmt: skip
        self._config, self._logs, self._rng, self._rtt_ns = config, logs, rng, rtt_ns
        self._told: dict[NodeId, int] = {}  # version of our vector the neighbour was told
        self._unequal: dict[NodeId, int] = {}  # rounds in a row that differed with nothing new to tell
        self._progress: dict[
            NodeId, int
        ] = {}  # when it last brought a frame, or one of its frames still waited to be applied
        self._queue: dict[Slot, int] = {}  # lacking and not asked for yet; vain tries so far
        self._forks: dict[tuple[NodeId, Slot], bytes] = {}
        self._sweeping = self._started = False

    def explain(self) -> dict[str, object]:
        """What is on its way, as plain values."""
        return {
            "logs": len(self._logs.heads),
            "lacking": len(self._logs.lacking),
            "asked": {str(peer): count for peer, count in sorted(self._logs.loads.items()) if count},
            "queued": len(self._queue),
        }

    def handle(self, event: Event, now: int) -> list[Effect]:
        match event:
            case Started():
                first, self._started = not self._started, True
                return [SetTimer(ROUND, self._until_round())] if first else []
            case LinkUp(peer):
                self._told[peer] = self._unequal[peer] = 0
                return [Send(peer, Digest(self._logs.digest(), ask=False))]
            case LinkClosed(peer):
                for table in (self._told, self._unequal, self._progress):
                    table.pop(peer, None)
                return self._requeue(now)
            case Received(peer, message):
                return self._on_message(peer, message, now) if peer in self._told else []
            case Arriving(peer):
                if peer in self._told:
                    self._progress[peer] = now
                return []
            case LoopLate():
                self._progress.update(dict.fromkeys(self._told, now))  # what they sent waits in our own queues
                return []
            case Held(slot, _, _, source, _):
                if source is not None and source in self._told:
                    self._progress[source] = now
                if slot in self._queue and slot not in self._logs.lacking:
                    del self._queue[slot]
                return self._pump(now) if self._queue else []
            case Forked(origin):
                self._queue = {slot: tries for slot, tries in self._queue.items() if slot.origin != origin}
                return []
            case TimerFired(("repair", "round")):
                return self._round()
            case TimerFired(("repair", "sweep")):
                return self._sweep(now)
            case TimerFired():
                return []
            case Leave():
                self._sweeping = False
                return [CancelTimer(ROUND), CancelTimer(SWEEP)]
            case _:
                assert_never(event)

    # -- comparing ---------------------------------------------------------------------------------------------------

    def _until_round(self) -> int:
        return int(self._config.round_s * self._rng.uniform(0.8, 1.2) * SECOND)

    def _round(self) -> list[Effect]:
        out: list[Effect] = [SetTimer(ROUND, self._until_round())]
        if self._logs.overflowed:
            out.append(Emit(Dropped("claims_max", self._logs.overflowed)))
            self._logs.overflowed = 0
        if self._told:
            out.append(Send(self._rng.choice(list(self._told)), Digest(self._logs.digest(), ask=False)))
        return out

    def _on_message(self, peer: NodeId, message: LinkMessage, now: int) -> list[Effect]:
        match message:
            case Digest(digest, ask):
                if digest == self._logs.digest():
                    self._told[peer], self._unequal[peer] = self._logs.version, 0
                    self._logs.agreed(peer)
                    return [Send(peer, Digest(digest, ask=False))] if ask else []
                return self._answer(peer)
            case Vector(entries):
                return self._on_vector(peer, entries, now)
            case _:
                return []

    def _answer(self, peer: NodeId) -> list[Effect]:
        """Digests differ: tell what changed since the last time; nothing did, twice in a row: tell everything."""
        if self._told[peer] == self._logs.version:
            self._unequal[peer] += 1
            if self._unequal[peer] > 1:
                self._told[peer] = self._unequal[peer] = 0
        return self._tell(peer) or [Send(peer, Vector([], whole=False))]  # at least: now you

    def _tell(self, peer: NodeId) -> list[Effect]:
        """The entries of our vector that ``peer`` was not told and is not known to hold."""
        told, self._told[peer] = self._told[peer], self._logs.version
        entries = [
            self._logs.have(slot)
            for slot in self._logs.changed_since(told)
            if told == 0 or self._logs.knows(peer, slot) < self._logs.heads[slot].seq
        ]
        size = self._config.entries_max
        whole = told == 0 and len(entries) <= size
        return [Send(peer, Vector(entries[at : at + size], whole=whole)) for at in range(0, len(entries), size)]

    def _on_vector(self, peer: NodeId, entries: list[Have], now: int) -> list[Effect]:
        out: list[Effect] = []
        for entry in entries:
            slot = Slot(entry.stream, Origin(entry.origin))
            head = self._logs.head(slot)
            if self._logs.claim(peer, slot, entry.seq):
                if slot not in self._logs.asked:
                    self._queue.setdefault(slot, 0)
            elif entry.seq == head.seq > 0 and entry.head != head.hash and slot.origin not in self._logs.forked:
                out += self._ask_fork(peer, slot, head.seq, entry.head)
        return out + self._pump(now) + self._tell(peer)

    def _ask_fork(self, peer: NodeId, slot: Slot, seq: int, other: bytes) -> list[Effect]:
        if self._forks.get((peer, slot)) == other:
            return []
        if len(self._forks) >= self._config.forks_max:
            del self._forks[next(iter(self._forks))]
        self._forks[peer, slot] = other
        return [Send(peer, Want(slot.stream, slot.origin, seq - 1))]

    # -- fetching ----------------------------------------------------------------------------------------------------

    def _pump(self, now: int) -> list[Effect]:
        """Ask for queued logs, each of the least loaded neighbour that has it, within each one's window."""
        out: list[Effect] = []
        for slot in list(_first(self._queue, SCAN_MAX)):
            tries = self._queue.pop(slot)
            if slot in self._logs.asked:
                continue
            holders = list(self._logs.holders(slot))
            if not holders:
                continue
            # Who was passed over is last in line, and stays there even if it is idle: else it is asked for ever.
            peer, upto = holders[0] if tries else min(holders, key=lambda each: self._logs.loads.get(each[0], 0))
            if self._logs.loads.get(peer, 0) >= self._config.asks_max:
                self._queue[slot] = tries  # at the end: others may be for a neighbour with room
                continue
            self._logs.ask(peer, slot, upto, now, tries)
            out.append(Send(peer, Want(slot.stream, slot.origin, self._logs.head(slot).seq)))
        return out + self._look_after()

    def _look_after(self) -> list[Effect]:
        if self._sweeping or not (self._logs.lacking or self._logs.asked):
            return []
        self._sweeping = True
        crowd = 1 + len(self._logs.lacking) // SCAN_MAX  # a liar's claims are looked after, but at leisure
        return [SetTimer(SWEEP, self._config.sweep_ms * crowd * MILLISECOND)]

    def watch(self) -> list[Effect]:
        """After broadcast claimed or asked for something: look after that too."""
        return self._look_after()

    def _patience(self, peer: NodeId, tries: int) -> int:
        base = max(self._config.patience_floor_ms * MILLISECOND, self._config.patience_rtts * self._rtt_ns(peer))
        return base << min(tries, self._config.patience_doublings_max)

    def _sweep(self, now: int) -> list[Effect]:
        """Pass over who did not deliver, and pick up what is lacking and not asked for."""
        self._sweeping = False
        for slot, ask in [*self._logs.asked.items()]:
            since = max(ask.asked_ns, self._progress.get(ask.peer, 0))  # serving others of our asks is progress
            if now - since <= self._patience(ask.peer, ask.tries):
                continue
            self._logs.unask(slot)
            claims = self._logs.lacking.get(slot)
            if claims and ask.peer in claims:
                claims[ask.peer] = claims.pop(ask.peer)  # last in line
            self._queue[slot] = ask.tries + 1
        return self._requeue(now)

    def _requeue(self, now: int) -> list[Effect]:
        for slot in self._logs.lacking:
            if slot not in self._logs.asked:
                self._queue.setdefault(slot, 0)
        return self._pump(now)


def _first(queue: dict[Slot, int], count: int) -> list[Slot]:
    return [slot for slot, _ in zip(queue, range(count), strict=False)]
