"""Actors interned to small numbers, local to one document."""

from __future__ import annotations

from collections.abc import Iterable

from crdt.clock import ACTORS_MAX
from crdt.errors import CrdtError

ACTOR_BYTES_MAX = 256


class ActorTable:
    """Name to number and back. Numbers follow order of arrival, so they differ between replicas: **never order by
    them**; order by the name's bytes."""

    __slots__ = ("indices", "names")

    def __init__(self) -> None:
        self.names: list[str] = []
        self.indices: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.names)

    def intern(self, name: str) -> int:
        """The number of ``name``, a new one at need. Raises ``CrdtError`` past 2^20 actors."""
        index = self.indices.get(name)
        if index is None:
            index = len(self.names)
            if index >= ACTORS_MAX:
                raise CrdtError(f"a document knows at most {ACTORS_MAX} actors")
            self.indices[name] = index
            self.names.append(name)
        return index

    def find(self, name: str) -> int | None:
        """The number of ``name``, if it has one."""
        return self.indices.get(name)

    def forget(self, known: int) -> None:
        """Take back all numbers from ``known`` on: nothing refers to them."""
        for name in self.names[known:]:
            del self.indices[name]
        del self.names[known:]

    def ordered(self, indices: Iterable[int]) -> list[int]:
        """``indices`` in the order of their names' bytes: the same on every replica."""
        names = self.names
        return sorted(indices, key=lambda index: names[index].encode())


def check_actor(name: object) -> str:
    """``name`` if it may be an actor. Raises ``ValueError``."""
    if isinstance(name, str) and name.isascii() and 0 < len(name) <= ACTOR_BYTES_MAX:
        return name  # nearly all of them
    if not isinstance(name, str) or not name:
        raise ValueError(f"an actor is a non-empty str, got {name!r}")
    if len(name) > ACTOR_BYTES_MAX or len(name.encode()) > ACTOR_BYTES_MAX:  # UnicodeEncodeError is a ValueError
        raise ValueError(f"an actor has at most {ACTOR_BYTES_MAX} bytes")
    return name
