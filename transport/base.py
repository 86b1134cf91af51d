"""The seam: everything a node may ask of the world, and nothing else.

Production (``transport.system``) and the simulator (``sim.env``) are two implementations of ``Env``. Time is int
nanoseconds. Callbacks run on the event loop, one at a time, never inside the call that caused them.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol, TypeVar

from transport.identity import NodeId, Suite

T = TypeVar("T")

SECOND = 1_000_000_000
MILLISECOND = 1_000_000

FRAME_BYTES_MAX = 1 << 20  # a protocol constant: nodes must agree on what is valid
MESSAGE_BYTES_MAX = FRAME_BYTES_MAX + (64 << 10)  # one conduit message: a largest frame, and room to coalesce


class Lane(enum.IntEnum):
    """What may overtake what on one link: lower goes first. Each lane is bounded by itself."""

    CONTROL = 0  # membership, probes, digests, credit: small, needs no credit
    DIRECT = 1  # messages to one node
    BROADCAST = 2  # new changes, topics
    SYNC = 3  # repair and snapshots


class Timer(Protocol):
    """Something that will happen and can still be called off. ``cancel`` twice, or after the fact, does nothing."""

    def cancel(self) -> None: ...


class Conduit(Protocol):
    """An ordered pipe of messages to somebody not yet known: a WebSocket, a pair in memory, a simulated link.

    Not promised: that what was sent arrives. It may end at any moment, and messages in flight then vanish, unreported.
    The owner sets the three callbacks before it returns to the loop.
    """

    remote: str  # the address of the other end, for people
    binding: bytes  # 32 bytes both ends compute alike and no man in the middle can: the hash of the TLS certificate
    on_message: Callable[[bytes], None]
    on_drained: Callable[[], None]  # backlog fell to what the wire takes at once; more may be sent
    on_close: Callable[[str], None]  # exactly once, last; why, in words

    @property
    def backlog(self) -> int:
        """Bytes taken by ``send`` and not yet by the wire. A sender keeps it small; the conduit does not bound it."""

    def send(self, message: bytes) -> None:
        """Queue one message of at most ``MESSAGE_BYTES_MAX`` bytes. Never waits; after the end it does nothing."""

    def close(self, reason: str = "closed") -> None:
        """End it, after what was sent is flushed as far as the wire takes it. ``on_close`` still follows, once."""


class Link(Protocol):
    """One authenticated conversation with ``peer``. May end at any moment; frames in flight then vanish, unreported.

    In order within a lane (the urgent by themselves) and at most once while it lasts; loses frames only by ending.
    Receiving never waits on sending. Calls back on the loop, never through a task.
    """

    peer: NodeId
    dialed: bool  # we dialled it, rather than accepted
    remote: str  # the address it goes to, for people and for last-known peers
    rtt_ns: int  # of the handshake
    on_frame: Callable[[Lane, bytes], None]
    on_writable: Callable[[Lane], None]  # after a ``try_send`` that was refused: this lane has room again
    on_close: Callable[[str], None]  # exactly once, last; a cause of ``mesh.protocol.effects.LinkClosed``

    def try_send(self, lane: Lane, frame: bytes, urgent: bool = False) -> bool:
        """Queue ``frame`` (at most ``FRAME_BYTES_MAX``); ``urgent`` ones go before what else waits in the lane. False:
        it is full and nothing was taken; wait for ``on_writable``. True after the end too: lost with the link."""

    def consumed(self, lane: Lane, size: int) -> None:
        """The owner is done with ``size`` bytes that ``on_frame`` gave it: the peer gets that much credit back."""

    def close(self, cause: str) -> None:
        """End it after what was queued is flushed, as far as the wire takes it at once."""


class DialFault(enum.StrEnum):
    """Why a dial made no conduit."""

    REFUSED = "refused"  # a host answered that nobody listens there
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    TLS = "tls"
    INVALID = "invalid"  # no address at all


@dataclass(frozen=True, slots=True)
class DialFailed:
    """One address did not answer as a node would. Safe to retry."""

    address: str
    fault: DialFault
    detail: str = ""


class Listener(Protocol):
    """An open door. ``addresses`` is read anew each time, since interfaces come and go."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where others may dial, most useful first: every usable address of this host, with the port."""

    async def close(self) -> None: ...


class Transport(Protocol):
    """Opens and accepts conduits. Addresses are ``HOST:PORT``, IPv6 in brackets."""

    async def listen(self, address: str, on_conduit: Callable[[Conduit], None]) -> Listener:
        """Accept conduits at ``address`` (port 0: any). Raises ``OSError`` when the port is taken."""

    def dial(self, address: str, on_done: Callable[[Conduit | DialFailed], None], timeout_ns: int) -> Timer:
        """Try one address; ``on_done`` gets the outcome exactly once, unless cancelled before."""


@dataclass(frozen=True, slots=True)
class Hint:
    """Somebody may be there. Only a hint until the handshake."""

    source: str  # "scout", "mdns", "bootstrap", "known"
    addresses: tuple[str, ...]
    node: NodeId | None = None  # whom we would expect; None: whoever answers


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a node says about itself to the LAN."""

    mesh_tag: bytes
    node: NodeId
    port: int
    sign: Callable[[bytes], bytes]  # signs a datagram for the purpose "scout"
    verify: Callable[[bytes, bytes, bytes], bool]  # (node, datagram, signature) for the same purpose
    loopback_only: bool = False


class Discovery(Protocol):
    """One source of hints. It may fail or hang; that never hurts another source, and ``explain`` says so."""

    name: str

    async def start(self, announcement: Announcement, on_hint: Callable[[Hint], None]) -> None: ...

    def rescan(self) -> None:
        """Ask again at once: the network changed, or nobody is in sight."""

    def explain(self) -> Mapping[str, Any]:
        """What it did, and the last thing that went wrong: plain values, for ``gossamer doctor``."""

    async def stop(self) -> None: ...


Put = tuple[str, bytes, bytes]  # table, key, value
Cut = tuple[str, bytes, bytes]  # table, first key, key after the last


class Storage(Protocol):
    """Tables of records, ordered by key. ``commit`` is all or nothing, and durable when it returns.

    Values come back as they were put or not at all: what fails its checksum is left out of ``scan``, reported by
    ``damaged`` and never served. Raises ``StorageFault``, after which nothing of the batch is there.
    """

    def commit(self, puts: Sequence[Put], cuts: Sequence[Cut] = ()) -> None:
        """First the cuts, then the puts. Blocks: call it through ``Env.offload``. One at a time."""

    def get(self, table: str, key: bytes) -> bytes | None: ...

    def scan(self, table: str, first: bytes, after: bytes | None = None) -> Iterable[tuple[bytes, bytes]]:
        """Records with ``first <= key < after``, in order of their keys; lazily, so a caller may stop early."""

    def damaged(self) -> Sequence[tuple[str, bytes]]:
        """Table and key of every record found broken so far."""

    def close(self) -> None: ...


class StorageFault(Exception):
    """The disk did not take it (full, read-only, broken). Nothing of the batch is there; later ones may work."""


class StorageInUse(StorageFault):
    """Another node holds this data directory. Nothing was opened."""


class Env(Protocol):
    """The one door to the world."""

    @property
    def transport(self) -> Transport:
        """How this node reaches others."""

    @property
    def suite(self) -> Suite:
        """How it signs and verifies."""

    def now(self) -> int:
        """Wall time: ns since 1970, may jump. For stamps and people only; it decides nothing."""

    def mono(self) -> int:
        """Monotonic time in ns. Every wait and timeout is measured by it."""

    def call_at(self, when_ns: int, callback: Callable[[], None]) -> Timer:
        """Call once at ``mono() >= when_ns``."""

    def rng(self, stream: str) -> Random:
        """A generator of its own for ``stream``: draws on one stream never shift another's."""

    def entropy(self, count: int) -> bytes:
        """Bytes nobody can guess: for keys, nonces and log ids."""

    def discoveries(self) -> Sequence[Discovery]:
        """Fresh sources for the network this node is on. The caller starts and stops them."""

    def load_seed(self, data: str | None) -> bytes:
        """The 32-byte seed of the node key kept in directory ``data``, made at first use; ``None``: a fresh one.

        Raises ``StorageFault`` when others can read the key file, or it is damaged."""

    def open_storage(self, data: str | None) -> Storage:
        """The records under directory ``data``, alone; ``None``: in memory. Raises ``StorageFault``."""

    def offload(self, work: Callable[[], T], done: Callable[[T | BaseException], None]) -> None:
        """Run ``work`` off the loop, then ``done`` on it with the result or what was raised."""

    def spawn(self, task: Coroutine[Any, Any, None], name: str) -> Timer:
        """Run a coroutine beside the others; ``cancel`` ends it. What it raises is reported, never swallowed."""

    async def sleep(self, seconds: float) -> None: ...

    async def close(self) -> None:
        """Release what it holds: sockets, threads. Whoever made it closes it, after the node has stopped."""
