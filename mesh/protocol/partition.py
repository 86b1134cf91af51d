"""Telling a cut from a crash: several members that go silent together are more likely cut off than dead at once.

Nothing is decided by it; it tells observers (DESIGN 11: ``PartitionSuspected``, ``PartitionHealed``).
"""

from __future__ import annotations

from dataclasses import dataclass

from mesh.protocol.effects import Effect, Emit, SetTimer
from mesh.protocol.facts import PartitionHealed, PartitionSuspected
from transport.base import MILLISECOND
from transport.identity import NodeId

SUSPECTED = ("partition", "suspected")
HEALED = ("partition", "healed")


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionConfig:
    together_ms: int = 500  # guess: on one side of a cut silence is noticed within a probe interval of each other
    healed_ms: int = 300  # guess: members of the other side come back within this of each other


class PartitionWatch:
    """Who fell silent within one window, and who of them came back.

    Law: every member named in ``PartitionSuspected`` is later named in exactly one ``PartitionHealed``, unless it
    leaves or is forgotten first.
    """

    __slots__ = ("_back", "_config", "_gone", "_silent")

    def __init__(self, config: PartitionConfig) -> None:
        self._config = config
        self._silent: dict[NodeId, int] = {}  # down by silence, not yet judged; when
        self._gone: dict[NodeId, None] = {}  # told as cut off
        self._back: dict[NodeId, None] = {}  # of those, came back, not yet told

    def on_silent(self, member: NodeId, now: int) -> list[Effect]:
        """``member`` went down by silence."""
        first = not self._silent
        self._silent[member] = now
        self._back.pop(member, None)
        return [SetTimer(SUSPECTED, self._config.together_ms * MILLISECOND)] if first else []

    def on_back(self, member: NodeId) -> list[Effect]:
        """``member`` is up again."""
        self._silent.pop(member, None)
        if member not in self._gone:
            return []
        first = not self._back
        self._back[member] = None
        return [SetTimer(HEALED, self._config.healed_ms * MILLISECOND)] if first else []

    def on_lost(self, member: NodeId) -> None:
        """``member`` left or was forgotten: no longer a matter of cuts."""
        for each in (self._silent, self._gone, self._back):
            each.pop(member, None)

    def on_window(self, here: tuple[NodeId, ...]) -> list[Effect]:
        """The window is over; ``here`` are the members that are present, this node among them."""
        fell = [each for each in self._silent if each not in self._gone]
        self._silent = {}
        others = len(fell) + len(here) - 1
        if not fell or (len(fell) < 2 and 2 * len(fell) < others and not self._gone):
            return []
        for each in fell:
            self._gone[each] = None
        return [Emit(PartitionSuspected(gone=tuple(sorted(fell)), here=tuple(sorted(here))))]

    def on_healed(self) -> list[Effect]:
        """Those that came back within the window are told together."""
        back = tuple(sorted(self._back))
        for each in back:
            self._gone.pop(each, None)
        self._back = {}
        return [Emit(PartitionHealed(back=back))] if back else []
