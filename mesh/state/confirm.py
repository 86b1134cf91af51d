"""Who has what on disk: answers to "is it safe now", and the cut below which everyone agrees."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mesh.errors import NotConfirmed
from mesh.messages import ENTRIES_MAX, ConfirmAsk, Durable, Have
from mesh.protocol.effects import Head, Slot
from mesh.state import records
from mesh.state.journal import nothing
from mesh.state.log import Log
from mesh.state.room import Room
from transport.base import SECOND, Lane, Timer
from transport.identity import NodeId, Origin

ASKS_MAX = 4096  # of all peers together, waiting for a commit here; past it the oldest goes, and its asker times out
LEVELS = ("one", "quorum", "all")
SMALL = 64  # entries in a report that still travels as control


@dataclass(frozen=True, slots=True)
class Standing:
    """A member, as far as counting goes. ``since_ns``: monotonic, when it came to this state."""

    node: NodeId
    state: str
    durable: bool
    since_ns: int


class _Confirm:
    """One call of ``confirm`` that waits."""

    __slots__ = ("done", "having", "level", "seq", "slot", "timer")

    def __init__(self, slot: Slot, seq: int, level: str, done: asyncio.Future[bool]) -> None:
        self.slot, self.seq, self.level, self.done = slot, seq, level, done
        self.having: dict[NodeId, None] = {}
        self.timer: Timer | None = None

    def give_up(self) -> None:
        """The time is over, or the node ends."""
        if not self.done.done():
            self.done.set_result(False)


class Durability:
    """What each peer has on disk, as it said; who counts; and who waits for whom.

    Peers tell each other their durable heads when these changed, at most every two seconds, and at once when asked.
    Only linked peers are heard, so a member without a link holds back the cut until its lease ends. Who counts is
    kept on disk: a node that starts again in a split has heard of nobody, and must neither fold nor confirm alone.
    """

    def __init__(self, room: Room, log_of: Callable[[Slot], Log | None]) -> None:
        self._room, self._log_of = room, log_of
        self._known: dict[NodeId, dict[Slot, Head]] = {}
        self._members: dict[NodeId, Standing] = {}
        self._remembered: dict[NodeId, Standing] = {}  # from disk; a lease runs from the start of this process
        self._unsent: dict[NodeId, dict[Slot, None]] = {}  # linked peers, and what changed since they were told
        self._asks: dict[tuple[NodeId, int], ConfirmAsk] = {}
        self._confirms: dict[int, _Confirm] = {}
        self._numbers = 0
        self._timer: Timer | None = None

    # -- who counts --------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Who counted when this node last ran. Raises ``StorageFault``."""
        now = self._room.env.mono()
        for key, value in self._room.storage.scan(records.COUNTED, b""):
            self._remembered[NodeId(key)] = Standing(NodeId(key), "down", value == b"\1", now)
        self._members = dict(self._remembered)

    def members(self, standings: Iterable[tuple[NodeId, str, bool, int]]) -> None:
        """The members that are known now, this node or not."""
        known = {
            node: Standing(node, str(state), durable, since)
            for node, state, durable, since in standings
            if node != self._room.identity.id
        }
        self._remember(known.values())
        self._members = self._remembered | known
        for gone in [node for node in self._known if node not in self._members and node not in self._unsent]:
            del self._known[gone]
        self._settle()

    def _remember(self, standings: Iterable[Standing]) -> None:
        """Keep on disk who counts; forget who left, or whose lease ended before it was heard of again."""
        puts, cuts = [], []
        heard = {}
        for each in standings:
            heard[each.node] = each
            held = self._remembered.get(each.node)
            if each.state == "left":
                if held is not None:
                    del self._remembered[each.node]
                    cuts.append((records.COUNTED, bytes(each.node), bytes(each.node) + b"\0"))
            elif held is None or held.durable != each.durable:
                self._remembered[each.node] = Standing(each.node, "down", each.durable, self._room.env.mono())
                puts.append((records.COUNTED, bytes(each.node), b"\1" if each.durable else b"\0"))
        for node in [each for each in self._remembered if each not in heard]:
            if not self._counts(self._remembered[node]):
                del self._remembered[node]
                cuts.append((records.COUNTED, bytes(node), bytes(node) + b"\0"))
        if puts or cuts:
            self._room.journal.append(puts, cuts, saved=nothing)

    def _counts(self, each: Standing) -> bool:
        config = self._room.config
        lease_s = config.lease_s if each.durable else min(config.lease_s, config.diskless_lease_s)
        away = self._room.env.mono() - each.since_ns
        return each.state != "left" and (each.state == "alive" or away <= int(lease_s * SECOND))

    def counted(self) -> list[NodeId]:
        """The other members that count: not left, not past their lease, and able to remember."""
        return [each.node for each in self._members.values() if self._counts(each)]

    def stable(self, logs: Iterable[Log]) -> dict[Origin, Head]:
        """Up to where everyone who counts has each log on disk, when that is above its floor.

        Only a lower bound by sequence; that the histories are the same is the caller's to check, by the hashes.
        """
        known = [self._known.get(node, {}) for node in self.counted()]
        cut: dict[Origin, Head] = {}
        for log in logs:
            heads = [each.get(log.slot) for each in known]
            if any(head is None for head in heads):
                continue
            lowest = min([log.saved, *(head for head in heads if head is not None)])
            if lowest.seq > log.floor.seq:
                cut[log.slot.origin] = lowest
        return cut

    # -- reports -----------------------------------------------------------------------------------------------------

    def linked(self, peer: NodeId, slots: Iterable[Slot]) -> None:
        """A link to ``peer`` is up: it is told everything, and asked again what is still unconfirmed."""
        self._unsent[peer] = dict.fromkeys(slots)
        self._arm()
        for number, confirm in self._confirms.items():
            self._ask(peer, number, confirm)

    def unlinked(self, peer: NodeId) -> None:
        self._unsent.pop(peer, None)
        for key in [key for key in self._asks if key[0] == peer]:
            del self._asks[key]

    def on_durable(self, log: Log) -> None:
        """A log is on disk here further than before."""
        for unsent in self._unsent.values():
            unsent[log.slot] = None
        self._arm()
        if self._asks:
            for key, ask in list(self._asks.items()):
                if ask.origin == log.slot.origin and ask.stream == log.slot.stream and log.saved.seq >= ask.seq:
                    del self._asks[key]
                    self._room.send(key[0], Durable(ask.number, [_have(log)]), Lane.CONTROL)

    def _arm(self) -> None:
        if self._timer is None and self._unsent:
            when = self._room.env.mono() + int(self._room.config.durable_every_s * SECOND)
            self._timer = self._room.env.call_at(when, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        for peer, unsent in self._unsent.items():
            while unsent:
                slots = list(unsent)[:ENTRIES_MAX]
                logs = [log for slot in slots if (log := self._log_of(slot)) is not None and log.saved.seq]
                lane = Lane.CONTROL if len(logs) <= SMALL else Lane.SYNC
                if logs and not self._room.send(peer, Durable(0, [_have(log) for log in logs]), lane):
                    break  # the lane is full: next time
                for slot in slots:
                    del unsent[slot]
        if any(self._unsent.values()):
            self._arm()

    def on_report(self, peer: NodeId, message: Durable) -> None:
        """``peer`` has these on disk."""
        known = self._known.setdefault(peer, {})
        for entry in message.entries:
            slot = Slot(entry.stream, Origin(entry.origin))
            if self._log_of(slot) is not None:
                known[slot] = Head(entry.seq, entry.head)
        self._settle()

    def on_ask(self, peer: NodeId, ask: ConfirmAsk) -> None:
        """``peer`` wants to know when this is on disk here."""
        log = self._log_of(Slot(ask.stream, Origin(ask.origin)))
        if log is not None and log.saved.seq >= ask.seq:
            self._room.send(peer, Durable(ask.number, [_have(log)]), Lane.CONTROL)
            return
        if len(self._asks) >= ASKS_MAX:
            del self._asks[next(iter(self._asks))]
        self._asks[peer, ask.number] = ask

    # -- confirmation ------------------------------------------------------------------------------------------------

    async def confirm(self, log: Log, level: str, deadline_ns: int) -> None:
        """Return once ``level`` of the members have ``log``, as far as it is durable here now. Raises ``NotConfirmed``
        at ``deadline_ns`` (monotonic)."""
        self._numbers += 1
        number = self._numbers
        confirm = _Confirm(log.slot, log.saved.seq, level, asyncio.get_running_loop().create_future())
        self._confirms[number] = confirm
        try:
            self._settle()
            if not confirm.done.done():
                confirm.timer = self._room.env.call_at(deadline_ns, confirm.give_up)
                for peer in self._unsent:
                    self._ask(peer, number, confirm)
            if not await confirm.done:
                having = [self._room.identity.id, *self._having(confirm)]
                missing = [node for node in self.counted() if node not in having]
                raise NotConfirmed(log.slot.stream, level, self._needed(level) + 1, having, missing)
        finally:
            del self._confirms[number]
            if confirm.timer is not None:
                confirm.timer.cancel()

    def _needed(self, level: str) -> int:
        """How many others."""
        others = len(self.counted())
        return 1 if level == "one" else (others + 1) // 2 if level == "quorum" else others

    def _having(self, confirm: _Confirm) -> list[NodeId]:
        return [
            node
            for node in self.counted()
            if (head := self._known.get(node, {}).get(confirm.slot)) is not None and head.seq >= confirm.seq
        ]

    def _ask(self, peer: NodeId, number: int, confirm: _Confirm) -> None:
        self._room.send(peer, ConfirmAsk(number, confirm.slot.stream, confirm.slot.origin, confirm.seq), Lane.CONTROL)

    def _settle(self) -> None:
        for confirm in self._confirms.values():
            if not confirm.done.done() and len(self._having(confirm)) >= self._needed(confirm.level):
                confirm.done.set_result(True)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._unsent.clear()
        for confirm in self._confirms.values():
            confirm.give_up()


def _have(log: Log) -> Have:
    return Have(log.slot.stream, log.slot.origin, log.saved.seq, log.saved.hash)
