"""What goes wrong in a world: faults that begin now, have names, and must bite before the world ends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from sim import shapes
from sim.errors import SimError
from sim.faults import Bandwidth, Clog, Cut, Fault, Flapping, Latency, Loss, OneWay, Rule
from sim.loop import SimLoop
from sim.network import Network
from sim.plan import Plan, Planned
from sim.seed import Seed, Source, chance

if TYPE_CHECKING:
    from sim.node import SimNode

F = TypeVar("F", bound=Fault)

SWIZZLED = 0.5  # that a node is clogged in a swizzle: FoundationDB's figure


class NeverFired(SimError):
    """A fault was asked for and never bit, so the run proved nothing about it."""


class Trouble:
    """The part of a ``World`` that breaks its network. Each fault is a context manager and has ``remove``."""

    loop: SimLoop
    network: Network
    nodes: list[SimNode]
    plan: Plan
    seed: Seed
    source: Source

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.planned: list[Planned] = []  # the faults that were drawn from the seed
        self._naming = ""

    def note(self, text: str, source: str = "world") -> None:
        """Add a line to the trace."""
        raise NotImplementedError

    # -- the register ------------------------------------------------------------------------------------------------

    def fault(self, kind: str, text: str) -> Fault:
        """Register a fault of this kind: it has to fire before the world ends, unless it is ``muted``."""
        fault = Fault(text)
        fault.kind = kind
        return self._register(fault)

    def _register(self, fault: F) -> F:
        same = sum(each.kind == fault.kind for each in self.faults)
        fault.key = self._naming or (fault.kind if same == 0 else f"{fault.kind}#{same + 1}")
        fault.began = self.loop.now
        fault.on_end = lambda: setattr(fault, "ended", self.loop.now)
        if fault.key in self.plan.left_out:
            fault.muted, fault.asked, fault.active, fault.ended = True, False, False, fault.began
        self.faults.append(fault)
        return fault

    def _rule(self, rule: Rule) -> Rule:
        self._register(rule)
        if rule.muted:
            return rule
        self.network.add(rule)

        def undo() -> None:
            self.note(f"end {rule.key}")
            self.network.drop(rule)

        rule.undo_with(undo)
        self.note(f"begin {rule.key} {rule.text}")
        return rule

    @contextmanager
    def naming(self, name: str) -> Iterator[None]:
        """Faults that begin in here are called ``name``, so that leaving others out changes neither name nor draws."""
        before, self._naming = self._naming, name
        try:
            yield
        finally:
            self._naming = before

    def _demand_fired(self) -> None:
        idle = [fault for fault in self.faults if fault.asked and not fault.fired]
        if idle:
            raise NeverFired(f"asked for and never fired: {', '.join(map(repr, idle))}")

    # -- the network's -----------------------------------------------------------------------------------------------

    def partition(self, *groups: Iterable[SimNode | str] | shapes.Shape) -> Rule:
        """Cut the groups off from one another (one group: from everybody else), until removed. Or cut along a shape:
        ``sim.shapes`` has ``bridge`` and ``ring``."""
        if len(groups) == 1 and isinstance(groups[0], shapes.Shape):
            return self._rule(Cut(groups[0].text, groups[0].pairs))
        sides = [names_of(group) for group in groups]
        if len(sides) == 1:
            sides.append([each.name for each in self.nodes if each.name not in sides[0]])
        shape = shapes.islands(*sides)
        return self._rule(Cut(shape.text, shape.pairs))

    def one_way(self, sender: Any, receiver: Any) -> Rule:
        """Nothing from ``sender`` reaches ``receiver``; each a node or several."""
        return self._rule(OneWay(*_from_to(sender, receiver)))

    def flapping(self, one: Any, other: Any, *, down: float = 1.0, up: float = 1.0) -> Rule:
        """The way between the two is cut for ``down`` seconds, whole for ``up``, cut again, and so on."""
        shape = shapes.islands(names_of(one), names_of(other))
        clock = lambda: self.loop.now  # noqa: E731
        return self._rule(Flapping(shape.text, shape.pairs, round(down * 1e9), round(up * 1e9), clock))

    def clog(self, sender: Any, receiver: Any) -> Rule:
        """What ``sender`` says to ``receiver`` queues up, and arrives in a burst when this is removed."""
        return self._rule(Clog(*_from_to(sender, receiver)))

    def swizzle(self, seconds: float, nodes: Sequence[SimNode | str] | None = None) -> Fault:
        """Clog nodes one after the other, in the first half of the time, and let them go again in another order.

        ``nodes``: all of these; else each that lives with even chance, and one at least. What is said to and by a
        clogged node queues up. Source: FoundationDB's swizzle-clogging.
        """
        fault = self.fault("swizzle", f"for {seconds:g} s")
        if fault.muted:
            return fault
        rng = self.seed.stream(f"swizzle/{fault.key}")
        everybody = [each.name for each in self.nodes]
        live = [each.name for each in self.nodes if each.alive] or everybody
        chosen = names_of(nodes) if nodes is not None else [name for name in live if chance(rng, SWIZZLED)]
        chosen = chosen or [rng.choice(live)]
        half = round(seconds * 1e9) // 2
        clogs = []
        for name in rng.sample(chosen, len(chosen)):
            pairs = {pair for other in everybody if other != name for pair in ((name, other), (other, name))}
            clog = Clog(name, pairs)
            clog.key = f"{fault.key}/{name}"
            clog.active = False
            clogs.append(clog)
        fault.text = f"{','.join(each.text for each in clogs)} {fault.text}"
        fault.gauge = lambda: sum(each.fired for each in clogs)

        def begin(clog: Clog) -> None:
            if fault.active:
                clog.active = True
                self.network.add(clog)
                self.note(f"begin {clog.key}")

        def end(clog: Clog) -> None:
            if clog.active:
                clog.active = False
                self.note(f"end {clog.key}")
                self.network.drop(clog)

        for number, clog in enumerate(clogs):
            self.loop.at(self.loop.now + half * number // len(clogs), partial(begin, clog), self.source)
        for number, clog in enumerate(rng.sample(clogs, len(clogs)), 1):
            self.loop.at(self.loop.now + half + half * number // len(clogs), partial(end, clog), self.source)

        def undo() -> None:
            for clog in clogs:
                end(clog)

        fault.undo_with(undo)
        self.note(f"begin {fault.key} {fault.text}")
        return fault

    def block(self, discovery: Literal["scout", "mdns"]) -> Fault:
        """No datagram of this kind of discovery gets from one machine to another: a switch that drops its group."""
        fault = self.fault("block", discovery)
        if not fault.muted:
            self.network.blocked[discovery] = fault

            def undo() -> None:
                if self.network.blocked.get(discovery) is fault:
                    del self.network.blocked[discovery]

            fault.undo_with(undo)
            self.note(f"begin {fault.key} {discovery}")
        return fault

    def loss(self, probability: float, *, burst: float = 0.0, between: tuple[Any, Any] | None = None) -> Rule:
        """Lose packets with this probability, between two (groups of) nodes or everywhere; after one that was lost, the
        next of that link with probability ``burst``, if that is more."""
        return self._rule(Loss(probability, _both_ways(between), burst))

    def latency(
        self,
        mean: float = 0.05,
        *,
        least: float = 0.0,
        tail: float = 0.0,
        tail_chance: float = 0.01,
        between: tuple[Any, Any] | None = None,
    ) -> Rule:
        """Delay packets by ``least`` plus an exponential draw of ``mean``, sometimes plus one of ``tail``; seconds."""
        rule = Latency(
            round(least * 1e9), round(mean * 1e9), round(tail * 1e9), tail_chance if tail else 0.0, _both_ways(between)
        )  # fmt: skip
        return self._rule(rule)

    def bandwidth(
        self, bytes_per_s: int, *, queue_bytes: int | None = None, between: tuple[Any, Any] | None = None
    ) -> Rule:
        """Carry at most so many bytes a second on each directed link. What is more waits, without end or as many bytes
        as ``queue_bytes`` says; then it is lost, and costs a retransmission."""
        return self._rule(Bandwidth(bytes_per_s, _both_ways(between), queue_bytes))


def names_of(who: Any) -> list[str]:
    """The names of one node or of several, also of some that are not born yet."""
    if hasattr(who, "name") or isinstance(who, str):
        who = (who,)
    return [each if isinstance(each, str) else each.name for each in who]


def _from_to(sender: Any, receiver: Any) -> tuple[str, set[tuple[str, str]]]:
    senders, receivers = names_of(sender), names_of(receiver)
    return f"{','.join(senders)}>{','.join(receivers)}", {(a, b) for a in senders for b in receivers}


def _both_ways(between: tuple[Any, Any] | None) -> frozenset[tuple[str, str]] | None:
    return None if between is None else shapes.islands(names_of(between[0]), names_of(between[1])).pairs
