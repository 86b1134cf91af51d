"""Streams that behave as TCP does when things go wrong: ``transport.base.Conduit`` on a simulated network.

A message on a conduit is tried at the moment it leaves. Dropped (loss, a cut, a machine without power), it is tried
again after 0.2 s, 0.4 s, 0.8 s … as a kernel retransmits; what follows waits behind it; after 15 s of that the sender's
end closes ("timed out") and the other end learns nothing until it sends and is answered by a reset. So a cut is
silence, a heal is noticed at the next retransmission, and a half-open conduit stays half open.

A killed process closes its conduits, since its kernel lives on; a power cut tells nobody.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

from sim.machine import Process
from sim.network import DROPPED, HELD, Path
from sim.trace import mark
from transport.base import MESSAGE_BYTES_MAX, MILLISECOND, SECOND

WINDOW_BYTES: Final = 256 << 10  # what a kernel's socket takes at once; what is above it is the sender's backlog
RETRANSMIT_NS: Final = 200 * MILLISECOND  # Linux' smallest retransmission timeout; doubles each time
GIVE_UP_NS: Final = 15 * SECOND  # a stream that got nothing through for so long is closed


class Packet:
    """One message of a stream, or its end (``raw`` is None)."""

    __slots__ = ("raw", "reason", "size", "text")

    def __init__(self, label: str, raw: bytes | None, reason: str = "") -> None:
        self.raw = raw
        self.reason = reason
        self.size = 40 if raw is None else len(raw)
        self.text = "" if raw is None else f"{label} {len(raw)} {mark(raw)}"  # as the trace names it


class Flow:
    """One direction of a conduit: what is queued, what is under way, and when it is tried again."""

    def __init__(self, path: Path, near: SimConduit, label: str) -> None:
        self.path = path
        self.near = near
        self.far: SimConduit
        self.label = label
        self.queue: deque[Packet] = deque()
        self.flying: deque[Packet] = deque()
        self._arrival = partial(self._arrive, 0)
        self.unarrived = 0  # bytes taken and not yet acknowledged
        self.halted = False  # the sending kernel is gone, or gave up
        self._stalled = False
        self._stalled_since: int | None = None
        self._attempts = 0
        self._flight = 0  # a number of this flight; arrivals of an abandoned one are stale
        self._last_arrival = 0
        self._busy_until = 0
        self._unacked = 0
        self._unacked_since: int | None = None

    def put(self, packet: Packet) -> None:
        """Queue it and send what can be sent."""
        self.queue.append(packet)
        if packet.raw is not None:
            self.unarrived += packet.size
        if not self._stalled:
            self.pump()

    def pump(self) -> None:
        """Let everything leave that can."""
        network = self.path.network
        now = network.loop.now
        while self.queue and not self._stalled and not self.halted:
            packet = self.queue[0]
            delay = self.path.judge(packet.size, network.frames)
            if delay == HELD:
                self._stalled = True
                network.holding[self] = None
                return
            if delay == DROPPED:
                self._stall()
                return
            limit = self.path.rate()
            if limit is not None and limit[1].is_full(self._busy_until - now):
                limit[1].fire()
                network.frames["lost"] += 1
                self._stall()
                return
            self.queue.popleft()
            if self._attempts:
                network.frames["delayed"] += 1
            leaves = now
            if limit is not None:
                self._busy_until = max(now, self._busy_until) + packet.size * SECOND // limit[0]
                leaves = self._busy_until
                limit[1].fire()
            arrives = max(leaves + delay, self._last_arrival + 1)
            self._last_arrival = arrives
            self.flying.append(packet)
            network.loop.at(arrives, self._arrival, self.path.source)

    def _stall(self) -> None:
        """The packet in front was lost: try again later, twice as late each time, then give up."""
        loop = self.path.network.loop
        self._stalled = True
        if self._stalled_since is None:
            self._stalled_since = loop.now
        if self._attempts == 0:  # the first is often noticed sooner, by what arrives behind it
            wait = 2 * MILLISECOND + self.path.rng.randrange(RETRANSMIT_NS)
        else:
            wait = RETRANSMIT_NS << min(self._attempts, 10)
        self._attempts += 1
        if loop.now + wait - self._stalled_since > GIVE_UP_NS:
            loop.at(self._stalled_since + GIVE_UP_NS, self._give_up, self.path.source)
        else:
            loop.at(loop.now + wait, self.wake, self.path.source)

    def wake(self) -> None:
        """Try again now."""
        self._stalled = False
        self.pump()

    def _give_up(self) -> None:
        if not self.halted:
            self.halt()
            self.near.lose("timed out")

    def halt(self) -> None:
        """Nothing more leaves; what is on the wire still arrives."""
        self.halted = True
        self.queue.clear()
        self.path.network.holding.pop(self, None)

    def _arrive(self, flight: int) -> None:
        if flight != self._flight:
            return
        network = self.path.network
        if self.path.severed():
            network.frames["cut"] += len(self.flying)
            self._flight += 1
            self._arrival = partial(self._arrive, self._flight)
            if not self.halted:
                self.queue.extendleft(reversed(self.flying))
                if not self._stalled:
                    self._stall()
            self.flying.clear()
            return
        self._attempts, self._stalled_since = 0, None
        packet = self.flying.popleft()
        if packet.raw is None:
            self.far.lose(packet.reason)
            self.halt()
            return
        if self.far.gone:
            if self.far.flow.halted or not self.far.flow.queue:
                self._refuse()
            return
        self.far.process.call(self._hand_over, packet)

    def _hand_over(self, packet: Packet) -> None:
        """The receiving program reads it, and its kernel acknowledges."""
        network = self.path.network
        if not self.far.gone:
            assert packet.raw is not None
            network.frames["delivered"] += 1
            network.trace.record(network.loop.now, self.path.name, "recv " + packet.text)
            if self.far.back.path.severed():
                self._unacked += packet.size
                self._await_acknowledgement()
            else:
                self._acknowledge(packet.size)
            self.far.on_message(packet.raw)

    def _acknowledge(self, size: int) -> None:
        backed_up = self.unarrived > WINDOW_BYTES
        self.unarrived -= size
        if backed_up and self.unarrived <= WINDOW_BYTES and not self.near.gone:
            self.near.process.soon(self.near.drained)

    def _await_acknowledgement(self) -> None:
        """Data gets there and its acknowledgement does not (a one-way cut): ask every second, then give up."""
        loop = self.path.network.loop
        if self._unacked_since is None:
            self._unacked_since = loop.now
            loop.at(loop.now + SECOND, self._check_acknowledgement, self.path.source)

    def _check_acknowledgement(self) -> None:
        loop = self.path.network.loop
        if self.halted or self._unacked_since is None:
            return
        if not self.far.back.path.severed():
            size, self._unacked, self._unacked_since = self._unacked, 0, None
            self._acknowledge(size)
        elif loop.now - self._unacked_since >= GIVE_UP_NS:
            self._give_up()
        else:
            loop.at(loop.now + SECOND, self._check_acknowledgement, self.path.source)

    def _refuse(self) -> None:
        """Nobody is there any more: a reset goes back, if it can."""
        back = self.far.back.path
        delay = back.judge(40, back.network.frames)
        if delay >= 0:
            back.network.loop.at(back.network.loop.now + delay, partial(self._was_refused), back.source)

    def _was_refused(self) -> None:
        if not self.far.back.path.severed():
            self.halt()
            self.near.lose("reset by peer")


def _ignore(*_: object) -> None:
    """A callback nobody has set."""


class SimConduit:
    """One end of a simulated stream: ``transport.base.Conduit``."""

    def __init__(self, process: Process, remote: str, binding: bytes, path: Path, label: str) -> None:
        self.process = process
        self.remote = remote
        self.binding = binding
        self.on_message: Callable[[bytes], None] = _ignore
        self.on_drained: Callable[[], None] = _ignore
        self.on_close: Callable[[str], None] = _ignore
        self.gone = False  # closed, lost, or its process ended
        self.flow = Flow(path, self, label)
        process.conduits[self] = None

    @property
    def back(self) -> Flow:
        """The flow that leaves this end."""
        return self.flow

    @property
    def backlog(self) -> int:
        return 0 if self.gone or self.flow.unarrived <= WINDOW_BYTES else self.flow.unarrived - WINDOW_BYTES

    def send(self, message: bytes) -> None:
        if self.gone or not self.process.alive:
            return
        if len(message) > MESSAGE_BYTES_MAX:
            raise ValueError(f"a message has at most {MESSAGE_BYTES_MAX} bytes, got {len(message)}")
        network, path = self.flow.path.network, self.flow.path
        packet = Packet(self.flow.label, bytes(message))
        network.frames["sent"] += 1
        network.frames["bytes"] += packet.size
        network.trace.record(network.loop.now, path.name, "send " + packet.text)
        self.flow.put(packet)

    def close(self, reason: str = "closed") -> None:
        if self.gone or not self.process.alive:
            return
        self._leave()
        self.flow.put(Packet(self.flow.label, None, f"closed by the other end: {reason}"))
        self.process.soon(partial(self._closed, reason))

    def abandon(self, power: bool) -> None:
        """Its process ended without a word: its kernel closes it, or there is no kernel any more."""
        self.gone = True
        if power:
            self.flow.halt()
        else:
            self.flow.put(Packet(self.flow.label, None, "reset by peer"))

    def drained(self) -> None:
        if not self.gone:
            self.on_drained()

    def lose(self, reason: str) -> None:
        """The network says it is over."""
        if not self.gone:
            self._leave()
            self.flow.halt()
            self.process.call(self._closed, reason)

    def _leave(self) -> None:
        self.gone = True
        self.process.conduits.pop(self, None)

    def _closed(self, reason: str) -> None:
        self.on_close(reason)
