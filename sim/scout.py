"""Discovery inside a world: the scout's question by multicast, its answer by unicast, both as lossy datagrams.

Asked at 0, 50, 200 and 800 ms, then after twice as long each time, up to 10 s, and less by a draw: as the real scout
(``transport.discovery.scoutcore``), so that no period stays in step with a fault's. Question and answer both carry who
speaks, signed; each is a hint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from sim.machine import Process
from sim.occurrence import Occurrence
from transport.base import MILLISECOND, SECOND, Announcement, Hint
from transport.errors import Misuse
from transport.identity import NodeId

if TYPE_CHECKING:
    from sim.network import Network

ASK_AT_NS = (0, 50 * MILLISECOND, 200 * MILLISECOND, 800 * MILLISECOND)
ASK_SLOWEST_NS = 10 * SECOND


class Call(msgspec.Struct, frozen=True, array_like=True):
    """One datagram: who speaks, where it listens, and whether it wants an answer."""

    mesh_tag: bytes
    node: bytes
    port: int
    wants_answer: bool
    number: int


class SimScout:
    """``transport.base.Discovery`` on the one segment all machines of a world share."""

    name = "scout"

    def __init__(self, network: Network, process: Process) -> None:
        self._network = network
        self.process = process
        self._announcement: Announcement | None = None
        self._on_hint: Callable[[Hint], None] = lambda hint: None
        self._timers: list[Occurrence] = []
        self._number = 0
        self._slower = ASK_AT_NS[-1]
        self._rng = process.stream("scout")
        self._counts = dict.fromkeys(("asked", "answered", "heard", "refused"), 0)

    async def start(self, announcement: Announcement, on_hint: Callable[[Hint], None]) -> None:
        if self._announcement is not None:
            raise Misuse("this scout is started already")
        self._announcement, self._on_hint = announcement, on_hint
        self._network.segment[self] = None
        self.rescan()

    def rescan(self) -> None:
        """Ask again at 0, 50, 200 and 800 ms from now."""
        for timer in self._timers:
            timer.cancel()
        now = self.process.loop.now
        self._timers = [self.process.at(now + wait, self._ask) for wait in ASK_AT_NS]
        self._slower = ASK_AT_NS[-1]
        self._timers.append(self.process.at(now + ASK_AT_NS[-1] + self._pause(), self._ask_on))

    def _pause(self) -> int:
        self._slower = min(ASK_SLOWEST_NS, 2 * self._slower)
        return int(self._slower * (0.75 + 0.25 * self._rng.random()))

    def explain(self) -> Mapping[str, Any]:
        return {"asked": self._counts["asked"], **self._counts, "segment": len(self._network.segment)}

    async def stop(self) -> None:
        self._announcement = None
        self._network.segment.pop(self, None)
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def _ask_on(self) -> None:
        self._timers = [self.process.at(self.process.loop.now + self._pause(), self._ask_on)]
        self._ask()

    def _call(self, wants_answer: bool) -> bytes | None:
        said = self._announcement
        if said is None or said.loopback_only:
            return None  # nobody but this machine could reach it
        self._number += 1
        call = msgspec.msgpack.encode(Call(said.mesh_tag, bytes(said.node), said.port, wants_answer, self._number))
        return said.sign(call) + call

    def _ask(self) -> None:
        raw = self._call(True)
        if raw is not None:
            self._counts["asked"] += 1
            for other in list(self._network.segment):
                if other is not self:
                    self._send(other, raw)

    def _send(self, other: SimScout, raw: bytes) -> None:
        here, there = self.process.machine, other.process.machine

        def arrives() -> None:
            other.process.call(other._heard, self, here.address, raw)

        self._network.multicast(self.name, here, there, raw, arrives)

    def _heard(self, asker: SimScout, host: str, raw: bytes) -> None:
        own = self._announcement
        if own is None:
            return
        signature, datagram = raw[:64], raw[64:]
        try:
            call = msgspec.msgpack.decode(datagram, type=Call)
            node = NodeId(call.node)
        except (msgspec.MsgspecError, ValueError):
            self._counts["refused"] += 1
            return
        if call.mesh_tag != own.mesh_tag or node == own.node:
            return
        if not own.verify(call.node, datagram, signature):
            self._counts["refused"] += 1
            return
        self._counts["heard"] += 1
        if call.wants_answer:
            answer = self._call(False)
            if answer is not None:
                self._counts["answered"] += 1
                self._send(asker, answer)
        self._on_hint(Hint(self.name, (f"{host}:{call.port}",), node))
