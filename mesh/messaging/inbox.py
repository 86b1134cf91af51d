"""Letters of others: handled one after another, each sender's in order, and not again while the window remembers.

What a handler wrote to this node's spaces since its last await (up to 255 changes) is committed together with the
mark that the letter was handled, all or nothing: such a handler runs exactly once. What it did elsewhere may happen
again if this node falls between the handler's end and that commit (some milliseconds): the letter then comes again,
under the same ``id``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from mesh.messages import Post, Receipt
from mesh.messaging.faults import BUSY, DISK, Fault
from mesh.messaging.letter import INBOX, NUMBER_BYTES, inbox_key, letter_id, number_bytes, read_inbox_key
from mesh.messaging.outbox import WINDOW_LETTERS
from transport.base import MILLISECOND, Cut, Env, Put, Storage, StorageFault, Timer
from transport.identity import NodeId

QUEUE_MAX = 4 * WINDOW_LETTERS  # of one sender, waiting for the handler; a correct one never has more on their way
LIVES_MAX = 16  # of one sender that are remembered: the window against repeats
ROWS_MAX = 65_536  # of all senders
TURN = 64  # letters handled before the loop may do something else
WORDS_MAX = 250


class Commit(Protocol):
    """Makes records durable together with what spaces wrote so far."""

    def __call__(
        self, puts: Sequence[Put], cuts: Sequence[Cut], *, saved: Callable[[], None],
        lost: Callable[[StorageFault], None],
    ) -> None: ...  # fmt: skip


class Take(Protocol):
    """Has a message handled, and says what went wrong; None: it was handled, now or before."""

    async def __call__(self, peer: NodeId, body: bytes, about: bytes, letter: str) -> Fault | None: ...


class _Sender:
    """One sender's letters. Per life, the last number: ``saved`` on disk, ``handled``, ``taken`` into the queue."""

    __slots__ = ("handled", "is_owing", "owed", "queue", "refusal", "refused", "saved", "taken", "turn", "worker")

    def __init__(self) -> None:
        self.queue: deque[Post] = deque()
        self.saved: dict[bytes, int] = {}
        self.handled: dict[bytes, int] = {}
        self.taken: dict[bytes, int] = {}
        self.refused = -1  # letters of this attempt, or an earlier one, follow one that was refused: not their turn
        self.refusal: Receipt | None = None  # told once what was handled before is on disk, and so acknowledged
        self.owed: dict[bytes, int] = {}
        self.is_owing = False
        self.turn = 0  # which of a life's two rows is written next
        self.worker: Timer | None = None


class Inbox:
    """One node's letters from others. ``take`` has one handled."""

    def __init__(
        self, env: Env, storage: Storage, *, take: Take, commit: Commit, send: Callable[[NodeId, Receipt], object]
    ) -> None:
        self._env, self._storage, self._take, self._commit, self._send = env, storage, take, commit, send
        self._senders: dict[NodeId, _Sender] = {}
        self._rows: dict[tuple[NodeId, bytes], None] = {}  # what the window remembers, the oldest first
        self._is_closed = False

    def load(self) -> None:
        """Take up the window from disk. Raises ``StorageFault``."""
        rows = []
        for key, value in self._storage.scan(INBOX, b""):
            sender, life = read_inbox_key(key)
            number = int.from_bytes(value[:NUMBER_BYTES], "big")
            rows.append((value[NUMBER_BYTES:], number, key[-1], sender, life))
        for _, number, turn, sender, life in sorted(rows):
            self._rows.pop((sender, life), None)
            self._rows[sender, life] = None
            of = self._senders.setdefault(sender, _Sender())
            if number >= of.saved.get(life, 0):
                of.saved[life] = of.handled[life] = of.taken[life] = number
                of.turn = turn  # the newest row is kept, the older one is written next

    def linked(self, peer: NodeId) -> None:
        """A new link to ``peer``: attempts are counted anew."""
        if sender := self._senders.get(peer):
            sender.refused, sender.refusal = -1, None

    def on_post(self, peer: NodeId, post: Post) -> None:
        """A letter came from ``peer``."""
        sender = self._senders.setdefault(peer, _Sender())
        if self._is_closed or post.run <= sender.refused:
            return  # it comes again
        if post.number <= sender.saved.get(post.life, 0):
            self._owe(peer, sender, post.life)
        elif post.number <= sender.taken.get(post.life, 0):
            return  # waiting here, or being handled, or on its way to the disk
        elif len(sender.queue) >= QUEUE_MAX:
            self._refuse(peer, sender, post, BUSY, "")
        else:
            sender.taken[post.life] = post.number
            sender.queue.append(post)
            if sender.worker is None:
                sender.worker = self._env.spawn(self._work(peer, sender), f"letters of {peer.short}")

    async def _work(self, peer: NodeId, sender: _Sender) -> None:
        try:
            count = 0
            while sender.queue:
                await self._handle(peer, sender, sender.queue.popleft())
                count += 1
                if count % TURN == 0:
                    await self._env.sleep(0)
        finally:
            sender.worker = None

    async def _handle(self, peer: NodeId, sender: _Sender, post: Post) -> None:
        fault = await self._take(peer, post.body, post.about, letter_id(post.life, post.number))
        if fault is None:
            self._keep(peer, sender, post)
        else:  # of this node's disk the letter is not to blame: it is only too early
            self._refuse(peer, sender, post, BUSY if fault.error == DISK else fault.error, fault.words)

    def _refuse(self, peer: NodeId, sender: _Sender, post: Post, error: str, words: str) -> None:
        """Not this one, and so none behind it: they come again with the next attempt, in order."""
        sender.queue.clear()
        sender.taken = dict(sender.handled)
        sender.refused = post.run
        known = sender.refusal
        if known is None or known.life != post.life or known.number > post.number:
            sender.refusal = Receipt(post.life, post.number, post.run, error, words[:WORDS_MAX])
        self._acknowledge_soon(peer, sender)

    def _keep(self, peer: NodeId, sender: _Sender, post: Post) -> None:
        """Remember that it was handled, with what the handler wrote; then acknowledge."""
        life, number = post.life, post.number
        sender.handled[life] = number
        stamp = max(0, self._env.now() // MILLISECOND)
        sender.turn += 1
        puts = [(INBOX, inbox_key(peer, life, sender.turn), number_bytes(number) + number_bytes(stamp))]
        self._commit(
            puts, self._make_room(peer, sender, life), saved=partial(self._on_saved, peer, sender, life, number),
            lost=lambda fault: self._on_lost(peer, sender, post, fault),
        )  # fmt: skip

    def _make_room(self, peer: NodeId, sender: _Sender, life: bytes) -> list[Cut]:
        """Rows that the window forgets, so that it remembers this one."""
        if (peer, life) in self._rows:
            return []
        gone: list[tuple[NodeId, bytes]] = []
        lives = [each for each in self._rows if each[0] == peer] if len(sender.handled) > LIVES_MAX else []
        gone += lives[: max(0, len(lives) - LIVES_MAX + 1)]
        if not gone and len(self._rows) >= ROWS_MAX:
            gone.append(next(iter(self._rows)))
        for who, old in gone:
            del self._rows[who, old]
            for table in (self._senders[who].saved, self._senders[who].handled, self._senders[who].taken):
                table.pop(old, None)
        self._rows[peer, life] = None
        return [(INBOX, inbox_key(*each, 0), inbox_key(*each, 1) + b"\0") for each in gone]

    def _on_saved(self, peer: NodeId, sender: _Sender, life: bytes, number: int) -> None:
        sender.saved[life] = number
        self._owe(peer, sender, life)

    def _on_lost(self, peer: NodeId, sender: _Sender, post: Post, fault: StorageFault) -> None:
        """The disk refused: what the handler wrote to spaces was taken back with it, so it must run again."""
        sender.handled = dict(sender.saved)
        self._refuse(peer, sender, post, BUSY, str(fault))

    def _owe(self, peer: NodeId, sender: _Sender, life: bytes) -> None:
        """Acknowledge at the next turn of the loop: one receipt for all that one commit brought."""
        sender.owed[life] = sender.saved[life]
        self._acknowledge_soon(peer, sender)

    def _acknowledge_soon(self, peer: NodeId, sender: _Sender) -> None:
        if not sender.is_owing:
            sender.is_owing = True
            self._env.call_at(self._env.mono(), partial(self._acknowledge, peer, sender))

    def _acknowledge(self, peer: NodeId, sender: _Sender) -> None:
        sender.is_owing = False
        owed, sender.owed = sender.owed, {}
        for life, number in owed.items():
            self._send(peer, Receipt(life, number, 0, "", ""))
        if sender.refusal is not None and sender.saved == sender.handled:
            refusal, sender.refusal = sender.refusal, None
            self._send(peer, refusal)

    def close(self) -> None:
        """Handle nothing more; what is not acknowledged comes again."""
        self._is_closed = True
        for sender in self._senders.values():
            sender.queue.clear()
            if sender.worker is not None:
                sender.worker.cancel()
