"""Who reads topics on this node: each message of a frame to those whose pattern matches, and what is told of losses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import count, repeat
from typing import Annotated

import msgspec
from msgspec import Meta

from mesh.messages import ABOUT
from mesh.messaging.pattern import TOPIC_BYTES_MAX
from mesh.messaging.subscription import Subscription
from mesh.protocol.facts import Dropped, Fact
from transport.base import SECOND, Env, Timer
from transport.codec import VALUE_BYTES_MAX
from transport.frame import SignedFrame
from transport.identity import NodeId

ROUTES_MAX = 4096  # topics whose readers are remembered; beyond, they are looked for again
TOLD_EVERY_NS = 1 * SECOND  # a loss is counted at once, and told as a fact so often at most

_Topic = Annotated[str, Meta(max_length=TOPIC_BYTES_MAX)]
_Body = Annotated[bytes, Meta(max_length=VALUE_BYTES_MAX)]


class _Item(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One message with all that may travel beside it; fields of a newer version are not read."""

    topic: _Topic
    body: _Body
    about: ABOUT = b""


_plain: msgspec.msgpack.Decoder[list[tuple[str, bytes]]] = msgspec.msgpack.Decoder(list[tuple[_Topic, _Body]])
_whole: msgspec.msgpack.Decoder[list[_Item]] = msgspec.msgpack.Decoder(list[_Item])


def _read(body: bytes, first: int) -> tuple[list[tuple[str, bytes]], dict[int, bytes]]:
    """Topics and bodies of a frame, and what travels beside some of them, by sequence. Nothing:
    it is not well formed."""
    try:
        return _plain.decode(body), {}
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError):
        pass  # not all of them are plain
    try:
        items = _whole.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError):
        return [], {}
    abouts = {at: each.about for at, each in enumerate(items, first) if each.about}
    return [(each.topic, each.body) for each in items], abouts


class Readers:
    """The open subscriptions of one node. Cost: O(1) a frame whose messages all have the same readers."""

    def __init__(
        self, env: Env, bytes_max: int, *, tell: Callable[[Fact], None],
        on_broadcast: Callable[[NodeId, bytes, bytes], None], dropped: Counter[str],
    ) -> None:  # fmt: skip
        self._env, self._bytes_max, self._tell, self._on_broadcast = env, bytes_max, tell, on_broadcast
        self._dropped = dropped
        self._readers: dict[Subscription, None] = {}
        self._routes: dict[str, tuple[Subscription, ...]] = {}
        self._untold: Counter[str] = Counter()
        self._told = -TOLD_EVERY_NS  # monotonic ns of the last time
        self._telling: Timer | None = None

    def subscribe(self, pattern: str) -> Subscription:
        """A reader of what matches ``pattern``, from when it is entered."""
        return Subscription(
            pattern, self._bytes_max, opened=self._on_opened, closed=self._on_closed, drop=self.drop
        )  # fmt: skip

    def _on_opened(self, reader: Subscription) -> None:
        self._readers[reader] = None
        self._routes.clear()

    def _on_closed(self, reader: Subscription) -> None:
        self._readers.pop(reader, None)
        self._routes.clear()

    def end(self) -> None:
        """Nothing more comes: readers read what they have, and end."""
        for reader in tuple(self._readers):
            reader.end()
        if self._telling is not None:
            self._telling.cancel()
            self._tell_all()

    def deliver(self, frame: SignedFrame, *, is_own: bool) -> None:
        """Hand the messages of a frame to whom they are for; this node's own broadcasts are not for itself."""
        if is_own and not self._readers:
            return
        items, abouts = _read(frame.body, frame.first)
        if len(items) != frame.count:
            self.lose(frame.count, "not a message")
            return
        origin = frame.origin
        topics = dict.fromkeys([topic for topic, _ in items])
        readers = {self._route(topic): None for topic in topics}
        if len(readers) == 1:  # nearly always: one topic, or the same readers for all of them
            for reader in next(iter(readers)):
                reader.put(
                    zip(items, repeat(origin), count(frame.first), strict=False), len(items), len(frame.raw), abouts
                )
        else:
            for reader in dict.fromkeys(each for group in readers for each in group):
                mine = [
                    (item, origin, at)
                    for at, item in enumerate(items, frame.first)
                    if reader in self._route(item[0])
                ]  # fmt: skip
                reader.put(iter(mine), len(mine), sum([len(item[1]) for item, _, _ in mine]), abouts)
        if not is_own and "" in topics:
            for at, (topic, body) in enumerate(items, frame.first):
                if not topic:
                    self._on_broadcast(origin.node, body, abouts.get(at, b""))

    def _route(self, topic: str) -> tuple[Subscription, ...]:
        if (known := self._routes.get(topic)) is not None:
            return known
        if len(self._routes) >= ROUTES_MAX:
            self._routes.clear()
        found = tuple(each for each in self._readers if topic and each.pattern.matches(topic))
        self._routes[topic] = found
        return found

    def lose(self, count: int, reason: str) -> None:
        """``count`` messages will never come; nobody knows on what topics."""
        for reader in self._readers:
            reader.lose(count)
        self.drop(reason, count)

    def drop(self, reason: str, count: int) -> None:
        """Count what was not delivered; tell it as a fact, but not for every message."""
        self._dropped[reason] += count
        self._untold[reason] += count
        if self._telling is None:
            self._telling = self._env.call_at(max(self._env.mono(), self._told + TOLD_EVERY_NS), self._tell_all)

    def _tell_all(self) -> None:
        self._telling = None
        self._told = self._env.mono()
        untold, self._untold = self._untold, Counter()
        for reason, many in sorted(untold.items()):
            self._tell(Dropped(reason, many))
