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

    __slots__ = ("_back", "_config", "_fell", "_gone")

    def __init__(self, config: PartitionConfig) -> None:
        self._config = config
        self._fell: dict[NodeId, bool] = {}  # down in this window; whether in silence
        self._gone: dict[NodeId, None] = {}  # told as cut off
        self._back: dict[NodeId, None] = {}  # of those, came back, not yet told

    def on_gone(self, member: NodeId, *, is_silent: bool) -> list[Effect]:
        """``member`` went down and its host did not refuse a dial. ``is_silent``: without closing its links either."""
        first = not self._fell
        self._fell[member] = is_silent
        self._back.pop(member, None)
        return [SetTimer(SUSPECTED, self._config.together_ms * MILLISECOND)] if first else []

    def on_back(self, member: NodeId) -> list[Effect]:
        """``member`` is up again."""
        self._fell.pop(member, None)
        if member not in self._gone:
            return []
        first = not self._back
        self._back[member] = None
        return [SetTimer(HEALED, self._config.healed_ms * MILLISECOND)] if first else []

    def on_lost(self, member: NodeId) -> None:
        """``member`` left or was forgotten: no longer a matter of cuts."""
        for each in (self._fell, self._gone, self._back):
            each.pop(member, None)

    def on_window(self, here: tuple[NodeId, ...]) -> list[Effect]:
        """The window is over; ``here`` are the members that are present, this node among them."""
        fell = [each for each in self._fell if each not in self._gone]
        is_large = 2 * len(fell) >= len(fell) + len(here) - 1 and any(self._fell.values())
        self._fell = {}
        if not fell or (len(fell) < 2 and not is_large and not self._gone):
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
