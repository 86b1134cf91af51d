"""What a report shows beyond the trace: the facts nodes told, and what each node held and what time it thought it was.

Recording changes nothing: it looks at nodes between occurrences, draws no chance, and leaves no line in the trace. So
the run with a report has the same hash as the run without.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transport.base import MILLISECOND, SECOND

if TYPE_CHECKING:
    from sim.node import SimNode
    from sim.world import World

LOOK_EVERY_NS = (  # until when (ns of the world), and how often: much happens at the start
    (200 * MILLISECOND, 2 * MILLISECOND), (2 * SECOND, 10 * MILLISECOND), (600 * SECOND, 50 * MILLISECOND),
)  # fmt: skip
LOOKS_MAX = 100_000  # of all nodes together; past that only facts and the trace are kept
VALUE_CHARS_MAX = 1500  # of a node's state as JSON; longer ones are cut and say so
SPACE = "main"


@dataclass(frozen=True, slots=True)
class Look:
    """What one node held from ``at`` (ns) on, until the next look that differs."""

    at: int
    error: int  # of its wall clock, ns
    clock: str  # operations seen by origin, as JSON
    digest: str
    value: str
    members: str


@dataclass(frozen=True, slots=True)
class Told:
    """One fact."""

    at: int
    node: str
    level: str
    text: str


class Recorder:
    """Attach it to a world before its first node. ``looks`` are by node name, each later than the one before."""

    def __init__(self) -> None:
        self.looks: dict[str, list[Look]] = {}
        self.facts: list[Told] = []
        self.names: dict[str, str] = {}  # the text of a node's id: its name
        self.left_out = 0
        self._count = 0
        self._world: World

    def attach(self, world: World) -> None:
        self._world = world
        world.trace.keep_lines()
        world.on_boot, world.on_end = self._born, self._end
        self._source = world.seed.source("recorder")
        self._again()

    def _born(self, node: SimNode) -> None:
        observe = getattr(node.node, "observe", None)
        if observe is not None:
            observe(lambda fact: self._told(node.name, fact))

    def _told(self, name: str, fact: Any) -> None:
        fields = " ".join(f"{key}={value}" for key, value in fact.fields().items())
        self.facts.append(Told(self._world.loop.now, name, fact.level, f"{fact.name} {fields}"))

    def _again(self) -> None:
        self.look()
        every = next((often for until, often in LOOK_EVERY_NS if self._world.loop.now < until), SECOND)
        self._world.loop.at(self._world.loop.now + every, self._again, self._source)

    def _end(self) -> None:
        with suppress(Exception):  # a broken world may have nothing to show; what broke it is told elsewhere
            self.look()

    def look(self) -> None:
        """Look at every node, and keep what is new."""
        for node in self._world.nodes:
            if node.answers and SPACE in getattr(node.node, "spaces", list)():  # looking opens no space: that writes
                self._look_at(node)

    def _look_at(self, node: SimNode) -> None:
        self.names[str(node.node.id)] = node.name
        looks = self.looks.setdefault(node.name, [])
        space = node.node.space(SPACE)
        error = node.machine.clock.error(self._world.loop.now)
        clock = json.dumps(dict(sorted((self._short(key), seen) for key, seen in space.clock.items())))
        members = " ".join(sorted(f"{each.name}:{each.state}" for each in node.node.members()))
        last = looks[-1] if looks else None
        if last is not None and (last.clock, last.members, last.error) == (clock, members, error):
            return
        if last is not None and last.clock == clock:
            digest, value = last.digest, last.value
        else:
            digest, value = space.digest(), json.dumps(space.value, ensure_ascii=False, default=repr, sort_keys=True)
        if len(value) > VALUE_CHARS_MAX:
            value = value[:VALUE_CHARS_MAX] + f" … {len(value) - VALUE_CHARS_MAX} characters more"
        if self._count >= LOOKS_MAX:
            self.left_out += 1
            return
        self._count += 1
        looks.append(Look(self._world.loop.now, error, clock, digest, value, members))

    def _short(self, origin: str) -> str:
        """An origin by its node's name in this world, and four characters of its log."""
        for text, name in self.names.items():
            if origin.startswith(text[:40]):
                return f"{name}·{origin[-4:]}"
        return origin[:8]
