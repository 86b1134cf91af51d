"""A space: a named set of typed objects that every member of the mesh holds. What applications use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any

from crdt import Document
from mesh.errors import TransactionSpansAwait
from mesh.state.lost import LostWrite
from mesh.state.replica import Replica
from mesh.state.watch import Watch
from transport.base import Timer

Confirm = Callable[[Replica, str, float], Awaitable[None]]


class Transaction:
    """``with space.transaction():`` all that is written inside becomes one change, or nothing does."""

    __slots__ = ("_has_turned", "_inner", "_replica", "_timer")

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._has_turned = False
        self._timer: Timer | None = None
        self._inner: Any = None

    def __enter__(self) -> None:
        replica = self._replica
        self._inner = replica.doc.transaction()
        self._inner.__enter__()
        replica.writer.open_transaction = self
        env = replica.room.env
        self._timer = env.call_at(env.mono(), self._turn)  # rings only if the loop gets a turn before the end

    def _turn(self) -> None:
        self._has_turned = True

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        try:
            if self._has_turned and raised is None:
                raised = TransactionSpansAwait(self._replica.name)
                self._inner.__exit__(type(raised), raised, None)
                raise raised
            self._inner.__exit__(kind, raised, trace)
        finally:
            self._replica.writer.end_transaction(self._has_turned)


class Space:
    """One space of one node. Reading is local and at once; writing is visible at once, durable and spread a little
    later: ``flush`` and ``confirm`` say when.

    A write raises before anything changes: the ``CrdtError``s of ``crdt``, ``BacklogFull`` when the disk is too far
    behind, ``SpaceReadOnly`` while it refuses. Handles are places, hold no state, and stay valid.
    """

    def __init__(self, replica: Replica, confirm: Confirm) -> None:
        self._replica = replica
        self._confirm = confirm
        self._watches: dict[Watch, None] = {}
        self._doc: Document = replica.doc
        # The handles are the document's own, without a call between.
        doc = replica.doc
        self.counter, self.bounded, self.register, self.multi = doc.counter, doc.bounded, doc.register, doc.multi
        self.set, self.flag, self.map, self.list, self.text = doc.set, doc.flag, doc.map, doc.list, doc.text
        self.delete, self.conflicts, self.digest = doc.delete, doc.conflicts, doc.digest
        self.get, self.live_keys = doc.get, doc.live_keys

    @property
    def name(self) -> str:
        return self._replica.name

    @property
    def actor(self) -> str:
        """Who this node is in this space: what a bounded counter's ``transfer`` of another node names. The same after a
        restart, one commit after it was first asked for; another one when the disk was lost."""
        self._replica.writer.keep_name()
        return self._doc.actor

    @property
    def value(self) -> dict[str, Any]:
        """Everything in it as fresh plain Python, by key."""
        value: dict[str, Any] = self._doc.value
        return value

    @property
    def clock(self) -> dict[str, int]:
        """Per actor, how many of its operations are in here."""
        return dict(self._doc.clock)

    @property
    def retired(self) -> dict[str, int]:
        """Where the logs of retired actors end."""
        return self._doc.retired

    def stats(self) -> dict[str, Any]:
        """What takes room in memory and in a snapshot: see ``crdt.Document.stats``. O(state)."""
        return self._doc.stats()

    def transaction(self) -> Transaction:
        """A block whose writes become one change. Raises ``TransactionSpansAwait`` at its end, and keeps nothing, if
        other code could run in between; an exception inside keeps nothing either."""
        return Transaction(self._replica)

    def watch(self, key: str | None = None) -> Watch:
        """Iterate over what changes from now on, in the whole space or under ``key``.

        A slow reader never slows a writer: past ``watch_events_max`` waiting events it gets only the latest of each
        place, never loses a last state, and ``coalesced`` counts the rest.
        """
        watch = Watch(key, self._replica.room.config.watch_events_max, self._unwatch)
        self._watches[watch] = None
        if len(self._watches) == 1:
            self._replica.on_events.append(self._feed)
        return watch

    def _feed(self, events: list[Any]) -> None:
        for watch in tuple(self._watches):
            watch.feed(events)

    def _unwatch(self, watch: Watch) -> None:
        self._watches.pop(watch, None)
        if not self._watches and self._feed in self._replica.on_events:
            self._replica.on_events.remove(self._feed)

    async def flush(self) -> None:
        """Return when all written here so far is on this node's disk. Raises ``SpaceReadOnly`` if it was lost."""
        await self._replica.writer.flush()

    async def confirm(self, level: str = "quorum", timeout: float = 5.0) -> None:
        """Return when what was written here is on the disks of ``level`` members: "one" other, a "quorum" (more than
        half, this one counted), or "all". Raises ``NotConfirmed``, which names who has it, after ``timeout`` seconds;
        the writes stay, and keep spreading."""
        await self._confirm(self._replica, level, timeout)

    def lost(self) -> list[LostWrite]:
        """Own writes that were durable here and could not become part of what the others hold, oldest first; the event
        ``WritesLost`` told of them. Kept on disk until ``forget_lost``. Raises ``StorageFault``."""
        return self._replica.lost.writes()

    def forget_lost(self) -> None:
        """They were looked at: remove them, with the next commit."""
        self._replica.lost.forget()

    def end(self) -> None:
        """The node closes: watchers end."""
        for watch in tuple(self._watches):
            watch.end()
        self._watches.clear()

    def __repr__(self) -> str:
        return f"Space({self.name!r})"
