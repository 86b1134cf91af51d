"""Answers to "is it safe now": who has it on disk, asked of each member that counts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from mesh.errors import NotConfirmed
from mesh.messages import ConfirmAsk, Durable
from mesh.protocol.effects import Slot
from mesh.state.log import Log
from mesh.state.reports import Reports, have
from mesh.state.roll import Roll
from mesh.state.room import Room
from transport.base import MILLISECOND, SECOND, Timer
from transport.identity import NodeId, Origin

ASKS_MAX = 4096  # of all members together, waiting for a commit here; past it the oldest goes, and is asked again
LEVELS = ("one", "quorum", "all")
AGAIN_NS = 500 * MILLISECOND  # first new question to who has no link to us: a relay may drop it. Then twice as late …
AGAIN_MAX_NS = 4 * SECOND  # … up to this


class _Confirm:
    """One call of ``confirm`` that waits."""

    __slots__ = ("again", "level", "pause_ns", "seq", "slot", "timer", "verdict")

    def __init__(self, slot: Slot, seq: int, level: str, verdict: asyncio.Future[bool]) -> None:
        self.slot, self.seq, self.level, self.verdict = slot, seq, level, verdict
        self.timer: Timer | None = None
        self.again: Timer | None = None
        self.pause_ns = AGAIN_NS

    def give_up(self) -> None:
        """The time is over, or the node ends."""
        if not self.verdict.done():
            self.verdict.set_result(False)


class Confirmations:
    """Who waits here for others' disks, and who elsewhere waits for ours.

    A member with a link is asked once over it and answers at its next commit. One without is asked through others,
    sealed, and again while it is silent; of those first only as many as the level still needs, and half as many more.
    """

    def __init__(self, room: Room, roll: Roll, reports: Reports) -> None:
        self._room, self._roll, self._reports = room, roll, reports
        self._rng = room.env.rng("confirm")
        self._links: dict[NodeId, None] = {}
        self._asks: dict[Slot, dict[tuple[NodeId, int], int]] = {}  # log -> (asker, its number) -> sequence
        self._asks_count = 0
        self._confirms: dict[int, _Confirm] = {}
        self._numbers = 0

    # -- others ask --------------------------------------------------------------------------------------------------

    def on_ask(self, peer: NodeId, ask: ConfirmAsk, log: Log | None) -> None:
        """``peer`` wants to know when this is on disk here; ``log`` is that log, if there is one yet."""
        slot = Slot(ask.stream, Origin(ask.origin))
        if log is not None and log.saved.seq >= ask.seq:
            self._room.reach(peer, Durable(ask.number, [have(log)]))
            return
        if self._asks_count >= ASKS_MAX:
            oldest = next(iter(self._asks))
            self._drop(oldest, next(iter(self._asks[oldest])))
        asks = self._asks.setdefault(slot, {})
        self._asks_count += (peer, ask.number) not in asks
        asks[peer, ask.number] = ask.seq

    def _drop(self, slot: Slot, key: tuple[NodeId, int]) -> None:
        del self._asks[slot][key]
        self._asks_count -= 1
        if not self._asks[slot]:
            del self._asks[slot]

    def on_durable(self, log: Log) -> None:
        """A log is on disk here further than before."""
        if not (asks := self._asks.get(log.slot)):
            return
        for (peer, number), seq in list(asks.items()):
            if log.saved.seq >= seq:
                self._drop(log.slot, (peer, number))
                self._room.reach(peer, Durable(number, [have(log)]))

    # -- links and members -------------------------------------------------------------------------------------------

    def linked(self, peer: NodeId) -> None:
        """A link to ``peer`` is up: it is asked what is still unconfirmed."""
        self._links[peer] = None
        for number, confirm in self._confirms.items():
            self._ask(peer, number, confirm)

    def unlinked(self, peer: NodeId) -> None:
        """Its questions went with the link; it asks again over another way."""
        self._links.pop(peer, None)
        for slot, asks in list(self._asks.items()):
            for key in [key for key in asks if key[0] == peer]:
                self._drop(slot, key)

    def members(self, came: Iterable[NodeId]) -> None:
        """The roll changed; these came back."""
        for node in came:
            for number, confirm in self._confirms.items():
                self._ask(node, number, confirm)
        self.settle()

    # -- this node asks ----------------------------------------------------------------------------------------------

    async def confirm(self, log: Log, level: str, deadline_ns: int) -> None:
        """Return once ``level`` of the members have ``log``, as far as it is durable here now. Raises ``NotConfirmed``
        at ``deadline_ns`` (monotonic)."""
        self._numbers += 1
        number = self._numbers
        confirm = _Confirm(log.slot, log.saved.seq, level, asyncio.get_running_loop().create_future())
        self._confirms[number] = confirm
        try:
            self.settle()
            if not confirm.verdict.done():
                confirm.timer = self._room.env.call_at(deadline_ns, confirm.give_up)
                self._ask_first(number, confirm)
            if not await confirm.verdict:
                having = [self._room.identity.id, *self._having(confirm)]
                missing = [node for node in self._roll.counted() if node not in having]
                raise NotConfirmed(log.slot.stream, level, self._needed(level) + 1, having, missing)
        finally:
            del self._confirms[number]
            for timer in (confirm.timer, confirm.again):
                if timer is not None:
                    timer.cancel()

    def _ask_first(self, number: int, confirm: _Confirm) -> None:
        far = [node for node in self._roll.counted() if node not in self._links and self._roll.is_present(node)]
        for peer in self._links:
            self._ask(peer, number, confirm)
        wanted = self._needed(confirm.level) - len(self._links)
        for node in self._rng.sample(far, min(len(far), max(0, wanted + (wanted + 1) // 2))):
            self._ask(node, number, confirm)
        self._arm(number, confirm)

    def _arm(self, number: int, confirm: _Confirm) -> None:
        when = self._room.env.mono() + confirm.pause_ns
        confirm.again = self._room.env.call_at(when, lambda: self._ask_again(number, confirm))

    def _ask_again(self, number: int, confirm: _Confirm) -> None:
        """Ask all that are silent and have no link."""
        for node in self._roll.counted():
            is_far = node not in self._links and self._roll.is_present(node)
            if is_far and not self._reports.has(node, confirm.slot, confirm.seq):
                self._ask(node, number, confirm)
        confirm.pause_ns = min(2 * confirm.pause_ns, AGAIN_MAX_NS)
        self._arm(number, confirm)

    def _needed(self, level: str) -> int:
        """How many others."""
        others = len(self._roll.counted())
        return 1 if level == "one" else (others + 1) // 2 if level == "quorum" else others

    def _having(self, confirm: _Confirm) -> list[NodeId]:
        return [node for node in self._roll.counted() if self._reports.has(node, confirm.slot, confirm.seq)]

    def _ask(self, peer: NodeId, number: int, confirm: _Confirm) -> None:
        self._room.reach(peer, ConfirmAsk(number, confirm.slot.stream, confirm.slot.origin, confirm.seq))

    def settle(self) -> None:
        """A member reported, or no longer counts."""
        for confirm in self._confirms.values():
            if not confirm.verdict.done() and len(self._having(confirm)) >= self._needed(confirm.level):
                confirm.verdict.set_result(True)

    def close(self) -> None:
        for confirm in self._confirms.values():
            confirm.give_up()
