"""The network of a world: streams that behave as TCP does when things go wrong, and datagrams that are just lost.

A message on a conduit is tried at the moment it leaves. Dropped (loss, a cut, a machine without power), it is tried
again after 0.2 s, 0.4 s, 0.8 s … as a kernel retransmits; what follows waits behind it; after 15 s of that the sender's
end closes ("timed out") and the other end learns nothing until it sends and is answered by a reset. So a cut is
silence, a heal is noticed at the next retransmission, and a half-open conduit stays half open.

A killed process closes its conduits, since its kernel lives on; a power cut tells nobody.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from sim.faults import Cut, Latency, Rule
from sim.loop import SimLoop
from sim.machine import Machine, Process
from sim.seed import Seed
from sim.trace import Trace, mark
from transport.base import MESSAGE_BYTES_MAX, MILLISECOND, SECOND, Conduit, DialFailed, DialFault

if TYPE_CHECKING:
    from sim.scout import SimScout

WINDOW_BYTES: Final = 256 << 10  # what a kernel's socket takes at once; what is above it is the sender's backlog
RETRANSMIT_NS: Final = 200 * MILLISECOND  # Linux' smallest retransmission timeout; doubles each time
GIVE_UP_NS: Final = 15 * SECOND  # a stream that got nothing through for so long is closed
SYN_AT_NS: Final = (0, 1 * SECOND, 3 * SECOND, 7 * SECOND)  # a dial is tried at these times
LOOPBACK_NS: Final = 50_000
LOOPBACK_HOSTS: Final = ("127.0.0.1", "localhost", "::1")
ANY_HOSTS: Final = ("", "*", "0.0.0.0", "::")

Tally = dict[str, int]


def split(address: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``. Raises ``ValueError`` when it is none."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"an address is HOST:PORT, got {address!r}")
    return host.strip("[]"), int(port)


class Path:
    """The way from one machine to another: its own streams of chance, its own ties."""

    __slots__ = ("_judges", "_version", "dials", "name", "network", "receiver", "rng", "sender", "source")

    def __init__(self, network: Network, sender: Machine, receiver: Machine) -> None:
        self.network = network
        self.sender, self.receiver = sender, receiver
        self.name = f"{sender.name}>{receiver.name}"
        self.rng = network.seed.stream(f"net/{self.name}")
        self.source = network.seed.source(f"net/{self.name}")
        self.dials = 0
        self._version = -1
        self._judges: list[Rule] = []

    def rules(self) -> list[Rule]:
        """The rules that cover this path now."""
        if self._version != self.network.version:
            self._version = self.network.version
            sender, receiver = self.sender.name, self.receiver.name
            self._judges = [rule for rule in self.network.rules if rule.covers(sender, receiver)]
        return self._judges

    def severed(self) -> bool:
        """Whether nothing can arrive now: a cut, or a receiver without power."""
        if not self.receiver.powered:
            return True
        if self.sender is self.receiver:
            return False
        for rule in self.rules():
            if rule.severs(self.sender.name, self.receiver.name):
                rule.fire()
                return True
        return False

    def judge(self, size: int, tally: Tally) -> int:
        """Delay in ns for a packet that leaves now, or ``DROPPED``, or ``HELD``."""
        if self.sender is self.receiver:
            return LOOPBACK_NS
        if not self.receiver.powered:
            tally["cut"] += 1
            return DROPPED
        delay = self.network.base.draw(self.rng)
        for rule in self.rules():
            verdict = rule.judge(size, self.network.seed.stream(f"net/{self.name}/{rule.key}"))
            if verdict.drop:
                rule.fire()
                tally["cut" if isinstance(rule, Cut) else "lost"] += 1
                return DROPPED
            if verdict.hold:
                rule.fire()
                tally["held"] += 1
                return HELD
            if verdict.after:
                rule.fire()
                tally["delayed"] += 1
                delay += verdict.after
        return delay

    def rate(self) -> tuple[int, Rule] | None:
        """The tightest bandwidth limit on it."""
        limits = [(limit, rule) for rule in self.rules() if (limit := rule.rate()) is not None]
        return min(limits, key=lambda each: each[0]) if limits else None


DROPPED: Final = -1
HELD: Final = -2


class Packet:
    """One message of a stream, or its end (``raw`` is None)."""

    __slots__ = ("mark", "raw", "reason", "size")

    def __init__(self, raw: bytes | None, reason: str = "") -> None:
        self.raw = raw
        self.reason = reason
        self.size = 40 if raw is None else len(raw)
        self.mark = "" if raw is None else mark(raw)


class Flow:
    """One direction of a conduit: what is queued, what is under way, and when it is tried again."""

    def __init__(self, path: Path, near: SimConduit, label: str) -> None:
        self.path = path
        self.near = near
        self.far: SimConduit
        self.label = label
        self.queue: deque[Packet] = deque()
        self.flying: deque[Packet] = deque()
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

    @property
    def backlog(self) -> int:
        return max(0, self.unarrived - WINDOW_BYTES)

    def put(self, packet: Packet) -> None:
        """Queue it and send what can be sent."""
        self.queue.append(packet)
        if packet.raw is not None:
            self.unarrived += packet.size
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
            self.queue.popleft()
            if self._attempts:
                network.frames["delayed"] += 1
            leaves = now
            limit = self.path.rate()
            if limit is not None:
                self._busy_until = max(now, self._busy_until) + packet.size * SECOND // limit[0]
                leaves = self._busy_until
                limit[1].fire()
            arrives = max(leaves + delay, self._last_arrival + 1)
            self._last_arrival = arrives
            self.flying.append(packet)
            network.loop.at(arrives, partial(self._arrive, self._flight), self.path.source)

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
        network.loop.deliver(self.far.process.at_once(partial(self._hand_over, packet)))

    def _hand_over(self, packet: Packet) -> None:
        """The receiving program reads it, and its kernel acknowledges."""
        network = self.path.network
        if not self.far.gone:
            assert packet.raw is not None
            network.frames["delivered"] += 1
            network.trace.record(network.loop.now, self.path.name, f"recv {self.label} {packet.size} {packet.mark}")
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
            self.near.process.at(self.path.network.loop.now, self.near.drained)

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
        return 0 if self.gone else self.flow.backlog

    def send(self, message: bytes) -> None:
        if self.gone or not self.process.alive:
            return
        if len(message) > MESSAGE_BYTES_MAX:
            raise ValueError(f"a message has at most {MESSAGE_BYTES_MAX} bytes, got {len(message)}")
        network, path = self.flow.path.network, self.flow.path
        packet = Packet(bytes(message))
        network.frames["sent"] += 1
        network.frames["bytes"] += packet.size
        network.trace.record(network.loop.now, path.name, f"send {self.flow.label} {packet.size} {packet.mark}")
        self.flow.put(packet)

    def close(self, reason: str = "closed") -> None:
        if self.gone or not self.process.alive:
            return
        self._leave()
        self.flow.put(Packet(None, f"closed by the other end: {reason}"))
        self.process.at(self.process.loop.now, partial(self._closed, reason))

    def drained(self) -> None:
        if not self.gone:
            self.on_drained()

    def lose(self, reason: str) -> None:
        """The network says it is over."""
        if not self.gone:
            self._leave()
            self.flow.halt()
            self.process.loop.deliver(self.process.at_once(partial(self._closed, reason)))

    def _leave(self) -> None:
        self.gone = True
        self.process.conduits.pop(self, None)

    def _closed(self, reason: str) -> None:
        self.on_close(reason)


class Door:
    """A listening port: ``transport.base.Listener``."""

    def __init__(self, process: Process, port: int, loopback_only: bool, on_conduit: Callable[[Conduit], None]) -> None:
        self.process = process
        self.port = port
        self.loopback_only = loopback_only
        self.on_conduit = on_conduit
        process.machine.doors[port] = self

    @property
    def addresses(self) -> tuple[str, ...]:
        host = "127.0.0.1" if self.loopback_only else self.process.machine.address
        return (f"{host}:{self.port}",)

    async def close(self) -> None:
        if self.process.machine.doors.get(self.port) is self:
            del self.process.machine.doors[self.port]


class Dial:
    """One attempt to reach one address; its outcome comes once, unless cancelled."""

    def __init__(
        self,
        network: Network,
        process: Process,
        address: str,
        on_done: Callable[[Conduit | DialFailed], None],
        timeout_ns: int,
    ) -> None:
        self._network = network
        self._process = process
        self._address = address
        self._on_done: Callable[[Conduit | DialFailed], None] | None = on_done
        loop = network.loop
        try:
            host, self._port = split(address)
            target = process.machine if host in LOOPBACK_HOSTS else network.machines.get(host)
        except ValueError as wrong:
            process.at(loop.now, partial(self._fail, DialFault.INVALID, str(wrong)))
            return
        process.at(loop.now + timeout_ns, partial(self._fail, DialFault.TIMEOUT, "no answer"))
        if target is None:
            process.at(loop.now + 3 * SECOND, partial(self._fail, DialFault.UNREACHABLE, f"no host {host}"))
            return
        self._loopback = host in LOOPBACK_HOSTS or target is process.machine
        self._there = network.path(process.machine, target)
        self._back = network.path(target, process.machine)
        for wait in SYN_AT_NS:
            if wait < timeout_ns:
                loop.at(loop.now + wait, self._attempt, self._there.source)

    def cancel(self) -> None:
        self._on_done = None

    def _finish(self, outcome: Conduit | DialFailed) -> None:
        on_done, self._on_done = self._on_done, None
        if on_done is not None:
            on_done(outcome)

    def _fail(self, fault: DialFault, detail: str) -> None:
        self._finish(DialFailed(self._address, fault, detail))

    def _attempt(self) -> None:
        if self._on_done is None or not self._process.alive:
            return
        network = self._network
        delay = self._there.judge(60, network.frames)
        if delay == HELD:
            network.loop.at(network.loop.now + SECOND, self._attempt, self._there.source)
        elif delay >= 0:
            network.loop.at(network.loop.now + delay, self._arrive, self._there.source)

    def _arrive(self) -> None:
        if self._on_done is None or self._there.severed():
            return
        network, loop = self._network, self._network.loop
        delay = self._back.judge(60, network.frames)
        if delay < 0 or self._back.severed():
            return  # the answer is lost; the next attempt may do better
        door = self._there.receiver.doors.get(self._port)
        if door is None or not door.process.alive or (door.loopback_only and not self._loopback):
            detail = f"nobody listens at {self._address}"
            self._process.loop.at(
                loop.now + delay, partial(self._answer, DialFailed(self._address, DialFault.REFUSED, detail)),
                self._back.source,
            )  # fmt: skip
            return
        self._there.dials += 1
        label = f"{self._there.name}#{self._there.dials}"
        binding = network.seed.digest(f"binding/{label}")
        near = SimConduit(self._process, self._address, binding, self._there, label)
        port = self._process.machine.free_port()
        far = SimConduit(door.process, f"{self._process.machine.address}:{port}", binding, self._back, label)
        near.flow.far, far.flow.far = far, near
        network.trace.record(loop.now, self._there.name, f"open {label}")
        loop.deliver(door.process.at_once(partial(door.on_conduit, far)))
        answer = partial(self._answer, near)
        arrives = loop.now + delay
        far.flow._last_arrival = arrives  # nothing the acceptor says overtakes its acceptance
        loop.at(arrives, answer, self._back.source)

    def _answer(self, outcome: SimConduit | DialFailed) -> None:
        if self._on_done is None:
            if isinstance(outcome, SimConduit):
                outcome.close("no longer wanted")
        else:
            self._network.loop.deliver(self._process.at_once(partial(self._finish, outcome)))


class SimTransport:
    """``transport.base.Transport`` for one process."""

    def __init__(self, network: Network, process: Process) -> None:
        self._network = network
        self._process = process

    async def listen(self, address: str, on_conduit: Callable[[Conduit], None]) -> Door:
        host, port = split(address)
        machine = self._process.machine
        if host not in (*ANY_HOSTS, *LOOPBACK_HOSTS, machine.address):
            raise OSError(errno.EADDRNOTAVAIL, f"{machine.name} has no address {host}")
        if port == 0:
            port = machine.free_port()
        if port in machine.doors:
            raise OSError(errno.EADDRINUSE, f"port {port} of {machine.name} is taken")
        return Door(self._process, port, host in LOOPBACK_HOSTS, on_conduit)

    def dial(self, address: str, on_done: Callable[[Conduit | DialFailed], None], timeout_ns: int) -> Dial:
        return Dial(self._network, self._process, address, on_done, timeout_ns)


class Network:
    """All machines and the rules between them. ``frames`` and ``datagrams`` count what became of each."""

    def __init__(self, loop: SimLoop, seed: Seed, trace: Trace, base: Latency) -> None:
        self.loop, self.seed, self.trace, self.base = loop, seed, trace, base
        self.machines: dict[str, Machine] = {}
        self.rules: list[Rule] = []
        self.version = 0
        self.frames: Tally = dict.fromkeys(("sent", "delivered", "delayed", "lost", "cut", "held", "bytes"), 0)
        self.datagrams: Tally = dict.fromkeys(("sent", "delivered", "delayed", "lost", "cut", "held"), 0)
        self.holding: dict[Flow, None] = {}
        self.segment: dict[SimScout, None] = {}  # who listens to the multicast group
        self._held: list[Callable[[], None]] = []
        self._paths: dict[tuple[Machine, Machine], Path] = {}

    def path(self, sender: Machine, receiver: Machine) -> Path:
        found = self._paths.get((sender, receiver))
        if found is None:
            found = self._paths[sender, receiver] = Path(self, sender, receiver)
        return found

    def add(self, rule: Rule) -> None:
        self.rules.append(rule)
        self.version += 1

    def drop(self, rule: Rule) -> None:
        """The rule is gone: what it held goes on, in a burst."""
        self.rules.remove(rule)
        self.version += 1
        waiting, self.holding = list(self.holding), {}
        held, self._held = self._held, []
        for flow in waiting:
            flow.wake()
        for send in held:
            send()

    def datagram(self, sender: Machine, receiver: Machine, raw: bytes, deliver: Callable[[], None]) -> None:
        """Send one datagram: it arrives once, or never; late ones arrive out of order."""
        path = self.path(sender, receiver)
        self.datagrams["sent"] += 1
        self.trace.record(self.loop.now, path.name, f"datagram {len(raw)} {mark(raw)}")
        self._datagram(path, len(raw), deliver)

    def _datagram(self, path: Path, size: int, deliver: Callable[[], None]) -> None:
        delay = path.judge(size, self.datagrams)
        if delay == HELD:
            self._held.append(partial(self._datagram, path, size, deliver))
        elif delay >= 0:
            self.loop.at(self.loop.now + delay, partial(self._datagram_arrives, path, deliver), path.source)

    def _datagram_arrives(self, path: Path, deliver: Callable[[], None]) -> None:
        if path.severed():
            self.datagrams["cut"] += 1
            return
        self.datagrams["delivered"] += 1
        deliver()

    def process_ended(self, process: Process, power: bool) -> None:
        """``power``: its machine went dark and nobody is told. Else the kernel closes what it held open."""
        machine = process.machine
        for port in [port for port, door in machine.doors.items() if door.process is process]:
            del machine.doors[port]
        for scout in [scout for scout in self.segment if scout.process is process]:
            del self.segment[scout]
        for conduit in list(process.conduits):
            conduit.gone = True
            if power:
                conduit.flow.halt()
            else:
                conduit.flow.put(Packet(None, "reset by peer"))
        process.conduits.clear()
