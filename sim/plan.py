"""A run as values: its seed, and what of it is kept. A replay is a small JSON file of one, to read, edit and send.

The seed alone tells a whole run. A ``Plan`` says which part to tell again: which nodes, which faults, which of the
clients' operations, and how long each wait lasts. All of them have names of their own and draw from streams of their
own, so leaving one out leaves all before it exactly as it was.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

FORMAT = "gossamer replay 1"
FILE_BYTES_MAX = 16 << 20


class BadReplay(ValueError):
    """A file is no replay: nothing was run."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One fault: when it begins, how long it lasts (ns), which kind, its parameters as plain values, its name."""

    begin: int
    length: int
    kind: str
    parameters: tuple[Any, ...]
    name: str = ""

    def __str__(self) -> str:
        shown = " ".join(map(str, self.parameters))
        return f"{self.begin / 1e9:7.3f} s  {self.kind} {shown} for {self.length / 1e9:.3f} s"


@dataclass(slots=True)
class Demand:
    """Something that had to come true: within how many seconds it had to, and how many it took. ``None``: not yet."""

    name: str
    began: int  # ns
    within: float
    held: bool | None = None
    took: float = 0.0


@dataclass(frozen=True, slots=True)
class Broke:
    """How a run ended badly: ``where`` is the same for the same failure, whatever the rest of the run looks like."""

    where: str
    text: str
    at: float = 0.0  # seconds into the world
    trace_hash: str = ""
    unseed: str = ""  # what the streams would have drawn next


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What of a seed is told. ``None`` and empty: all of it."""

    scenario: str = ""
    seed: int = 0
    nodes: tuple[str, ...] | None = None
    faults: tuple[Planned, ...] | None = None  # in place of those drawn from the seed; begin counts from the load's
    left_out: frozenset[str] = frozenset()  # names of faults of the story's own that do not happen
    operations: frozenset[str] | None = None
    waits: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({}))  # the story's n-th wait: ns
    broke: Broke | None = None

    def wants(self, operation: str) -> bool:
        """Whether a client's operation of this name is part of it."""
        return self.operations is None or operation in self.operations

    def encode(self) -> str:
        """As the text of a replay file."""
        told: dict[str, Any] = {"format": FORMAT, "scenario": self.scenario, "seed": self.seed}
        if self.broke is not None:
            broke = self.broke
            told["broke"] = {
                "where": broke.where, "text": broke.text, "at_s": broke.at,
                "trace_hash": broke.trace_hash, "unseed": broke.unseed,
            }  # fmt: skip
        if self.nodes is not None:
            told["nodes"] = list(self.nodes)
        if self.faults is not None:
            told["faults"] = [
                {
                    "name": each.name, "kind": each.kind, "begin_s": each.begin / 1e9, "length_s": each.length / 1e9,
                    "parameters": list(each.parameters),
                }
                for each in self.faults
            ]  # fmt: skip
        if self.left_out:
            told["left_out"] = sorted(self.left_out, key=_natural)
        if self.operations is not None:
            told["operations"] = sorted(self.operations, key=_natural)
        if self.waits:
            told["waits_s"] = {str(number): ns / 1e9 for number, ns in sorted(self.waits.items())}
        return "{\n" + ",\n".join(f"  {json.dumps(key)}: {_shown(value)}" for key, value in told.items()) + "\n}\n"

    @classmethod
    def decode(cls, text: str) -> Plan:
        """Raises ``BadReplay`` when ``text`` is none."""
        try:
            told = json.loads(text)
            if not isinstance(told, dict) or told.get("format") != FORMAT:
                raise BadReplay(f"it does not say that it is a {FORMAT!r}")
            broke = told.get("broke")
            faults = told.get("faults")
            return cls(
                scenario=str(told["scenario"]),
                seed=int(told["seed"]),
                nodes=tuple(map(str, told["nodes"])) if "nodes" in told else None,
                faults=None if faults is None else tuple(map(_fault, faults)),
                left_out=frozenset(map(str, told.get("left_out", ()))),
                operations=frozenset(map(str, told["operations"])) if "operations" in told else None,
                waits={int(number): _ns(seconds) for number, seconds in told.get("waits_s", {}).items()},
                broke=None if broke is None else Broke(
                    str(broke["where"]), str(broke["text"]), float(broke["at_s"]),
                    str(broke["trace_hash"]), str(broke["unseed"]),
                ),
            )  # fmt: skip
        except BadReplay:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as wrong:
            raise BadReplay(f"it cannot be read: {type(wrong).__name__}: {wrong}") from wrong


def load(file: Path) -> Plan:
    """Read a replay file. Raises ``BadReplay``, which names the file."""
    try:
        if file.stat().st_size > FILE_BYTES_MAX:
            raise BadReplay(f"it has more than {FILE_BYTES_MAX >> 20} MiB")
        return Plan.decode(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, BadReplay) as wrong:
        raise BadReplay(f"{file} is no replay: {wrong}") from wrong


def _ns(seconds: float) -> int:
    ns = round(seconds * 1e9)
    if ns < 0:
        raise ValueError(f"a time of {seconds} s")
    return ns


def _fault(told: dict[str, Any]) -> Planned:
    parameters = tuple(list(map(str, each)) if isinstance(each, list) else each for each in told["parameters"])
    return Planned(
        _ns(told["begin_s"]), _ns(told["length_s"]), str(told["kind"]), parameters, str(told.get("name", ""))
    )


def _natural(name: str) -> tuple[str, int]:
    """n1-2 before n1-10."""
    front = name.rstrip("0123456789")
    return front, int(name[len(front) :] or 0)


def _shown(value: Any) -> str:
    """One line a fault, so that a reader sees the story."""
    if isinstance(value, Sequence) and not isinstance(value, str) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(f"    {json.dumps(each)}" for each in value) + "\n  ]"
    return json.dumps(value)
