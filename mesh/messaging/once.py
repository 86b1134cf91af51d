"""Idempotency keys: a question or message that comes again under the same key runs no second handler.

Whoever repeats gets what the first one got: at once if it is answered, together with it if it is under way. Handlers
under a key run to their end, also when the caller gave up, so that a repeat after a timeout finds the answer. A handler
that failed is forgotten, so a repeat tries again. Keys are the sender's own: nobody answers for another's.
"""

from __future__ import annotations

from typing import TypeAlias

from mesh.messages import Reply
from transport.base import SECOND
from transport.identity import NodeId

ANSWERS_MAX = 4096  # remembered; past it the oldest are forgotten, and so
BYTES_MAX = 8 << 20  # past so many bytes of answers
WINDOW_NS = 600 * SECOND  # and after so long
EXTRA = 512  # bytes of memory an answer costs beside its body

Slot: TypeAlias = tuple[NodeId, str, str]  # sender, handler ("" for messages), key
Asker: TypeAlias = tuple[NodeId, int]  # a peer, and the number it asks under


class Once:
    """The keys of one node's handlers: under way, or answered. Time is monotonic ns, given."""

    def __init__(self) -> None:
        self._waiting: dict[Slot, list[Asker]] = {}  # under way, and who asked again meanwhile
        self._answers: dict[Slot, tuple[int, Reply]] = {}  # until when, what; the oldest first
        self._bytes = 0

    def answer(self, slot: Slot, now: int) -> Reply | None:
        """What was answered to it, if that is remembered."""
        self._forget(now)
        found = self._answers.get(slot)
        return None if found is None else found[1]

    def join(self, slot: Slot, asker: Asker) -> bool:
        """Whether it is under way; then ``asker`` is among those that ``end`` gives back."""
        if slot not in self._waiting:
            return False
        self._waiting[slot].append(asker)
        return True

    def leave(self, slot: Slot, asker: Asker) -> None:
        """``asker`` waits for it no more."""
        if asker in self._waiting.get(slot, ()):
            self._waiting[slot].remove(asker)

    def begin(self, slot: Slot) -> None:
        """It is under way now; ``end`` follows, whatever happens."""
        self._waiting[slot] = []

    def end(self, slot: Slot, answer: Reply | None, now: int) -> list[Asker]:
        """It is over: remembered with ``answer``, or forgotten (None) because it failed. Who else waited for it."""
        if answer is not None:
            self._answers[slot] = now + WINDOW_NS, answer
            self._bytes += len(answer.body) + EXTRA
            self._forget(now)
        return self._waiting.pop(slot)

    def _forget(self, now: int) -> None:
        while self._answers:
            slot, (until, answer) = next(iter(self._answers.items()))
            if until > now and self._bytes <= BYTES_MAX and len(self._answers) <= ANSWERS_MAX:
                return
            del self._answers[slot]
            self._bytes -= len(answer.body) + EXTRA
