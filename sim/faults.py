"""Faults as values: what they do to a packet, how often they really bit, and how to take them away again.

A network fault is a ``Rule``: shown a packet, it gives a ``Verdict``: pass, deliver after, drop, or hold until the rule
is gone. Each rule draws from a stream of its own per directed link, so removing one shifts no other's draws. Every
fault counts when it really bit; the world fails if one that was asked for never did.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from random import Random
from types import TracebackType
from typing import Any, NamedTuple

from sim.seed import chance, exponential
from transport.base import SECOND


class Verdict(NamedTuple):
    """``drop`` and ``hold`` end the judgement; delays add up."""

    drop: bool = False
    hold: bool = False
    after: int = 0  # ns


PASS = Verdict()
DROP = Verdict(drop=True)
HOLD = Verdict(hold=True)


class Fault:
    """Something that goes wrong until ``remove``; also a context manager. ``fired`` counts how often it bit.

    A replay may leave it out: then it is ``muted``, stands in the list under its name, and does nothing.
    """

    kind = "fault"

    def __init__(self, text: str) -> None:
        self.key = self.kind  # made unique by the world
        self.text = text
        self.active = True
        self.muted = False
        self.began = 0  # ns of the world's time
        self.ended: int | None = None
        self.asked = True  # whether the world's end demands that it fired
        self.gauge: Callable[[], int] = lambda: self._fired
        self._fired = 0
        self._undo: Callable[[], None] = lambda: None
        self.on_end: Callable[[], None] = lambda: None  # the world's

    def fire(self) -> None:
        """It bit."""
        self._fired += 1

    @property
    def fired(self) -> int:
        """How often it bit so far."""
        return self.gauge()

    def undo_with(self, undo: Callable[[], None]) -> None:
        """What ``remove`` does, once."""
        self._undo = undo

    def remove(self) -> None:
        """Take it away; a second time does nothing."""
        if self.active:
            self.active = False
            self.on_end()
            self._undo()

    def __enter__(self) -> Fault:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def __repr__(self) -> str:
        return f"{self.key}({self.text}; fired {self.fired})"


class Latest:
    """One setting of a machine that several faults want: the latest rules, and when it goes, the one before it."""

    def __init__(self, put: Callable[[Any], object], usual: Any) -> None:
        self._put, self._usual = put, usual
        self._wanted: dict[Fault, Any] = {}

    def begin(self, fault: Fault, value: Any) -> None:
        """``fault`` wants ``value`` until it is removed."""
        self._wanted[fault] = value
        self._put(value)
        fault.undo_with(lambda: self._end(fault))

    def _end(self, fault: Fault) -> None:
        del self._wanted[fault]
        self._put(next(reversed(self._wanted.values()), self._usual))


class Rule(Fault):
    """A fault of the network. ``pairs`` are the directed links (sender, receiver) it is about; ``None``: all."""

    def __init__(self, text: str, pairs: Collection[tuple[str, str]] | None) -> None:
        super().__init__(text)
        self._pairs = None if pairs is None else frozenset(pairs)

    def covers(self, sender: str, receiver: str) -> bool:
        return self._pairs is None or (sender, receiver) in self._pairs

    def severs(self, sender: str, receiver: str) -> bool:
        """Whether nothing at all gets through, also what is under way."""
        return False

    def judge(self, size: int, rng: Random) -> Verdict:
        """What happens to a packet of ``size`` bytes on a link it covers."""
        return PASS


class Cut(Rule):
    """Silence: everything between these vanishes, what is under way too."""

    kind = "partition"

    def severs(self, sender: str, receiver: str) -> bool:
        return self.covers(sender, receiver)

    def judge(self, size: int, rng: Random) -> Verdict:
        return DROP


class OneWay(Cut):
    """Nothing from the one reaches the other; the way back is open, but its acknowledgements are lost."""

    kind = "one_way"


class Flapping(Cut):
    """Silence that comes and goes, from its beginning on: ``down`` ns of it, ``up`` ns without, again and again."""

    kind = "flapping"

    def __init__(
        self, text: str, pairs: Collection[tuple[str, str]], down: int, up: int, clock: Callable[[], int]
    ) -> None:
        if down < 1 or up < 1:
            raise ValueError(f"a link flaps between times that last, got {down} and {up} ns")
        super().__init__(f"{text} {down / 1e9:g} s of {(down + up) / 1e9:g} s", pairs)
        self._down, self._period, self._clock = down, down + up, clock

    def severs(self, sender: str, receiver: str) -> bool:
        return self.covers(sender, receiver) and (self._clock() - self.began) % self._period < self._down

    def judge(self, size: int, rng: Random) -> Verdict:
        return DROP if (self._clock() - self.began) % self._period < self._down else PASS


class Clog(Rule):
    """Everything queues up, and arrives in a burst once the clog is gone."""

    kind = "clog"

    def judge(self, size: int, rng: Random) -> Verdict:
        return HOLD


class Loss(Rule):
    """Each packet is lost with this probability: a datagram is gone, a stream sends it again, later."""

    kind = "loss"

    def __init__(self, probability: float, pairs: Collection[tuple[str, str]] | None, burst: float = 0.0) -> None:
        if not 0.0 < probability <= 1.0:
            raise ValueError(f"a loss has a probability above 0 and at most 1, got {probability}")
        if not 0.0 <= burst < 1.0:
            raise ValueError(f"after a loss the next has a probability of at least 0 and below 1, got {burst}")
        super().__init__(f"{probability:.1%}" + (f" in bursts of {burst:.0%}" if burst else ""), pairs)
        self.probability = probability
        self._after = max(burst, probability)
        self._losing: dict[Random, None] = {}  # the links, by their streams, whose last packet was lost

    def judge(self, size: int, rng: Random) -> Verdict:
        if not chance(rng, self._after if rng in self._losing else self.probability):
            self._losing.pop(rng, None)
            return PASS
        self._losing[rng] = None
        return DROP


class Latency(Rule):
    """At least ``least`` ns, plus an exponential draw of this mean, plus now and then a long one."""

    kind = "latency"

    def __init__(
        self, least: int, mean: int, tail: int, tail_chance: float, pairs: Collection[tuple[str, str]] | None
    ) -> None:
        if least < 0 or mean < 0 or tail < 0 or not 0.0 <= tail_chance <= 1.0:
            raise ValueError("delays are not negative, and the chance of a long one is between 0 and 1")
        super().__init__(f"{least / 1e6:g} ms + {mean / 1e6:g} ms, tail {tail / 1e6:g} ms", pairs)
        self._least, self._mean, self._tail, self._tail_chance = least, mean, tail, tail_chance

    def draw(self, rng: Random) -> int:
        """One delay in ns."""
        delay = self._least + (exponential(rng, self._mean) if self._mean else 0)
        if self._tail_chance and chance(rng, self._tail_chance):
            delay += exponential(rng, self._tail)
        return delay

    def judge(self, size: int, rng: Random) -> Verdict:
        return Verdict(after=self.draw(rng))


class Bandwidth(Rule):
    """So many bytes a second on each directed link it covers; what is more waits, in a queue of its own length."""

    kind = "bandwidth"

    def __init__(
        self, bytes_per_s: int, pairs: Collection[tuple[str, str]] | None, queue_bytes: int | None = None
    ) -> None:
        if bytes_per_s < 1 or (queue_bytes is not None and queue_bytes < 1):
            raise ValueError(f"a link carries and queues at least a byte, got {bytes_per_s} a second, {queue_bytes}")
        super().__init__(f"{bytes_per_s} B/s" + ("" if queue_bytes is None else f", {queue_bytes} B wait"), pairs)
        self.bytes_per_s, self.queue_bytes = bytes_per_s, queue_bytes

    def is_full(self, wait: int) -> bool:
        """Whether a packet that would wait for ``wait`` ns finds no room in front of the link."""
        return self.queue_bytes is not None and wait * self.bytes_per_s > self.queue_bytes * SECOND
