"""How far each member's disk has the logs, as it said itself: the cut below which everyone agrees."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mesh.messages import Durable, DurableAsk, Have
from mesh.protocol.effects import Head, Slot
from mesh.state.log import Log
from mesh.state.replica import Replica
from mesh.state.roll import Roll
from mesh.state.room import Room
from transport.base import SECOND, Timer
from transport.identity import NodeId, Origin

ENTRIES_MAX = 1024  # of one question or answer: a relayed message has 256 KiB, an entry at most 200 B


class Reports:
    """What members said they have on disk, and the questions that folding asks.

    Law: an entry is the word of the disk's owner. It comes over the owner's link, or sealed by the owner's key through
    others (``messaging.relay``), so nobody between can make one or change it.

    Cost: nothing at all until a space is worth folding. Then every member has the same frames and wants to know the
    same: each waits a random part of ``durable_every_s``, and asks who was not heard of meanwhile; a question brings
    the asker's own report, so two members exchange one pair of small messages a fold. While that brings no fold (a
    disk is behind) the pause doubles up to ``durable_slow_s``; nobody is asked while a member is away whose last word
    allows no cut.
    """

    def __init__(self, room: Room, roll: Roll, log_of: Callable[[Slot], Log | None]) -> None:
        self._room, self._roll, self._log_of = room, roll, log_of
        self._rng = room.env.rng("reports")
        self._known: dict[NodeId, dict[Slot, Head]] = {}
        self._heard: dict[tuple[NodeId, str], int] = {}  # monotonic ns of a member's last report on a stream
        self._rounds: dict[str, _Round] = {}

    # -- what is known -----------------------------------------------------------------------------------------------

    def on_report(self, peer: NodeId, entries: Iterable[Have]) -> None:
        """``peer`` has these on disk."""
        known = self._known.setdefault(peer, {})
        now = self._room.env.mono()
        for entry in entries:
            slot = Slot(entry.stream, Origin(entry.origin))
            if self._log_of(slot) is not None:
                known[slot] = Head(entry.seq, entry.head)
                self._heard[peer, entry.stream] = now

    def has(self, node: NodeId, slot: Slot, seq: int) -> bool:
        """Whether ``node`` said that its disk has ``slot`` up to ``seq``."""
        head = self._known.get(node, {}).get(slot)
        return head is not None and head.seq >= seq

    def stable(self, logs: Iterable[Log]) -> dict[Origin, Head]:
        """Up to where everyone who counts has each log on disk, when that is above its floor.

        Only a lower bound by sequence; that the histories are the same is the caller's to check, by the hashes.
        """
        known = [self._known.get(node, {}) for node in self._roll.counted()]
        cut: dict[Origin, Head] = {}
        for log in logs:
            heads = [each.get(log.slot) for each in known]
            if any(head is None for head in heads):
                continue
            lowest = min([log.saved, *(head for head in heads if head is not None)])
            if lowest.seq > log.floor.seq:
                cut[log.slot.origin] = lowest
        return cut

    # -- asking ------------------------------------------------------------------------------------------------------

    def want(self, replica: Replica) -> None:
        """The space is worth folding, and what is known does not suffice: ask, soon."""
        if replica.name not in self._rounds:
            self._rounds[replica.name] = each = _Round(replica, self._every_ns())
            self._arm(each, int(self._rng.random() * each.pause_ns))

    def settled(self, replica: Replica) -> None:
        """It is being folded, or needs no folding any more."""
        if (each := self._rounds.pop(replica.name, None)) is not None and each.timer is not None:
            each.timer.cancel()

    def members(self, came: Iterable[NodeId]) -> None:
        """The roll changed; these came back, so that asking makes sense again."""
        for node in [node for node in self._known if node not in self._roll]:
            del self._known[node]
        for key in [key for key in self._heard if key[0] not in self._roll]:
            del self._heard[key]
        if any(came):
            for each in list(self._rounds.values()):
                self.settled(each.replica)
                self.want(each.replica)

    def _every_ns(self) -> int:
        return int(self._room.config.durable_every_s * SECOND)

    def _arm(self, each: _Round, after_ns: int) -> None:
        each.timer = self._room.env.call_at(self._room.env.mono() + after_ns, lambda: self._on_time(each))

    def _on_time(self, each: _Round) -> None:
        replica, now = each.replica, self._room.env.mono()
        if not replica.folder.may_fold():
            del self._rounds[replica.name]
            return
        logs = [log for log in replica.logs.values() if log.saved.seq > log.floor.seq]
        counted = self._roll.counted()
        hopeful = all(self._roll.is_present(node) or self._allows(node, logs) for node in counted)
        if hopeful and logs:
            fresh = now - self._every_ns()
            for node in counted:
                heard = self._heard.get((node, replica.name))
                lacks = any(not self.has(node, log.slot, log.saved.seq) for log in logs)
                if lacks and self._roll.is_present(node) and (heard is None or heard <= fresh):
                    for at in range(0, len(logs), ENTRIES_MAX):
                        entries = [have(log) for log in logs[at : at + ENTRIES_MAX]]
                        self._room.reach(node, DurableAsk(entries))
        each.pause_ns = min(2 * each.pause_ns, int(self._room.config.durable_slow_s * SECOND))
        self._arm(each, int(self._rng.uniform(0.8, 1.2) * each.pause_ns))

    def _allows(self, node: NodeId, logs: Iterable[Log]) -> bool:
        """Whether the last word of a member that is away leaves anything to fold."""
        return any(self.has(node, log.slot, log.floor.seq + 1) for log in logs)

    def on_ask(self, peer: NodeId, ask: DurableAsk) -> None:
        """``peer`` wants to fold: it says what it has of these logs, and is told what this disk has."""
        logs = [self._log_of(Slot(entry.stream, Origin(entry.origin))) for entry in ask.entries[:ENTRIES_MAX]]
        entries = [have(log) for log in logs if log is not None and log.saved.seq]
        if entries:
            self._room.reach(peer, Durable(0, entries))

    def close(self) -> None:
        for each in list(self._rounds.values()):
            self.settled(each.replica)


class _Round:
    """Questions about one space, until it is folded."""

    __slots__ = ("pause_ns", "replica", "timer")

    def __init__(self, replica: Replica, pause_ns: int) -> None:
        self.replica, self.pause_ns = replica, pause_ns
        self.timer: Timer | None = None


def have(log: Log) -> Have:
    """What this disk has of ``log``."""
    return Have(log.slot.stream, log.slot.origin, log.saved.seq, log.saved.hash)
