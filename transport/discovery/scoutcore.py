"""The scout's decisions: what to ask when, whom to believe, whom to answer. Pure: no sockets, no clock.

One multicast datagram asks "who is of this mesh?"; who is, answers by unicast. So two nodes know of each other after
one round trip (measured on Zenoh, which does the like: 3-15 ms; zeroconf needs 1.2 s). Every datagram is

    array of  body       MessagePack array: version, kind, mesh tag, node key, port, nonce, echo
              signature  the node's, for the purpose "scout", over the body

A hint is only a hint until the handshake: a replayed or relayed datagram leads at worst to one dial that fails. The
address is the datagram's source and the announced port, so a host with many interfaces is named by the one that works.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from random import Random
from typing import Annotated, Generic, TypeAlias, TypeVar

import msgspec
from msgspec import Meta

from transport.address import join_address
from transport.base import MILLISECOND, SECOND, Announcement, Hint
from transport.identity import SIGNATURE_BYTES, NodeId

VERSION = 1
DATAGRAM_BYTES_MAX = 512
NONCE_BYTES = 8
ASK, ANSWER = 0, 1

ASK_AT_NS = tuple(ms * MILLISECOND for ms in (0, 50, 200, 800))  # DESIGN 5; then slower, for ever
ASK_SLOWEST_NS = 10 * SECOND  # guess: a node that nobody heard at start is found this late at most
RESTART_NS = SECOND  # asking anew from the start happens at most this often
ANSWER_AGAIN_NS = 20 * MILLISECOND  # copies of one ask that came over several interfaces get one answer
HINT_AGAIN_NS = SECOND  # what is known already is said again at most this often
CROSSED_NS = 100 * MILLISECOND  # guess: 10 times what a dial and a handshake take on a LAN
VERIFIES_PER_S = 500  # 40 us each: strangers cost at most 2 % of a core
ANSWERS_PER_S = 200
REMEMBERED = 512  # entries of each memory below: about 100 KB in all

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
Key32: TypeAlias = Annotated[bytes, Meta(min_length=32, max_length=32)]


class Body(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a datagram says. Fields after these, of a newer version, are ignored."""

    version: Annotated[int, Meta(ge=0, le=255)]
    kind: Annotated[int, Meta(ge=0, le=255)]
    mesh_tag: Annotated[bytes, Meta(min_length=8, max_length=8)]
    node: Key32
    port: Annotated[int, Meta(ge=1, le=65535)]
    nonce: Annotated[bytes, Meta(min_length=NONCE_BYTES, max_length=NONCE_BYTES)]  # of the sender's boot
    echo: Annotated[bytes, Meta(max_length=NONCE_BYTES)]  # in an answer: the nonce that asked


class Datagram(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Body and signature as they travel."""

    body: Annotated[bytes, Meta(max_length=DATAGRAM_BYTES_MAX)]
    signature: Annotated[bytes, Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]


@dataclass(frozen=True, slots=True)
class Answer:
    """Send ``datagram`` back to where the ask came from."""

    datagram: bytes


@dataclass(frozen=True, slots=True)
class Found:
    """Tell the owner, ``after_ns`` from now."""

    hint: Hint
    after_ns: int = 0


_encoder = msgspec.msgpack.Encoder()
_datagrams = msgspec.msgpack.Decoder(Datagram)
_bodies = msgspec.msgpack.Decoder(Body)


class ScoutCore:
    """One node's scout between start and stop. ``nonce``: ``NONCE_BYTES`` of entropy, fresh each boot."""

    def __init__(self, announcement: Announcement, nonce: bytes, rng: Random, now: int) -> None:
        self.counts: Counter[str] = Counter()  # what was heard and what became of it
        self._announcement = announcement
        self._nonce = nonce
        self._rng = rng
        self._started_ns = now
        self._asked = 0
        self._next_ask_ns = now
        self._ask = self._make(ASK, b"")
        self._genuine: _Memory[bytes, Body] = _Memory()  # a node's datagrams repeat byte for byte
        self._answered: _Memory[tuple[bytes, str], int] = _Memory()
        self._told: _Memory[tuple[bytes, bytes, str], int] = _Memory()
        self._verifies = _Bucket(VERIFIES_PER_S, now)
        self._answers = _Bucket(ANSWERS_PER_S, now)

    @property
    def next_ask_ns(self) -> int:
        """When to call ``ask``."""
        return self._next_ask_ns

    def ask(self, now: int) -> bytes:
        """The datagram for every interface; sets when the next one is due."""
        self._asked += 1
        if self._asked < len(ASK_AT_NS):
            self._next_ask_ns = max(now, self._started_ns + ASK_AT_NS[self._asked])
        else:
            slower = min(ASK_SLOWEST_NS, ASK_AT_NS[-1] << (self._asked - len(ASK_AT_NS) + 1))
            self._next_ask_ns = now + int(slower * self._rng.uniform(0.75, 1.0))
        return self._ask

    def restart(self, now: int) -> None:
        """Ask as after a start: the network changed, or nobody is in sight. Too often is as once."""
        if now >= self._started_ns + RESTART_NS:
            self._started_ns = self._next_ask_ns = now
            self._asked = 0

    def on_datagram(self, now: int, raw: bytes, host: str) -> list[Answer | Found]:
        """What ``raw``, from ``host``, leads to. Any bytes are welcome; the bad ones are counted by reason."""
        body = self._read(now, raw, host)
        if isinstance(body, str):
            self.counts[body] += 1
            return []
        self.counts["asks_heard" if body.kind == ASK else "answers_heard"] += 1
        found: list[Answer | Found] = []
        address = join_address(host, body.port)
        if self._told.is_due((body.node, body.nonce, address), now, HINT_AGAIN_NS):
            self.counts["hints"] += 1
            # A question and its answer tell both ends within a millisecond. If both dialled, one conduit of two would
            # be thrown away; the smaller key's is the one that stays (DESIGN 3), so the other end holds back a little.
            holds_back = self._announcement.node > body.node
            hint = Hint("scout", (address,), NodeId(body.node))
            found.append(Found(hint, CROSSED_NS if holds_back else 0))
        if body.kind == ASK and self._answered.is_due((body.nonce, host), now, ANSWER_AGAIN_NS):
            if self._answers.take(now):
                self.counts["answered"] += 1
                found.append(Answer(self._make(ANSWER, body.nonce)))
            else:
                self.counts["answers_limited"] += 1
        return found

    def _read(self, now: int, raw: bytes, host: str) -> Body | str:
        """The body, if it is genuine and meant for us; else why not. The signature, the dear part, comes last."""
        if self._announcement.loopback_only and not _is_loopback(host):
            return "not_loopback"
        known = self._genuine.get(raw)
        if known is not None:
            return known
        if len(raw) > DATAGRAM_BYTES_MAX:
            return "bad_size"
        try:
            datagram = _datagrams.decode(raw)
            body = _bodies.decode(datagram.body)
        except (msgspec.MsgspecError, RecursionError, ValueError):
            return "bad_shape"
        if body.version != VERSION or body.kind not in (ASK, ANSWER):
            return "other_version"
        if body.mesh_tag != self._announcement.mesh_tag:
            return "other_mesh"
        if body.node == self._announcement.node:
            return "own"
        if body.kind == ANSWER and body.echo != self._nonce:
            return "not_asked"
        if not self._verifies.take(now):
            return "verifies_limited"
        if not self._announcement.verify(body.node, datagram.body, datagram.signature):
            return "bad_signature"
        self._genuine.put(raw, body)
        return body

    def _make(self, kind: int, echo: bytes) -> bytes:
        own = self._announcement
        body = _encoder.encode(Body(VERSION, kind, bytes(own.mesh_tag), bytes(own.node), own.port, self._nonce, echo))
        return _encoder.encode(Datagram(body, own.sign(body)))


def _is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host.partition("%")[0]).is_loopback


class _Memory(Generic[K, V]):
    """The last ``REMEMBERED`` keys used; the one not used for longest goes first."""

    def __init__(self) -> None:
        self._entries: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        value = self._entries.pop(key, None)
        if value is not None:
            self._entries[key] = value
        return value

    def put(self, key: K, value: V) -> None:
        self._entries.pop(key, None)
        self._entries[key] = value
        if len(self._entries) > REMEMBERED:
            del self._entries[next(iter(self._entries))]

    def is_due(self: _Memory[K, int], key: K, now: int, again_ns: int) -> bool:
        """Whether ``key`` was not let through within ``again_ns``; if so it is now."""
        last = self.get(key)
        if last is not None and now < last + again_ns:
            return False
        self.put(key, now)
        return True


class _Bucket:
    """At most ``per_s`` a second, as many at once."""

    def __init__(self, per_s: int, now: int) -> None:
        self._per_s = per_s
        self._left_ns = SECOND  # in ns of earned time; one costs SECOND / per_s
        self._at = now

    def take(self, now: int) -> bool:
        self._left_ns = min(SECOND, self._left_ns + max(0, now - self._at))
        self._at = now
        cost = SECOND // self._per_s
        if self._left_ns < cost:
            return False
        self._left_ns -= cost
        return True
