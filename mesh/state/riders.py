"""Records of other rooms that become durable in one commit with what spaces wrote."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from mesh.state.journal import Journal, nothing
from transport.base import Cut, Env, Put, StorageFault, Timer

RIDERS_MAX = 128  # of them wait for one commit; the next one does not wait


class _Rider(NamedTuple):
    """Records that wait for the next commit, and whom to tell."""

    puts: Sequence[Put]
    cuts: Sequence[Cut]
    saved: Callable[[], None]
    lost: Callable[[StorageFault], None]


class Riders:
    """Gathers records for one turn of the loop. ``seal_all`` signs what every space wrote so far."""

    def __init__(self, env: Env, journal: Journal, seal_all: Callable[[], None]) -> None:
        self._env, self._journal, self._seal_all = env, journal, seal_all
        self._waiting: list[_Rider] = []
        self._timer: Timer | None = None

    def add(
        self, puts: Sequence[Put], cuts: Sequence[Cut], saved: Callable[[], None], lost: Callable[[StorageFault], None]
    ) -> None:
        """Make these durable together with all that spaces wrote so far: all, or nothing.

        That is at the next turn of the loop, or sooner with the next frame, together with others that ask meanwhile.
        The cuts are a commit of their own, before it.
        """
        self._waiting.append(_Rider(puts, cuts, saved, lost))
        if len(self._waiting) >= RIDERS_MAX:
            self.go()
        elif self._timer is None:
            self._timer = self._env.call_at(self._env.mono(), self.go)

    def go(self) -> None:
        """Sign what spaces wrote, and commit it with the records that ride along. Called before anything is signed,
        so that no write overtakes a record that belongs to it."""
        riders, self._waiting = self._waiting, []
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not riders:
            return
        if cuts := [cut for rider in riders for cut in rider.cuts]:
            self._journal.append([], cuts, saved=nothing)

        def saved() -> None:
            for rider in riders:
                rider.saved()

        def lost(fault: StorageFault) -> None:
            for rider in riders:
                rider.lost(fault)

        with self._journal.together():
            self._seal_all()
            self._journal.append([put for rider in riders for put in rider.puts], saved=saved, lost=lost)
