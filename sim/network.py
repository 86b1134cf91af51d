"""The network of a world: who can reach whom, after how long, and what became of every packet.

Each directed pair of machines is a ``Path`` with streams of chance and ties of its own. Streams that behave as TCP does
are in ``stream``; datagrams are just lost.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Final

from sim.faults import Bandwidth, Cut, Fault, Latency, Rule
from sim.loop import SimLoop
from sim.machine import Machine, Process
from sim.seed import Seed
from sim.trace import Trace, mark

if TYPE_CHECKING:
    from sim.mdns import SimMdns
    from sim.scout import SimScout
    from sim.stream import Flow

LOOPBACK_NS: Final = 50_000
DROPPED: Final = -1
HELD: Final = -2
Tally = dict[str, int]


class Path:
    """The way from one machine to another: its own streams of chance, its own ties."""

    __slots__ = (
        "_judges", "_limits", "_streams", "_version", "dials", "name", "network", "receiver", "rng", "sender", "source",
    )  # fmt: skip

    def __init__(self, network: Network, sender: Machine, receiver: Machine) -> None:
        self.network = network
        self.sender, self.receiver = sender, receiver
        self.name = f"{sender.name}>{receiver.name}"
        self.rng = network.seed.stream(f"net/{self.name}")
        self.source = network.seed.source(f"net/{self.name}")
        self.dials = 0
        self._version = -1
        self._judges: list[Rule] = []
        self._streams: dict[Rule, Random] = {}  # what each draws from here
        self._limits: list[tuple[int, Bandwidth]] = []

    def _look(self) -> None:
        """Rules came or went: which cover this path now, and which limit it."""
        self._version = self.network.version
        sender, receiver = self.sender.name, self.receiver.name
        self._judges = [rule for rule in self.network.rules if rule.covers(sender, receiver)]
        self._limits = [(rule.bytes_per_s, rule) for rule in self._judges if isinstance(rule, Bandwidth)]

    def _stream(self, rule: Rule) -> Random:
        found = self._streams.get(rule)
        if found is None:
            found = self._streams[rule] = self.network.seed.stream(f"net/{self.name}/{rule.key}")
        return found

    def severed(self) -> bool:
        """Whether nothing can arrive now: a cut, or a receiver without power."""
        if not self.receiver.powered:
            return True
        if self.sender is self.receiver:
            return False
        if self._version != self.network.version:
            self._look()
        for rule in self._judges:
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
        if self._version != self.network.version:
            self._look()
        for rule in self._judges:
            verdict = rule.judge(size, self._stream(rule))
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

    def rate(self) -> tuple[int, Bandwidth] | None:
        """The tightest bandwidth limit on it."""
        if self._version != self.network.version:
            self._look()
        return min(self._limits, key=lambda each: each[0]) if self._limits else None


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
        self.segment: dict[SimScout, None] = {}  # who listens to the scout's multicast group
        self.responders: dict[SimMdns, None] = {}  # who listens to that of mDNS
        self.blocked: dict[str, Fault] = {}  # kinds of discovery that no switch lets through, by name
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
        text = f"{len(raw)} {mark(raw)}"
        self.trace.record(self.loop.now, path.name, f"datagram {text}")
        self._datagram(path, len(raw), text, deliver)

    def multicast(self, kind: str, sender: Machine, receiver: Machine, raw: bytes, deliver: Callable[[], None]) -> None:
        """A datagram of one kind of discovery, which may be blocked."""
        if (fault := self.blocked.get(kind)) is not None and sender is not receiver:
            fault.fire()
            self.datagrams["cut"] += 1
        else:
            self.datagram(sender, receiver, raw, deliver)

    def _datagram(self, path: Path, size: int, text: str, deliver: Callable[[], None]) -> None:
        delay = path.judge(size, self.datagrams)
        if delay == HELD:
            self._held.append(partial(self._datagram, path, size, text, deliver))
        elif delay >= 0:
            self.loop.at(self.loop.now + delay, partial(self._datagram_arrives, path, text, deliver), path.source)

    def _datagram_arrives(self, path: Path, text: str, deliver: Callable[[], None]) -> None:
        if path.severed():
            self.datagrams["cut"] += 1
            return
        self.datagrams["delivered"] += 1
        self.trace.record(self.loop.now, path.name, f"heard {text}")
        deliver()

    def process_ended(self, process: Process, power: bool) -> None:
        """``power``: its machine went dark and nobody is told. Else the kernel closes what it held open."""
        machine = process.machine
        for port in [port for port, door in machine.doors.items() if door.process is process]:
            del machine.doors[port]
        for scout in [scout for scout in self.segment if scout.process is process]:
            del self.segment[scout]
        for responder in [responder for responder in self.responders if responder.process is process]:
            del self.responders[responder]
        for conduit in list(process.conduits):
            conduit.abandon(power)
        process.conduits.clear()
