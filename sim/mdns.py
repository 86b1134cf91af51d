"""The second discovery inside a world: what zeroconf does to a network, without its code.

A service is registered 1.2 s after its start (RFC 6762 probes three times before it announces), announced twice, and
told again to whoever asks, after 20 to 120 ms. A browser asks at once, after 1 s, and then after three times as long
each time, up to an hour; it tells of a service when it first hears of it. So alone it is slow, and after a cut slower.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from sim.machine import Process
from sim.occurrence import Occurrence
from transport.base import MILLISECOND, SECOND, Announcement, Hint
from transport.errors import Misuse
from transport.identity import NodeId

if TYPE_CHECKING:
    from sim.network import Network

START_NS = 500 * MILLISECOND  # as the real one, which lets the scout go first
REGISTER_NS = 1200 * MILLISECOND
AGAIN_NS = SECOND  # the second announcement
ANSWER_NS = (20 * MILLISECOND, 100 * MILLISECOND)  # at least, and a draw of so many more
ASK_SLOWEST_NS = 3600 * SECOND


class Service(msgspec.Struct, frozen=True, array_like=True):
    """What SRV and TXT records say of one node; ``port`` 0 with an empty node: a question."""

    mesh_tag: bytes
    node: bytes
    port: int
    instance: bytes


class SimMdns:
    """``transport.base.Discovery`` on the one segment all machines of a world share. Unsigned: each is a hint."""

    name = "mdns"

    def __init__(self, network: Network, process: Process) -> None:
        self._network = network
        self.process = process
        self._announcement: Announcement | None = None
        self._on_hint: Callable[[Hint], None] = lambda hint: None
        self._timers: dict[Occurrence, None] = {}
        self._known: dict[bytes, None] = {}  # instances heard of
        self._rng = process.stream("mdns")
        self._instance = b""
        self._is_registered = False
        self._counts = dict.fromkeys(("asked", "answered", "services_heard", "hints"), 0)

    async def start(self, announcement: Announcement, on_hint: Callable[[Hint], None]) -> None:
        if self._announcement is not None:
            raise Misuse("this browser is started already")
        self._announcement, self._on_hint = announcement, on_hint
        self._instance = self._rng.randbytes(16)  # another one in each life: nobody's cache keeps it from being news
        if not announcement.loopback_only:  # nobody but this machine could reach it
            self._network.responders[self] = None
            self._after(START_NS, partial(self._ask, SECOND))
            self._after(START_NS + REGISTER_NS, self._announce)
            self._after(START_NS + REGISTER_NS + AGAIN_NS, self._announce)

    def rescan(self) -> None:
        """A browser asks by itself; asking more often is against RFC 6762."""

    def explain(self) -> Mapping[str, Any]:
        return {"state": "announced" if self._timers else "stopped", **self._counts}

    async def stop(self) -> None:
        self._announcement = None
        self._network.responders.pop(self, None)
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def _after(self, wait: int, act: Callable[[], None]) -> None:
        def due() -> None:
            del self._timers[timer]
            act()

        timer = self.process.at(self.process.loop.now + wait, due)
        self._timers[timer] = None

    def _ask(self, wait: int) -> None:
        self._counts["asked"] += 1
        self._tell_all(Service(b"", b"", 0, b""))
        self._after(wait, partial(self._ask, min(ASK_SLOWEST_NS, 3 * wait)))

    def _announce(self) -> None:
        said = self._announcement
        if said is not None:
            self._is_registered = True
            self._tell_all(Service(said.mesh_tag, bytes(said.node), said.port, self._instance))

    def _tell_all(self, service: Service) -> None:
        raw = msgspec.msgpack.encode(service)
        for other in list(self._network.responders):
            if other is not self:
                self._send(other, raw)

    def _send(self, other: SimMdns, raw: bytes) -> None:
        here, there = self.process.machine, other.process.machine

        def arrives() -> None:
            other.process.call(other._heard, here.address, raw)

        self._network.multicast(self.name, here, there, raw, arrives)

    def _heard(self, host: str, raw: bytes) -> None:
        own = self._announcement
        if own is None:
            return
        service = msgspec.msgpack.decode(raw, type=Service)
        if not service.node:
            if not self._is_registered:
                return
            self._counts["answered"] += 1
            self._after(ANSWER_NS[0] + self._rng.randrange(ANSWER_NS[1]), self._announce)
            return
        self._counts["services_heard"] += 1
        if service.mesh_tag == own.mesh_tag and service.instance not in self._known:
            self._known[service.instance] = None
            self._counts["hints"] += 1
            self._on_hint(Hint(self.name, (f"{host}:{service.port}",), NodeId(service.node)))
