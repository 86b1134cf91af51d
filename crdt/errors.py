"""What can go wrong with values that agree, and what became of the state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crdt.events import Event

PLACES_SHOWN = 8  # steps of a path in a message; ``path`` has all


class CrdtError(Exception):
    """Root of this package. The document is unchanged unless a subclass says otherwise."""


class InvalidValue(CrdtError, ValueError):
    """A local value, key or amount that no document may hold: wrong type, too long, too deep, NaN, over 64 bits.

    ``rule`` says which; ``path`` where in what was given: keys and indices from the outside in.
    """

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule
        self.path: tuple[str | int, ...] = ()

    def below(self, step: str | int) -> None:
        """Note that it was found under this key or index."""
        self.path = (step, *self.path)

    def __str__(self) -> str:
        steps = [f"[{each}]" if type(each) is int else f".{str(each)[:40]}" for each in self.path[:PLACES_SHOWN]]
        where = "".join(steps).removeprefix(".") + ("…" if len(self.path) > PLACES_SHOWN else "")
        return f"{where}: {self.rule}" if self.path else self.rule


class TypeClash(CrdtError, TypeError):
    """``path`` holds something of another type. Delete it first, or use another key."""

    def __init__(self, path: tuple[str, ...], wanted: str, found: Sequence[str]) -> None:
        super().__init__(f"{'/'.join(path)} is a {' and a '.join(found)}, not a {wanted}: delete it or use another key")
        self.path, self.wanted, self.found = path, wanted, tuple(found)


class BoundExceeded(CrdtError):
    """A bounded counter would have to spend rights its actor does not hold. ``holders``: who holds how many.

    Ask a holder to ``transfer`` some, or spend less.
    """

    def __init__(self, path: tuple[str, ...], wanted: int, rights: int, holders: Mapping[str, int]) -> None:
        rest = ", ".join(f"{actor} holds {held}" for actor, held in holders.items()) or "nobody holds any other"
        super().__init__(f"{'/'.join(path)}: {wanted} wanted, {rights} held here; {rest}")
        self.path, self.wanted, self.rights, self.holders = path, wanted, rights, dict(holders)


class ChangeTooLarge(CrdtError):
    """The change would not fit one frame. Split the transaction; nothing of it was kept."""

    def __init__(self, size: int, size_max: int) -> None:
        super().__init__(f"a change of {size} bytes, {size_max} fit: split it")
        self.size, self.size_max = size, size_max


class TransactionOpen(CrdtError):
    """Not possible while a transaction is open: transactions do not nest, and nothing is read out of or into one."""


class InvalidBytes(CrdtError):
    """Bytes that no correct replica wrote. Nothing of them was kept; never retry."""


class UnknownOperation(CrdtError):
    """``actor`` wrote an operation or type newer than this version knows. Its log cannot be followed until upgraded.

    Never skipped: what comes after it may rest on it.
    """

    def __init__(self, actor: str, seq: int, kind: int | str) -> None:
        super().__init__(f"{actor or 'somebody'} wrote kind {kind!r} (seq {seq}), newer than this version: upgrade")
        self.actor, self.seq, self.kind = actor, seq, kind


class CausalBufferFull(CrdtError):
    """Too many changes lack what they depend on. Nothing of the batch was kept: fetch ``missing``, then repeat.

    ``missing``: by actor, the first count that is waited for and was not offered.
    """

    def __init__(self, held: int, offered: int, missing: Mapping[str, int]) -> None:
        super().__init__(f"{held} changes wait already and {offered} more would; missing: {dict(missing)}")
        self.held, self.offered, self.missing = held, offered, dict(missing)


class HistoryCut(CrdtError):
    """The changes asked for were folded into state, or never kept. Send a snapshot instead."""


class LogClosed(CrdtError):
    """Logs of retired actors end where they were closed. What lies beyond was not taken in; all else was.

    ``closed``: where each ends; ``refused``: of each the first and the last operation that was not taken in. Their
    owner goes on under a new actor, in a document loaded from a snapshot of somebody else's, and writes there what it
    still wants. ``events``: what the rest of the batch changed.
    """

    def __init__(self, closed: Mapping[str, int], refused: Mapping[str, tuple[int, int]], do: str = "") -> None:
        each = ", ".join(f"{actor} at {closed[actor]}, not {a} to {b}" for actor, (a, b) in refused.items())
        super().__init__(f"closed: {each or ', '.join(f'{actor} at {seq}' for actor, seq in closed.items())}{do}")
        self.closed, self.refused = dict(closed), dict(refused)
        self.events: list[Event] = []


class ActorReused(CrdtError):
    """``actor`` names two different histories. One of the writers must go on under a new actor (``renew``)."""

    def __init__(self, actor: str, seq: int) -> None:
        super().__init__(f"{actor} wrote two different changes at {seq}: one of its writers needs a new actor")
        self.actor, self.seq = actor, seq
