"""The mutants of messages: each promise of ``docs/messages.md`` is broken once in the real code, and a story notices.

``python -m tests.sim.mutants_messages [NAME …]``. How a mutant is caught, and what does not count: ``mutants.py``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

from mesh.messages import Relayed, decode, encode
from mesh.messaging.direct import Direct
from mesh.messaging.feed import Feeds
from mesh.messaging.handlers import Handlers
from mesh.messaging.inbox import Inbox
from mesh.messaging.once import Once
from mesh.messaging.outbox import Outbox
from mesh.messaging.readers import Readers
from mesh.messaging.relay import Relay
from mesh.messaging.stream import Streams
from mesh.messaging.topic import Topics
from mesh.runtime import Runtime
from tests.sim.mutants import MUTANTS, main, mutant
from transport.base import MILLISECOND, Lane
from transport.identity import NodeId

OTHERS = frozenset(MUTANTS)

# -- durable -----------------------------------------------------------------------------------------------------------


@mutant("letters", 3)
def window_not_kept() -> Iterator[None]:
    """What was handled is remembered in memory only."""
    with patch.object(Inbox, "load", lambda self: None):
        yield


@mutant("letters", 5)
def receipt_before_the_handler() -> Iterator[None]:
    """A letter is acknowledged when it comes, not when it is handled."""
    on_post = Inbox.on_post

    def at_once(self: Any, peer: Any, post: Any) -> None:
        on_post(self, peer, post)
        sender = self._senders[peer]
        sender.saved[post.life] = max(post.number, sender.saved.get(post.life, 0))
        self._owe(peer, sender, post.life)

    with patch.object(Inbox, "on_post", at_once):
        yield


@mutant("letters", 5)
def receipt_before_the_disk() -> Iterator[None]:
    """A letter is acknowledged when it is handled, not when the disk knows."""
    keep = Inbox._keep

    def early(self: Any, peer: Any, sender: Any, post: Any) -> None:
        keep(self, peer, sender, post)
        self._on_saved(peer, sender, post.life, post.number)

    with patch.object(Inbox, "_keep", early):
        yield


@mutant("letters", 5)
def promised_before_the_disk() -> Iterator[None]:
    """A durable send returns while the commit is under way."""
    store = Outbox._store

    async def early(self: Any, letter: Any, cuts: Any) -> None:
        self._env.spawn(store(self, letter, cuts), "store")

    with patch.object(Outbox, "_store", early):
        yield


@mutant("letters", 3)
def newest_letter_first() -> Iterator[None]:
    """Letters to one receiver leave in the wrong order."""
    enqueue = Outbox._enqueue

    def in_front(self: Any, letter: Any) -> None:
        enqueue(self, letter)
        box = self._boxes[NodeId(letter.to)]
        if len(box.letters) > box.sent + 1:
            box.letters.insert(box.sent, box.letters.pop())

    with patch.object(Outbox, "_enqueue", in_front):
        yield


@mutant("letters", 10)
def letter_skipped_after_a_failure() -> Iterator[None]:
    """What was on its way when a link ended counts as sent."""

    def go_on(self: Any, peer: Any) -> None:
        self._linked[peer] = None
        if box := self._boxes.get(peer):
            box.not_before = 0
            self._pump(peer)

    with patch.object(Outbox, "linked", go_on), patch.object(Outbox, "lost", lambda self, peer: None):
        yield


@mutant("away", 1)
def time_to_live_ignored() -> Iterator[None]:
    """Nobody looks whether a letter's time is up."""
    with patch.object(Outbox, "_sweep", lambda self: None):
        yield


@mutant("away", 1)
def expired_in_silence() -> Iterator[None]:
    """A letter whose time is up is gone, and nobody is told."""

    def forget(self: Any, letter: Any, reason: str) -> None:
        self._journal.append([], [("outbox", letter.key, letter.key + b"\0")], saved=lambda: None)

    with patch.object(Outbox, "_bury", forget):
        yield


@mutant("away", 1)
def outbox_in_memory() -> Iterator[None]:
    """A node that starts again does not look what it still has to send."""
    with patch.object(Outbox, "load", lambda self: None):
        yield


# -- asked and told ----------------------------------------------------------------------------------------------------


@mutant("calls", 3)
def asked_again_on_a_new_link() -> Iterator[None]:
    """A question that got no answer before its link ended is asked once more."""
    ask, linked = Direct.ask, Outbox.linked
    asked: dict[Any, dict[NodeId, list[Any]]] = {}

    async def remember(self: Any, peer: Any, message: Any, *how: Any) -> None:
        asked.setdefault(self._send.__self__, {}).setdefault(peer, []).append(message)
        await ask(self, peer, message, *how)

    def again(self: Any, peer: Any) -> None:
        for message in asked.get(self._send.__self__, {}).pop(peer, ())[-3:]:
            self._send(peer, message)
        linked(self, peer)

    with patch.object(Direct, "ask", remember), patch.object(Outbox, "linked", again):
        yield


@mutant("calls", 3)
def busy_after_all() -> Iterator[None]:
    """A question is refused as "busy, nothing ran" when its handler was slow."""
    ask = Handlers._ask

    async def late(self: Any, peer: Any, message: Any, handler: Any, context: Any, limit: float) -> Any:
        began = self._env.mono()
        reply = await ask(self, peer, message, handler, context, limit)
        if reply is not None and self._env.mono() - began > 150 * MILLISECOND:
            return type(reply)(reply.number, "busy", b"\xc0")
        return reply

    with patch.object(Handlers, "_ask", late):
        yield


@mutant("calls", 2)
def keys_forgotten() -> Iterator[None]:
    """A question under a key runs its handler each time it comes."""
    with (
        patch.object(Once, "answer", lambda self, slot, now: None),
        patch.object(Once, "join", lambda self, slot, asker: False),
        patch.object(Once, "end", lambda self, slot, answer, now: [(slot[0], self.last)]),
        patch.object(Once, "begin", lambda self, slot: None),
        patch.object(Handlers, "_answer_once", _answers_each),
    ):
        yield


async def _answers_each(self: Any, peer: Any, message: Any, handler: Any, context: Any, slot: Any) -> None:
    reply = await self._ask(peer, message, handler, context, 60.0)
    if reply is not None:
        await self._reply(peer, reply)


@mutant("calls", 3)
def a_message_is_sent_both_ways() -> Iterator[None]:
    """What goes to a neighbour goes over others too, to be sure."""
    send = Runtime._send_anyhow

    def twice(self: Any, peer: Any, message: Any, *how: Any) -> bool:
        self.relay.send(peer, message)
        return send(self, peer, message, *how)

    with patch.object(Runtime, "_send_anyhow", twice):
        yield


# -- streams -----------------------------------------------------------------------------------------------------------


@mutant("calls", 1)
def credit_of_streams_leaks() -> Iterator[None]:
    """A reader never gives credit for what it read."""
    with (
        patch.object(Streams, "_taken", lambda self, number, reader, size: None),
        patch("mesh.messaging.stream.WINDOW_BYTES", 4_000),
    ):
        yield


@mutant("calls", 3)
def first_items_again() -> Iterator[None]:
    """A reader over others takes an item that it has."""
    on_item, on_grant = Streams._on_item, Feeds._on_grant

    def anything(self: Any, number: int, reader: Any, body: bytes, seq: int) -> None:
        if seq and reader.is_far:
            reader.have = seq - 1
        on_item(self, number, reader, body, seq)

    def all_again(self: Any, peer: Any, feed: Any, total: int, have: int) -> None:
        on_grant(self, peer, feed, total, 0)

    with patch.object(Streams, "_on_item", anything), patch.object(Feeds, "_on_grant", all_again):
        yield


# -- relays ------------------------------------------------------------------------------------------------------------


@mutant("calls", 2)
def sealed_for_the_wrong_key() -> Iterator[None]:
    """A message for others is sealed with a key that its receiver does not have."""
    key = Relay._key

    def wrong(self: Any, other: Any) -> Any:
        made = key(self, other)
        return None if made is None else bytes(reversed(made)) if self._identity.id < other else made

    with patch.object(Relay, "_key", wrong):
        yield


@mutant("calls", 2)
def not_sealed_at_all() -> Iterator[None]:
    """Relays are handed the message itself."""
    sodium = "mesh.messaging.relay.sodium.crypto_aead_xchacha20poly1305_ietf_"
    with (
        patch(sodium + "encrypt", lambda message, header, nonce, key: message),
        patch(sodium + "decrypt", lambda box, header, nonce, key: box),
    ):
        yield


@mutant("calls", 5)
def relays_in_a_circle() -> Iterator[None]:
    """A relay does not know again what it handed on, and finds no end."""
    with patch.object(Relay, "_note", lambda self, sender, number: None):
        yield


@mutant("calls", 3)
def no_way_over_others() -> Iterator[None]:
    """Nobody hands anything on."""
    with patch.object(Relay, "_hand_on", lambda self, message, raw, source: False):
        yield


@mutant("ring", 2)
def taking_in_waits_on_handing_on() -> Iterator[None]:
    """A relay keeps what it has no room for, and takes in nothing more until it has."""
    on_frame = Runtime._on_frame

    def wait(self: Any, link: Any, lane: Any, raw: bytes) -> None:
        message = decode(link.peer, raw) if lane is Lane.DIRECT else None
        if not isinstance(message, Relayed) or message.to == self.identity.id:
            on_frame(self, link, lane, raw)
            return
        if (message.sender, message.number) in self.relay._seen:
            link.consumed(lane, len(raw))
            return
        self.relay._note(message.sender, message.number)
        self.relay.heard(NodeId(message.sender), link.peer)
        onward = Relayed(message.to, message.sender, message.number, message.hops - 1, message.box)

        def again() -> None:
            if self._closed or self.relay._hand_on(onward, encode(onward), link.peer):
                link.consumed(lane, len(raw))
            else:
                self.env.call_at(self.env.mono() + 10 * MILLISECOND, again)

        again()

    with patch.object(Runtime, "_on_frame", wait):
        yield


# -- topics ------------------------------------------------------------------------------------------------------------


@mutant("topics", 2)
def losses_not_counted() -> Iterator[None]:
    """What a node missed for good is not told to its readers."""
    with patch.object(Readers, "lose", lambda self, count, reason: None):
        yield


@mutant("topics", 2)
def repeats_are_delivered() -> Iterator[None]:
    """A topic frame that comes again is read again."""
    take = Topics._take

    def twice(self: Any, log: Any, pending: Any) -> None:
        take(self, log, pending)
        if pending.frame.last == log.head.seq:
            self._readers.deliver(pending.frame, is_own=False)

    with patch.object(Topics, "_take", twice):
        yield


@mutant("topics", 2)
def gaps_are_jumped() -> Iterator[None]:
    """A frame is read although one before it is missing."""
    take = Topics._take

    def jump(self: Any, log: Any, pending: Any) -> None:
        if pending.frame.first > log.head.seq + 1:
            log.head = type(log.head)(pending.frame.first - 1, pending.frame.previous)
        take(self, log, pending)

    with patch.object(Topics, "_take", jump):
        yield


if __name__ == "__main__":
    sys.exit(bool(main(sys.argv[1:] or [name for name in MUTANTS if name not in OTHERS])))
