"""Short ways to what is in the space "main": most programs need no other."""

from __future__ import annotations

from abc import abstractmethod

from crdt import Bounded, Counter, Flag, List, Map, Multi, Register, Set, Text
from mesh.state.space import Space


class MainSpace:
    """``node.counter(k)`` is ``node.space("main").counter(k)``, and so with its kin."""

    @abstractmethod
    def space(self, name: str = "main") -> Space:
        """The space of that name."""

    def counter(self, key: str) -> Counter:
        """A counter of the space "main"; so with all that follow."""
        return self.space().counter(key)

    def bounded(self, key: str) -> Bounded:
        """A counter that never passes below zero."""
        return self.space().bounded(key)

    def register(self, key: str) -> Register:
        """One value; of concurrent writes the later stamp is shown."""
        return self.space().register(key)

    def multi(self, key: str) -> Multi:
        """One value; of concurrent writes all are shown."""
        return self.space().multi(key)

    def set(self, key: str, *, remove_wins: bool = False) -> Set:
        """A set; an add beats a concurrent remove, or the other way round."""
        return self.space().set(key, remove_wins=remove_wins)

    def flag(self, key: str, *, disable_wins: bool = False) -> Flag:
        """On or off; an enable beats a concurrent disable, or the other way round."""
        return self.space().flag(key, disable_wins=disable_wins)

    def map(self, key: str) -> Map:
        """Values and nested objects under keys."""
        return self.space().map(key)

    def list(self, key: str) -> List:
        """Values in an order; one that is moved at two nodes at once is not doubled."""
        return self.space().list(key)

    def text(self, key: str) -> Text:
        """Text that several edit at once: what they type at one place is never mixed."""
        return self.space().text(key)
