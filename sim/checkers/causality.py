"""Causal order against an omniscient oracle, and with it the four session guarantees.

The oracle stands outside: it knows at each write everything its author's node showed at that moment. Nobody may then
show the write without all of that. From this one law follow, for a client that stays with its node: *monotonic writes*
(a write's causes include its author's earlier ones) and *writes follow reads*; *read your writes* and *monotonic
reads* are the second law: what a living node showed it goes on showing.

Source  Terry et al. 1994 (session guarantees); Mahajan, Alvisi, Dahlin 2011 (causal consistency is the most there is).
"""

from __future__ import annotations

from collections.abc import Callable

from sim.checkers.verdict import Violated

Elements = frozenset[str]
NOTHING: Elements = frozenset()


def _none(elements: Elements) -> Elements:
    """Nothing may be missing."""
    return NOTHING


class Causality:
    """Tell it of each write and each read of a set that only grows. O(causes) a first showing, a set a write."""

    def __init__(self) -> None:
        self._causes: dict[str, Elements] = {}
        self._shown: dict[str, tuple[int, Elements]] = {}

    def wrote(self, element: str, saw: Elements) -> None:
        """``element`` was written where ``saw`` was shown."""
        self._causes[element] = saw

    def read(self, node: str, epoch: int, here: Elements, excused: Callable[[Elements], Elements] = _none) -> list[str]:
        """``node``, in its life number ``epoch``, shows ``here``. What of it is new there, sorted; raises ``Violated``.

        ``excused``: which of these may be missing all the same, since whoever had them lost them for good.
        """
        life, before = self._shown.get(node, (0, NOTHING))
        if here is before or here == before:
            if life != epoch:
                self._shown[node] = epoch, here
            return []
        if life == epoch and (gone := before - here) and (gone := gone - excused(gone)):
            raise Violated(f"{node} no longer shows {_some(gone)}, which it had: reads are not monotonic")
        fresh = sorted(here - before)
        for element in fresh:
            causes = self._causes.get(element)
            if causes is None:
                raise Violated(f"{node} shows {element!r}, which nobody wrote")
            missing = causes - here
            if missing and (missing := missing - excused(missing)):
                raise Violated(f"{node} shows {element!r} without {_some(missing)}, which its author had seen")
        self._shown[node] = epoch, here
        return fresh


def _some(elements: Elements) -> str:
    shown = ", ".join(sorted(elements)[:5])
    return shown if len(elements) <= 5 else f"{shown} and {len(elements) - 5} more"
