"""set-full: what became of every element that was added, and how long it took until it was everywhere for good.

*lost*: acknowledged, or once seen elsewhere, and missing at the end. *invented*: shown and never added. The *stable
latency* of an element is the time from its acknowledgement to the last look at which somebody who answered lacked it.

Source  Jepsen's set-full checker (Kingsbury); Maelstrom's broadcast and g-set workloads accept by it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from sim.checkers.verdict import Violated

QUANTILES = (0.5, 0.95, 0.99, 1.0)


@dataclass(frozen=True, slots=True)
class Delivered:
    """``lost`` and ``invented`` are sorted; latencies in seconds, by quantile; empty when nothing was acknowledged."""

    attempted: int
    acknowledged: int
    lost: tuple[str, ...]
    invented: tuple[str, ...]
    stable_s: dict[float, float]

    def demand(self, stable_within_s: float | None = None) -> None:
        """Raise ``Violated`` when something was lost or invented, or the slowest took longer than so many seconds."""
        if self.lost or self.invented:
            raise Violated(f"lost {list(self.lost[:5])} ({len(self.lost)}), invented {list(self.invented[:5])}")
        slowest = self.stable_s.get(1.0, 0.0)
        if stable_within_s is not None and slowest > stable_within_s:
            raise Violated(f"an element took {slowest:.3f} s until all had it, {stable_within_s:g} s are allowed")


class SetFull:
    """Tell it of adds, acknowledgements and reads, with their time in seconds; ``judge`` at the end."""

    def __init__(self) -> None:
        self._added: dict[str, float] = {}
        self._acknowledged: dict[str, float] = {}
        self._lacked: dict[str, float] = {}  # when somebody was last seen without it
        self._settled: set[str] = set()

    def add(self, element: str, at: float) -> None:
        self._added[element] = at

    def acknowledge(self, element: str, at: float) -> None:
        self._acknowledged.setdefault(element, at)

    def read(self, views: Collection[Iterable[str]], at: float) -> None:
        """What each one who answered showed at this moment."""
        sets = [each if isinstance(each, set | frozenset) else set(each) for each in views]
        everywhere = frozenset.intersection(*map(frozenset, sets)) if sets else frozenset()
        for element in self._acknowledged:
            if element not in everywhere:
                self._lacked[element] = at

    def judge(self, final: Iterable[str], *, seen: Collection[str] = (), excused: Collection[str] = ()) -> Delivered:
        """``final``: what everybody shows at the end; ``seen``: elements that counted though never acknowledged;
        ``excused``: such as nobody promised to keep."""
        last = set(final)
        due = [each for each in self._added if (each in self._acknowledged or each in seen) and each not in excused]
        took = sorted(
            max(0.0, self._lacked.get(each, acknowledged) - acknowledged)
            for each, acknowledged in self._acknowledged.items()
            if each in last
        )
        return Delivered(
            len(self._added),
            len(self._acknowledged),
            tuple(sorted(each for each in due if each not in last)),
            tuple(sorted(last - self._added.keys())),
            {each: took[min(len(took) - 1, int(each * len(took)))] for each in QUANTILES} if took else {},
        )
