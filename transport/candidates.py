"""Who might be dialled: what was hinted or wished, where, and what came of it. A table with a bound."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from transport.base import SECOND, Timer
from transport.identity import NodeId

ADDRESSES_MAX = 16  # of one candidate: a multi-homed host has fewer

Key: TypeAlias = NodeId | str  # a node, or an address of which nothing else is known


@dataclass(slots=True)
class AddressRecord:
    """One address, and the last thing that happened there."""

    address: str
    outcome: str = ""  # "", "linked", a ``DialFault`` or a refusal's reason
    detail: str = ""
    at_ns: int = 0  # when ``outcome`` was
    linked_ns: int = -1  # when a link was last made to, or from, this host; -1: never
    barred_until_ns: int = 0  # it answered as somebody who will not change soon
    named: int = 0  # when it was named last, as a count of namings: the higher, the fresher the news

    @property
    def is_failed(self) -> bool:
        """Whether the last try there came to nothing."""
        return self.outcome not in ("", "linked", "crossed")


@dataclass(slots=True, eq=False)
class Candidate:
    """One node, or one address where somebody is said to be (``node`` is ``None``)."""

    node: NodeId | None
    sources: dict[str, None] = field(default_factory=dict)
    addresses: dict[str, AddressRecord] = field(default_factory=dict)
    is_wanted: bool = False  # the overlay wishes for a link: tried for ever
    is_lasting: bool = False  # from the bootstrap list or last-known peers: tried for ever too
    is_proven: bool = False  # a link was made once
    insist: bool = False  # it said "crossed", and still there is no link
    resolved: NodeId | None = None  # who answered last at an address of nobody in particular
    failures: int = 0  # rounds in a row that came to nothing
    short_lives: int = 0  # links in a row that ended as soon as they were up
    second_looks: int = 0  # rounds that may still be repeated at once, since its link was lost
    rests_until_ns: int = 0  # hints do not wake it before
    next_ns: int | None = None  # when it is tried again
    ended_ns: int = -(1 << 62)  # when the last round ended
    timer: Timer | None = None
    namings: int = 0

    @property
    def key(self) -> Key:
        return next(iter(self.addresses)) if self.node is None else self.node

    def add(self, addresses: tuple[str, ...]) -> list[str]:
        """Remember these, best first; which of them are new. Past ``ADDRESSES_MAX`` one that failed goes, else the one
        that was named longest ago."""
        said = list(dict.fromkeys(addresses[:ADDRESSES_MAX]))
        fresh = [each for each in said if each not in self.addresses]
        self.namings += 1
        for address in said:
            if address not in self.addresses:
                if len(self.addresses) >= ADDRESSES_MAX:
                    old = [each for each in self.addresses.values() if each.address not in said]
                    del self.addresses[min(old, key=lambda record: (not record.is_failed, record.named)).address]
                self.addresses[address] = AddressRecord(address)
            self.addresses[address].named = self.namings
        return fresh

    def order(self, now_ns: int) -> list[str]:
        """Where to try, best first: what did not fail before what did, fresh news before old; not the barred ones."""
        free = [each for each in self.addresses.values() if each.barred_until_ns <= now_ns]
        free.sort(key=lambda record: (record.is_failed, -record.named))
        return [each.address for each in free]

    def best(self) -> list[str]:
        """Where the node was last, as far as is known: a host may have several doors."""
        last = max((each.linked_ns for each in self.addresses.values()), default=-1)
        return [each.address for each in self.addresses.values() if each.linked_ns == last >= 0]

    def note(self, address: str, outcome: str, detail: str, now_ns: int) -> None:
        """What happened at ``address`` last."""
        record = self.addresses.get(address)
        if record is not None:
            record.outcome, record.detail, record.at_ns = outcome, detail, now_ns

    def linked(self, addresses: Iterable[str], now_ns: int) -> None:
        """The node is there: a link to or from these is up."""
        for address in addresses:
            if address in self.addresses:
                self.addresses[address].linked_ns = now_ns

    def explain(self, now_ns: int) -> dict[str, Any]:
        """As plain values, for ``node.explain()`` and ``gossamer doctor``."""
        return {
            "node": None if self.node is None else str(self.node),
            "sources": list(self.sources),
            "wanted": self.is_wanted,
            "resolved": None if self.resolved is None else str(self.resolved),
            "failures": self.failures,
            "next_try_s": None if self.next_ns is None else max(0.0, (self.next_ns - now_ns) / SECOND),
            "addresses": [
                {
                    "address": each.address,
                    "outcome": each.outcome or "not tried",
                    "detail": each.detail,
                    "age_s": (now_ns - each.at_ns) / SECOND if each.outcome else None,
                    "barred_s": max(0.0, (each.barred_until_ns - now_ns) / SECOND),
                }
                for each in self.addresses.values()
            ],
        }


class CandidateTable:
    """At most ``size_max`` candidates. At the bound the oldest goes that nobody wishes for and that was never proven,
    else the oldest that nobody wishes for; if all are wished for, the new one is not taken."""

    def __init__(self, size_max: int) -> None:
        self._size_max = size_max
        self._table: dict[Key, Candidate] = {}
        self.dropped = 0  # how many the bound cost

    def get(self, key: Key) -> Candidate | None:
        return self._table.get(key)

    def __iter__(self) -> Iterator[Candidate]:
        return iter(list(self._table.values()))

    def __len__(self) -> int:
        return len(self._table)

    def add(self, candidate: Candidate) -> Candidate | None:
        """Take in a new one. Returns the one that had to go for it (perhaps itself), to be stopped."""
        out: Candidate | None = None
        if len(self._table) >= self._size_max:
            self.dropped += 1
            idle = [each for each in self._table.values() if not (each.is_wanted or each.is_lasting)]
            out = next((each for each in idle if not each.is_proven), idle[0] if idle else None)
            if out is None:
                if not candidate.is_wanted:
                    return candidate
                out = next((each for each in self._table.values() if not each.is_wanted), None)
                if out is None:
                    return candidate
            self.remove(out)
        self._table[candidate.key] = candidate
        return out

    def remove(self, candidate: Candidate) -> None:
        self._table.pop(candidate.key, None)
