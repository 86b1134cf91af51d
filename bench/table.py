"""What a bench saw, a line each, with its target and whether it was met: a table for people, JSON for programs."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True, slots=True)
class Line:
    """One figure: the median of its rounds. ``beside``: the same of others, in turns with it in the same run."""

    what: str
    rounds: Sequence[float]
    unit: str  # "/s", "ms", "MB", …
    at_least: float | None = None
    at_most: float | None = None
    beside: Mapping[str, float] = field(default_factory=dict)

    @property
    def seen(self) -> float:
        return statistics.median(self.rounds)

    @property
    def target(self) -> str:
        if self.at_least is not None:
            return f">= {_text(self.at_least, self.unit)}"
        return "" if self.at_most is None else f"<= {_text(self.at_most, self.unit)}"

    @property
    def verdict(self) -> str:
        """Whether it was "met" or "missed"; empty where there is no target."""
        if self.at_least is not None:
            return "met" if self.seen >= self.at_least else "missed"
        if self.at_most is not None:
            return "met" if self.seen <= self.at_most else "missed"
        return ""


def show(bench: str, lines: Iterable[Line], notes: Iterable[str] = ()) -> None:
    """Print them, as JSON lines if the command line has ``--json``."""
    if "--json" in sys.argv:
        for line in lines:
            told = {"bench": bench, **asdict(line), "seen": line.seen, "verdict": line.verdict}
            print(json.dumps(told), flush=True)
        return
    rows = [("", "seen", "target", "", "beside")]
    for line in lines:
        beside = "   ".join(f"{name} {_text(value, line.unit)}" for name, value in line.beside.items())
        rows.append((line.what, _text(line.seen, line.unit), line.target, line.verdict, beside))
    widths = [max(len(row[at]) for row in rows) for at in range(4)]
    for what, *cells, beside in rows:
        middle = "  ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True))
        print(f"{what:<{widths[0]}}  {middle}  {beside}".rstrip())
    for note in notes:
        print(f"  {note}")


def _text(value: float, unit: str) -> str:
    number = f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.2f}"
    return f"{number}{unit if unit.startswith('/') or unit == 'x' else ' ' + unit}"
