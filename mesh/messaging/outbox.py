"""Letters until they are acknowledged: on disk first, then sent again and again, in order, until handled or given up.

Full jitter between attempts (Brooker 2015, "Exponential backoff and jitter"); one receiver's letters go strictly in
their order, so a letter that its handler refuses holds up those behind it until it succeeded or died.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from functools import partial

from mesh.errors import NoSuchLetter, OutboxFull, StorageFailed
from mesh.messages import Post, Receipt
from mesh.messaging.config import MessagingConfig
from mesh.messaging.faults import BUSY, NO_HANDLER
from mesh.messaging.letter import (
    DEAD,
    LETTER_EXTRA,
    LIFE_BYTES,
    OUTBOX,
    DeadLetter,
    Letter,
    decode_letter,
    number_bytes,
)
from mesh.protocol.facts import Fact, LetterDied
from mesh.state.journal import Journal
from transport.base import MILLISECOND, SECOND, Env, Storage, StorageFault, Timer
from transport.codec import decode_value
from transport.errors import ValueRefused
from transport.identity import NodeId

WINDOW_LETTERS, WINDOW_BYTES = 256, 1 << 20  # on their way to one receiver, which takes four times as many
CUT_AFTER_NS = 20 * MILLISECOND  # acknowledged letters leave the disk together; until then a crash only repeats them
LOOK_S = 3.0  # how long a letter that goes over others may be unanswered before it goes again (guess)
SWEEP_S = 1.0  # how often letters with a time to live are looked at


class _Mailbox:
    """Letters to one receiver, the oldest first; the first ``sent`` of them are on their way in attempt ``run``."""

    __slots__ = ("bytes_sent", "cut", "letters", "not_before", "refusals", "run", "sent", "timer")

    def __init__(self) -> None:
        self.letters: deque[Letter] = deque()
        self.sent = self.bytes_sent = self.not_before = self.run = 0
        self.refusals = 0  # in a row: the next pause grows with them
        self.cut = 0  # positions below it are acknowledged, and to leave the disk
        self.timer: Timer | None = None

    def restart(self) -> None:
        """What was on its way is not any more: the next attempt begins at the first letter."""
        self.sent = self.bytes_sent = 0
        self.run += 1


class Outbox:
    """One node's letters to others. ``send`` queues on a link and answers whether there was room."""

    def __init__(
        self, env: Env, storage: Storage, journal: Journal, config: MessagingConfig, *,
        send: Callable[[NodeId, Post], bool], is_present: Callable[[NodeId], bool],
        reach: Callable[[NodeId], asyncio.Future[None] | None], tell: Callable[[Fact], None], dropped: Counter[str],
    ) -> None:  # fmt: skip
        self._reach = reach
        self._env, self._storage, self._journal, self._config = env, storage, journal, config
        self._send, self._is_present, self._tell, self._dropped = send, is_present, tell, dropped
        self._rng = env.rng("outbox")
        self._life = env.entropy(LIFE_BYTES)
        self._number = self._position = self._bytes = 0
        self._boxes: dict[NodeId, _Mailbox] = {}
        self._dead: dict[str, Letter] = {}
        self._linked: dict[NodeId, None] = {}
        self._cutting: Timer | None = None
        self._sweeping: Timer | None = None
        self._looking: Timer | None = None
        self._is_closed = False

    def load(self) -> None:
        """Take up what the disk holds. Raises ``StorageFault``."""
        for _, raw in self._storage.scan(OUTBOX, b""):
            self._enqueue(decode_letter(raw))
        if self._boxes:
            self._looking = self._env.call_at(self._env.mono() + int(LOOK_S * SECOND), self._look)
        for _, raw in self._storage.scan(DEAD, b""):
            letter = decode_letter(raw)
            self._dead[letter.id] = letter
            self._position = max(self._position, letter.position)

    def _enqueue(self, letter: Letter) -> None:
        self._boxes.setdefault(NodeId(letter.to), _Mailbox()).letters.append(letter)
        self._position = max(self._position, letter.position)
        self._bytes += letter.size
        if letter.expires and self._sweeping is None and not self._is_closed:
            self._sweep_later()

    # -- the application's side --------------------------------------------------------------------------------------

    async def put(self, to: NodeId, body: bytes, about: bytes, ttl_s: float | None) -> str:
        """Keep ``body`` for ``to``; returns its id once it is durable here. Raises ``OutboxFull`` and
        ``StorageFailed``: it was not taken."""
        if self._bytes + len(body) + len(about) + LETTER_EXTRA > self._config.outbox_bytes_max:
            raise OutboxFull(self._bytes, self._config.outbox_bytes_max)
        self._number += 1
        self._position += 1
        now = self._env.now() // MILLISECOND
        letter = Letter(
            bytes(to), self._life, self._number, self._position, body, now,
            expires=0 if ttl_s is None else now + max(1, int(ttl_s * 1000)), about=about,
        )  # fmt: skip
        await self._store(letter, [])
        return letter.id

    async def _store(self, letter: Letter, cuts: list[tuple[str, bytes, bytes]]) -> None:
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def saved() -> None:
            self._enqueue(letter)  # in the order of their positions, since the journal keeps it
            self._pump(NodeId(letter.to))
            if not stored.done():
                stored.set_result(None)

        def lost(fault: StorageFault) -> None:
            if not stored.done():
                stored.set_exception(StorageFailed(f"the message was not taken: {fault}"))

        self._journal.append([(OUTBOX, letter.key, letter.encode())], cuts, saved=saved, lost=lost)
        await stored

    def dead_letters(self) -> list[DeadLetter]:
        """Those given up, the oldest first."""
        return [
            DeadLetter(each.id, NodeId(each.to), _shown(each.body), each.reason, each.tries, each.made)
            for each in self._dead.values()
        ]

    async def redeliver(self, letter_id: str) -> str:
        """Send a dead letter again, as a new one behind all others; returns the new id. Raises ``NoSuchLetter``."""
        dead = self._dead.pop(letter_id, None)
        if dead is None:
            raise NoSuchLetter(letter_id)
        self._number += 1
        self._position += 1
        letter = Letter(
            dead.to, self._life, self._number, self._position, dead.body, self._env.now() // MILLISECOND,
            about=dead.about,
        )  # fmt: skip
        try:
            await self._store(letter, [_dead_cut(dead)])
        except StorageFailed:
            self._dead[letter_id] = dead
            raise
        return letter.id

    # -- the link's side ---------------------------------------------------------------------------------------------

    def linked(self, peer: NodeId) -> None:
        """There is a link to ``peer``: its letters go, from the first."""
        self._linked[peer] = None
        if box := self._boxes.get(peer):
            box.not_before = 0
            box.restart()
            self._pump(peer)

    def lost(self, peer: NodeId) -> None:
        """It ended. What was on its way may or may not have been handled; it will go again."""
        self._linked.pop(peer, None)
        if box := self._boxes.get(peer):
            box.restart()
            self._pump(peer)

    def writable(self, peer: NodeId) -> None:
        """The lane to ``peer`` has room again."""
        self._pump(peer)

    def on_receipt(self, peer: NodeId, receipt: Receipt) -> None:
        """``peer`` handled letters up to this one, or its handler refused this one."""
        box = self._boxes.get(peer)
        if box is None:
            return
        if not receipt.error:
            box.refusals = 0
            while (letters := box.letters) and (letters[0].life, letters[0].number) <= (receipt.life, receipt.number):
                if letters[0].life != receipt.life:
                    break
                self._forget(box)
        elif box.letters and box.sent:
            if receipt.run != box.run:
                return  # of an earlier attempt
            self._refused(peer, box, box.letters[0], receipt)
        self._tidy(peer, box)
        self._pump(peer)

    def _refused(self, peer: NodeId, box: _Mailbox, letter: Letter, receipt: Receipt) -> None:
        box.restart()
        is_meant = (letter.life, letter.number) == (receipt.life, receipt.number)
        if is_meant and receipt.error not in (NO_HANDLER, BUSY):  # those say nothing of the letter: it is too early
            letter.tries += 1
            if letter.tries >= self._config.tries_max:
                box.refusals = 0
                self._forget(box)
                self._bury(letter, receipt.words or receipt.error)
                return
            self._journal.append([(OUTBOX, letter.key, letter.encode())], saved=_nothing)
        most = min(self._config.retry_max_s, self._config.retry_min_s * 2 ** min(box.refusals, 16))
        box.refusals += 1
        box.not_before = self._env.mono() + int(self._rng.uniform(0, most) * SECOND)
        if box.timer is not None:
            box.timer.cancel()
        box.timer = self._env.call_at(box.not_before, partial(self._pump, peer))

    # -- inside ------------------------------------------------------------------------------------------------------

    def _pump(self, peer: NodeId) -> None:
        box = self._boxes.get(peer)
        if box is None or self._is_closed or self._env.mono() < box.not_before:
            return
        if peer not in self._linked:
            self._pump_over_others(peer, box)
            return
        while box.sent < min(len(box.letters), WINDOW_LETTERS) and box.bytes_sent < WINDOW_BYTES:
            letter = box.letters[box.sent]
            if not self._send(peer, Post(letter.life, letter.number, box.run, letter.body, letter.about)):
                return  # ``writable`` or ``linked`` goes on
            box.sent += 1
            box.bytes_sent += len(letter.body)

    def _pump_over_others(self, peer: NodeId, box: _Mailbox) -> None:
        """Without a link a letter may get lost or overtaken on its way: one at a time, and again when nothing comes."""
        if not box.letters:
            return
        if not box.sent and self._is_present(peer):
            if (soon := self._reach(peer)) is not None:
                soon.add_done_callback(lambda _: self._pump(peer))
                return
            letter = box.letters[0]
            if self._send(peer, Post(letter.life, letter.number, box.run, letter.body, letter.about)):
                box.sent, box.bytes_sent = 1, len(letter.body)
        if self._looking is None:
            self._looking = self._env.call_at(self._env.mono() + int(LOOK_S * SECOND), self._look)

    def _look(self) -> None:
        """Send again what went over others and was not answered."""
        self._looking = None
        for peer, box in list(self._boxes.items()):
            if peer not in self._linked:
                box.restart()
                self._pump(peer)

    def _forget(self, box: _Mailbox) -> None:
        """The first letter is done with."""
        letter = box.letters.popleft()
        self._bytes -= letter.size
        if box.sent:
            box.sent -= 1
            box.bytes_sent -= len(letter.body)
        box.cut = letter.position + 1
        if self._cutting is None and not self._is_closed:
            self._cutting = self._env.call_at(self._env.mono() + CUT_AFTER_NS, self._cut)

    def _cut(self) -> None:
        self._cutting = None
        cuts = []
        for peer, box in list(self._boxes.items()):
            if box.cut:
                cuts.append((OUTBOX, peer + number_bytes(0), peer + number_bytes(box.cut)))
                box.cut = 0
            self._tidy(peer, box)
        self._journal.append([], cuts, saved=_nothing)

    def _tidy(self, peer: NodeId, box: _Mailbox) -> None:
        """A mailbox that is empty, here and on disk, need not be remembered."""
        if not box.letters and not box.cut:
            if box.timer is not None:
                box.timer.cancel()
            self._boxes.pop(peer, None)

    def _bury(self, letter: Letter, reason: str) -> None:
        letter.reason = reason[:1000]
        puts = [(DEAD, number_bytes(letter.position), letter.encode())]
        cuts = [(OUTBOX, letter.key, letter.key + b"\0")]
        if len(self._dead) >= self._config.dead_max:
            oldest = next(iter(self._dead))
            cuts.append(_dead_cut(self._dead.pop(oldest)))
            self._dropped["dead letter forgotten"] += 1
        self._dead[letter.id] = letter
        self._dropped["dead letter"] += 1
        self._journal.append(puts, cuts, saved=_nothing)
        self._tell(LetterDied(letter.id, NodeId(letter.to), letter.reason))

    def _sweep_later(self) -> None:
        self._sweeping = self._env.call_at(self._env.mono() + int(SWEEP_S * SECOND), self._sweep)

    def _sweep(self) -> None:
        """Give up what expired, but for what is on its way: that may be handled this very moment."""
        self._sweeping = None
        now = self._env.now() // MILLISECOND
        mortal = False
        for box in self._boxes.values():
            kept: deque[Letter] = deque()
            for index, letter in enumerate(box.letters):
                if letter.expires and letter.expires <= now and index >= box.sent:
                    self._bytes -= letter.size
                    self._bury(letter, "expired")
                else:
                    mortal |= letter.expires > 0
                    kept.append(letter)
            box.letters = kept
        if mortal and not self._is_closed:
            self._sweep_later()

    def close(self) -> None:
        """Send nothing more; the letters stay on disk."""
        self._is_closed = True
        timers = [self._cutting, self._sweeping, self._looking, *(box.timer for box in self._boxes.values())]
        for timer in timers:
            if timer is not None:
                timer.cancel()
        if self._cutting is not None:
            self._cut()


def _dead_cut(letter: Letter) -> tuple[str, bytes, bytes]:
    key = number_bytes(letter.position)
    return DEAD, key, key + b"\0"


def _shown(body: bytes) -> object:
    try:
        return decode_value(body)
    except ValueRefused:
        return body


def _nothing() -> None:
    """It is on disk; nobody waited for that."""
