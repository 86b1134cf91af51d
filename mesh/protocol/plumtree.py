"""Broadcast of signed frames: Plumtree (Leitão, Pereira, Rodrigues, SRDS 2007), with a tree for every origin.

An eager peer gets a frame at once, a lazy one is told by *ihave* and pulls (*graft*) what did not come by itself.
Beyond the paper: a message is known by (origin, stream, sequence), so *ihave* is one entry a log however many frames,
and nothing seen has to be remembered. While the mesh is small an origin's own frames are eager to all its links, one
hop and no duplicates, and relays are lazy but for peers that grafted: so a cut direct link is bypassed at once.

Nor does every lazy link carry *ihave*, which in a full mesh of n would be n^2 / 2 for one write. Links are in order and
lose frames only by ending, and an end is seen; what remains is a link that is cut in silence, or a pusher that died
half way. For that a node *listens* to ``tellers`` of its links, the next ones in the order of keys: everybody is told
by somebody, and a write costs n - 1 payloads and ``tellers`` * n small messages at most. Whoever lacks a link in a full
mesh listens to all, and compares what it holds when it begins to.

Who brought a frame first stays the parent in that origin's tree, so a fresh tree is one of shortest paths. It is kept
so (the paper's section 3.8, by time instead of hops): a peer whose *ihave* comes clearly before the payload, twice
running, takes the parent's place. Above a full mesh nodes listen to their links in turn, so that each gets to say so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, assert_never

from mesh.messages import ENTRIES_MAX, Digest, Graft, Have, IHave, LinkMessage, Listen, Prune, Want
from mesh.protocol.effects import (
    TRANSIENT,
    CancelTimer,
    Effect,
    Forked,
    Gap,
    Held,
    Leave,
    LinkClosed,
    LinkUp,
    Push,
    PushRefused,
    Received,
    Repeated,
    Send,
    Serve,
    Served,
    SetTimer,
    Slot,
    TimerFired,
)  # fmt: skip
from mesh.protocol.logs import Logs
from transport.base import MILLISECOND, SECOND
from transport.identity import NodeId, Origin

Event: TypeAlias = (
    LinkUp | LinkClosed | Received | Held | PushRefused | Served | Repeated | Gap | Forked | TimerFired | Leave
)  # fmt: skip

IHAVE = ("tree", "ihave")
LISTEN = ("tree", "listen")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlumtreeConfig:
    ihave_ms: int = 5  # iroh-gossip's dispatch interval: gathers a burst into one entry a log
    ihave_every_ms: int = 50  # … and under steady writing that rarely: four times fewer at 100 writes/s
    tellers: int = 2  # links a node of a full mesh listens to: one may be the very link that is cut
    tellers_apart: int = 3  # above a full mesh, where the others may be further down the same tree
    listen_turn_s: float = 10.0  # above a full mesh the next ones are listened to after so long
    swap_ms: int = 10  # guess: an ihave so much before the payload shows a faster way; it had waited itself, too
    listen_ms: int = 300  # how long links must have been missing, so that a start is not all talk
    graft_rtts: int = 3  # research 2.5: the eager copy gets that long to arrive by itself
    graft_floor_ms: int = 20  # on a LAN three round trips are less than a busy interpreter's pause
    origins_max: int = 4096  # trees remembered; beyond, the oldest falls back to the default

    def __post_init__(self) -> None:
        if self.ihave_ms <= 0 or self.graft_floor_ms <= 0 or min(self.graft_rtts, self.tellers, self.tellers_apart) < 1:
            raise ValueError(f"need ihave_ms, graft_floor_ms > 0 and graft_rtts, tellers >= 1, got {self}")


class Plumtree:
    """Who gets which origin's frames at once, and who is only told. State bounded by links, origins and held logs."""

    def __init__(
        self, me: NodeId, config: PlumtreeConfig, logs: Logs, *, rtt_ns: Callable[[NodeId], int],
        is_full_mesh: Callable[[], bool], is_short: Callable[[], bool],
    ) -> None:  # fmt: skip
        self.me, self._config, self._logs = me, config, logs
        self._rtt_ns, self._is_full_mesh, self._is_short = rtt_ns, is_full_mesh, is_short
        self._links: dict[NodeId, None] = {}
        self._trees: dict[Origin, dict[NodeId, bool]] = {}  # origin -> peer -> eager; what differs from the default
        self._sources: dict[Slot, NodeId] = {}  # who brought the newest frame of a log first
        self._behind: dict[NodeId, dict[Slot, None]] = {}  # missed a push: pushing on would only make gaps
        self._fresh: dict[NodeId, None] = {}  # linked, and not heard yet what it holds of our own logs
        self._pending: dict[NodeId, dict[Slot, None]] = {}  # to be told by the next ihave
        self._waits: dict[Slot, tuple[NodeId, int]] = {}  # graft timers set: who told of it first, and when
        self._faster: dict[Origin, NodeId] = {}  # whose ihave came clearly before the payload last time
        self._turn = 0  # how often whom to listen to was chosen in turn
        self._tellers: dict[NodeId, None] = {}  # whom this node listens to
        self._listeners: dict[NodeId, None] = {}
        self._listening = False  # the timer is set
        self._told_at = 0  # when ihaves last left

    def explain(self) -> dict[str, object]:
        """Sizes of the tables, as plain values."""
        return {
            "trees": len(self._trees),
            "behind": {str(peer): len(slots) for peer, slots in self._behind.items() if slots},
            "waiting": len(self._waits),
        }

    @property
    def is_behind(self) -> bool:
        """Whether some peer was refused a push, or is being served what it pulled."""
        return any(self._behind.values())

    def handle(self, event: Event, now: int) -> list[Effect]:
        match event:
            case LinkUp(peer):
                self._links[peer] = None
                self._behind[peer] = {}
                self._fresh[peer] = None
                return self.listen_anew()
            case LinkClosed(peer):
                return self._on_link_closed(peer)
            case Held(slot, _, _, source, size):
                return self._on_held(slot, source, size, now)
            case Received(peer, message):
                return self._on_message(peer, message, now) if peer in self._links else []
            case PushRefused(peer, slot):
                if peer not in self._links:
                    return []
                self._behind[peer][slot] = None
                return self._note([peer], slot, now)
            case Served(peer, slot, seq):
                self._behind.get(peer, {}).pop(slot, None)
                self._logs.given(peer, slot, seq)
                return []
            case Repeated(peer, slot, seq):
                return self._on_repeated(peer, slot, seq)
            case Gap(peer, slot, first):
                return self._on_gap(peer, slot, first, now)
            case TimerFired(("tree", "ihave")):
                return self._tell(now)
            case TimerFired(("tree", "listen")):
                return self._listen()
            case TimerFired(("tree", "graft", str() as stream, Origin() as origin)):
                return self._on_graft_due(Slot(stream, origin), now)
            case TimerFired():
                return []
            case Forked(origin):
                return self._on_forked(origin)
            case Leave():
                out: list[Effect] = [*self._tell(now), CancelTimer(IHAVE), CancelTimer(LISTEN)]
                out += [CancelTimer(_graft_timer(slot)) for slot in self._waits]
                self._waits = {}
                return out
            case _:
                assert_never(event)

    def _on_link_closed(self, peer: NodeId) -> list[Effect]:
        self._links.pop(peer, None)
        self._behind.pop(peer, None)
        self._fresh.pop(peer, None)
        self._pending.pop(peer, None)
        self._tellers.pop(peer, None)
        self._listeners.pop(peer, None)
        for tree in self._trees.values():
            tree.pop(peer, None)
        self._trees = {origin: tree for origin, tree in self._trees.items() if tree}
        return self.listen_anew()

    def _on_forked(self, origin: Origin) -> list[Effect]:
        self._trees.pop(origin, None)
        out: list[Effect] = [CancelTimer(_graft_timer(slot)) for slot in self._waits if slot.origin == origin]
        self._waits = {slot: each for slot, each in self._waits.items() if slot.origin != origin}
        self._faster.pop(origin, None)
        self._sources = {slot: peer for slot, peer in self._sources.items() if slot.origin != origin}
        for table in (self._pending, self._behind):
            for peer, slots in table.items():
                table[peer] = {slot: None for slot in slots if slot.origin != origin}
        return out

    def compared(self, peer: NodeId) -> None:
        """``peer`` has said what it holds. Until then nothing of our own was pushed to it: it may know another history
        of our log, when this disk is a restored backup."""
        self._fresh.pop(peer, None)

    def forget(self, slot: Slot) -> None:
        """A transient log is no longer kept here; nothing of it is remembered. Its graft timer may still ring."""
        self._sources.pop(slot, None)
        for table in (*self._pending.values(), *self._behind.values()):
            table.pop(slot, None)

    # -- pushing -----------------------------------------------------------------------------------------------------

    def _is_eager(self, origin: Origin, peer: NodeId) -> bool:
        if (chosen := self._trees.get(origin, {}).get(peer)) is not None:
            return chosen
        return not self._is_full_mesh() or origin.node == self.me

    def _set(self, origin: Origin, peer: NodeId, eager: bool) -> None:
        tree = self._trees.pop(origin, {})
        self._trees[origin] = tree
        tree[peer] = eager
        if len(self._trees) > self._config.origins_max:
            del self._trees[next(iter(self._trees))]

    def _on_held(self, slot: Slot, source: NodeId | None, size: int, now: int) -> list[Effect]:
        if slot.origin in self._logs.forked:
            return []
        seq = self._logs.head(slot).seq
        if source is not None:
            self._sources[slot] = source
        out: list[Effect] = []
        if slot in self._waits and next(self._logs.holders(slot), None) is None:
            teller, told = self._waits.pop(slot)
            out.append(CancelTimer(_graft_timer(slot)))
            if source is not None and not self._is_full_mesh():
                out += self._compare(slot, source, teller, now - told)
        eager: list[NodeId] = []
        lazy: list[NodeId] = []
        is_own = slot.origin.node == self.me and not slot.stream.startswith(TRANSIENT)
        for peer in self._links:
            if peer in (source, slot.origin.node) or self._logs.knows(peer, slot) >= seq:
                continue  # it has it
            is_behind = slot in self._behind[peer] or (is_own and peer in self._fresh)
            if size > 0 and not is_behind and self._is_eager(slot.origin, peer):
                eager.append(peer)
            elif size == 0 or is_behind or peer in self._listeners:
                lazy.append(peer)
        if eager:
            out.append(Push(tuple(eager)))
        return out + self._note(lazy, slot, now)

    def _compare(self, slot: Slot, source: NodeId, teller: NodeId, earlier_ns: int) -> list[Effect]:
        """``teller`` had the frame so much before ``source`` brought it: the second time running it takes its place."""
        origin = slot.origin
        if teller == source or teller not in self._links or earlier_ns < self._config.swap_ms * MILLISECOND:
            self._faster.pop(origin, None)
            return []
        if self._faster.get(origin) != teller:
            if len(self._faster) >= self._config.origins_max:
                del self._faster[next(iter(self._faster))]
            self._faster[origin] = teller
            return []
        del self._faster[origin]
        return [Send(teller, Graft(slot.stream, origin, self._logs.head(slot).seq)), Send(source, Prune(origin))]

    def _note(self, peers: list[NodeId], slot: Slot, now: int) -> list[Effect]:
        """Tell these peers of ``slot`` with the next ihave."""
        if not peers:
            return []
        idle = not self._pending
        for peer in peers:
            self._pending.setdefault(peer, {})[slot] = None
        if not idle:
            return []
        config = self._config
        due = max(now + config.ihave_ms * MILLISECOND, self._told_at + config.ihave_every_ms * MILLISECOND)
        return [SetTimer(IHAVE, due - now)]

    def _tell(self, now: int) -> list[Effect]:
        pending, self._pending = self._pending, {}
        self._told_at = now
        out: list[Effect] = []
        for peer, slots in pending.items():
            entries = [
                self._logs.have(slot)
                for slot in sorted(slots)
                if slot in self._logs.heads and self._logs.knows(peer, slot) < self._logs.heads[slot].seq
            ]
            for at in range(0, len(entries), ENTRIES_MAX):
                out.append(Send(peer, IHave(entries[at : at + ENTRIES_MAX])))
        return out

    def _on_repeated(self, peer: NodeId, slot: Slot, seq: int) -> list[Effect]:
        """Two peers push the same: the later one shall stop. In a full mesh the origin itself is never the one."""
        if peer not in self._links:
            return []
        source = self._sources.get(slot)
        unwanted = peer
        if self._is_full_mesh() and peer == slot.origin.node:
            if source is None or source == peer or source not in self._links:
                return []
            unwanted = source
        return [Send(unwanted, Prune(slot.origin))]

    # -- pulling -----------------------------------------------------------------------------------------------------

    def _on_message(self, peer: NodeId, message: LinkMessage, now: int) -> list[Effect]:
        match message:
            case IHave(entries):
                return self._on_ihave(peer, entries, now)
            case Graft(stream, origin, after):
                slot = Slot(stream, Origin(origin))
                self._set(slot.origin, peer, True)
                return self._serve(peer, slot, after)
            case Want(stream, origin, after):
                return self._serve(peer, Slot(stream, Origin(origin)), after)
            case Prune(origin):
                self._set(Origin(origin), peer, False)
                return []
            case Listen(on):
                return self._on_listen(peer, on, now)
            case _:
                return []

    def _serve(self, peer: NodeId, slot: Slot, after: int) -> list[Effect]:
        """``peer`` pulls. Once it is served it is in step again; until then a push would come twice, or too early."""
        if self._logs.head(slot).seq <= after:
            self._behind[peer].pop(slot, None)
            return []
        self._behind[peer][slot] = None
        return [Serve(peer, slot, after)]

    def _on_ihave(self, peer: NodeId, entries: list[Have], now: int) -> list[Effect]:
        out: list[Effect] = []
        for entry in entries:
            slot = Slot(entry.stream, Origin(entry.origin))
            if self._logs.claim(peer, slot, entry.seq) and slot not in self._waits:
                self._waits[slot] = peer, now
                out.append(SetTimer(_graft_timer(slot), self._patience(peer)))
        return out

    def _patience(self, peer: NodeId) -> int:
        return max(self._config.graft_floor_ms * MILLISECOND, self._config.graft_rtts * self._rtt_ns(peer))

    def _on_graft_due(self, slot: Slot, now: int) -> list[Effect]:
        if slot not in self._waits:
            return []
        del self._waits[slot]
        holder = next(self._logs.holders(slot), None)
        if holder is None or slot in self._logs.asked:
            return []  # it came, or is on its way; repair watches over what was asked
        return self._graft(*holder, slot, now)

    def _graft(self, peer: NodeId, upto: int, slot: Slot, now: int) -> list[Effect]:
        self._logs.ask(peer, slot, upto, now)
        return [Send(peer, Graft(slot.stream, slot.origin, self._logs.head(slot).seq))]

    def _on_gap(self, peer: NodeId, slot: Slot, first: int, now: int) -> list[Effect]:
        """What is pushed should follow what is held: the frames between were refused or lost with a link."""
        if peer not in self._links or not self._logs.claim(peer, slot, first) or slot in self._logs.asked:
            return []
        return self._graft(peer, first, slot, now)

    # -- listening ---------------------------------------------------------------------------------------------------

    def listen_anew(self) -> list[Effect]:
        """Links or members changed: choose again whom to listen to, in a moment."""
        if self._listening:
            return []
        self._listening = True
        return [SetTimer(LISTEN, self._config.listen_ms * MILLISECOND)]

    def _listen(self) -> list[Effect]:
        self._listening = False
        again: list[Effect] = []
        if self._is_short():
            chosen = list(self._links)
        elif self._is_full_mesh():
            # Of two, one writes what the other hears: nobody is left to tell.
            chosen = self._next_links(self._config.tellers) if len(self._links) > 1 else []
        else:
            chosen = self._next_links(self._config.tellers_apart)
            self._turn += 1
            again = [SetTimer(LISTEN, int(self._config.listen_turn_s * SECOND))]
        out: list[Effect] = [Send(peer, Listen(False)) for peer in self._tellers if peer not in chosen]
        for peer in chosen:
            if peer not in self._tellers:
                out += [Send(peer, Listen(True)), Send(peer, Digest(self._logs.digest(), ask=False))]
        self._tellers = dict.fromkeys(chosen)
        return out + again

    def _next_links(self, count: int) -> list[NodeId]:
        """The next links after this node in the order of keys; above a full mesh each turn goes on from the last."""
        ring = sorted(self._links)
        after = [each for each in ring if each > self.me] + [each for each in ring if each < self.me]
        if len(after) <= count:
            return after
        first = 0 if self._is_full_mesh() else self._turn * count % len(after)
        return (after + after)[first : first + count]

    def _on_listen(self, peer: NodeId, on: bool, now: int) -> list[Effect]:
        """Repair compares the logs that last; of transient ones it is told here."""
        if not on:
            self._listeners.pop(peer, None)
            return []
        self._listeners[peer] = None
        out: list[Effect] = []
        for slot, head in self._logs.heads.items():
            if slot.stream.startswith(TRANSIENT) and self._logs.knows(peer, slot) < head.seq:
                out += self._note([peer], slot, now)
        return out


def _graft_timer(slot: Slot) -> tuple[str, str, str, Origin]:
    return "tree", "graft", slot.stream, slot.origin
