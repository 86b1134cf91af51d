"""Who is believed to exist, and in what state: the table under failure detection (SWIM, Das et al. 2002, section 4.2).

Law: news counts only if ``(incarnation, state)`` rises, with ALIVE < SUSPECT < DOWN < LEFT; so floods end, and any
two nodes that heard the same news agree. Beyond the paper, a higher incarnation revives the dead: our keys are
permanent, so a split must heal. Alive and left are the member's own signed word; suspect and down are others'.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from mesh.protocol.record import MemberRecord
from transport.identity import NodeId


class State(enum.IntEnum):
    """How a member stands. The order is that of news at one incarnation."""

    ALIVE = 0
    SUSPECT = 1
    DOWN = 2
    LEFT = 3

    @property
    def is_present(self) -> bool:
        """Alive, or not yet proven otherwise."""
        return self <= State.SUSPECT


@dataclass(frozen=True, slots=True)
class MemberView:
    """One row of ``stack.members()``. ``since``: monotonic ns of this node when it came to this state."""

    id: NodeId
    name: str
    state: str  # "alive", "suspect", "down", "left"
    addresses: tuple[str, ...]
    incarnation: int
    rtt_ms: float | None  # None: not linked
    since: int
    durable: bool


@dataclass(frozen=True, slots=True)
class MemberChanged:
    """Inside the stack: ``member`` is known anew or stands otherwise than before. ``was`` is None for the unknown."""

    member: NodeId
    was: State | None
    state: State
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MemberForgotten:
    """Inside the stack: ``member`` was dropped from the table, by age or by the bound."""

    member: NodeId


class Member:
    """What is known of one member."""

    __slots__ = ("accusers", "cause", "record", "since", "state", "unlinked_since")

    def __init__(self, record: MemberRecord, state: State, now: int) -> None:
        self.record = record
        self.state = state
        self.since = now
        self.cause = ""
        self.accusers: dict[NodeId, None] = {}  # at this incarnation, in order of arrival
        self.unlinked_since = now

    @property
    def incarnation(self) -> int:
        """The member's own counter: nobody else can raise it."""
        return self.record.incarnation

    @property
    def rank(self) -> tuple[int, State]:
        return self.incarnation, self.state


class MemberTable:
    """The members, by key. Holds at most ``members_max``; at the bound the one longest down or left makes room."""

    __slots__ = ("_members", "_members_max", "me")

    def __init__(self, me: MemberRecord, members_max: int, now: int) -> None:
        self.me = me.node
        self._members_max = members_max
        self._members: dict[NodeId, Member] = {me.node: Member(me, State.ALIVE, now)}

    def __contains__(self, node: NodeId) -> bool:
        return node in self._members

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members.values())

    def get(self, node: NodeId) -> Member | None:
        return self._members.get(node)

    def would_rise(self, node: NodeId, incarnation: int, state: State) -> bool:
        """Whether this would be news: the cheap question before a signature is checked."""
        member = self._members.get(node)
        return member is None or (incarnation, state) > member.rank

    def own(self, record: MemberRecord, now: int) -> None:
        """This node's own word of itself, at its newest incarnation."""
        member = self._members[self.me]
        state = State.LEFT if record.left else State.ALIVE
        if not member.record.addresses or state is not member.state:
            member.since = now
        member.record, member.state = record, state

    def learn(self, record: MemberRecord, state: State, cause: str, now: int) -> MemberChanged | None:
        """Take news about ``record.node``, whose signature was checked. None: it did not rise, nothing changed.

        The caller made room first (``is_full``, ``oldest_gone``).
        """
        member = self._members.get(record.node)
        if member is None:
            member = self._members[record.node] = Member(record, state, now)
            member.cause = cause
            return MemberChanged(record.node, None, state, record.addresses)
        if (record.incarnation, state) <= member.rank:
            return None
        if record.incarnation > member.incarnation:
            member.accusers = {}
        member.record = record
        return self._stand(member, state, cause, now)

    def accuse(self, node: NodeId, incarnation: int, state: State, cause: str, now: int) -> MemberChanged | None:
        """Take the news that ``node`` is suspect or down at ``incarnation``. None: unknown, or it did not rise."""
        member = self._members.get(node)
        if member is None or incarnation != member.incarnation or state <= member.state:
            return None
        return self._stand(member, state, cause, now)

    def _stand(self, member: Member, state: State, cause: str, now: int) -> MemberChanged:
        was = member.state
        if state is not was:
            member.since = now
        member.state, member.cause = state, cause
        return MemberChanged(member.record.node, was, state, member.record.addresses)

    def is_full(self) -> bool:
        """Whether somebody must go before a new member is learnt."""
        return len(self._members) >= self._members_max

    def oldest_gone(self) -> NodeId | None:
        """Who has been down or left for longest. None: everybody is present."""
        gone = [each for each in self._members.values() if not each.state.is_present and each.record.node != self.me]
        return min(gone, key=lambda each: (each.since, each.record.node)).record.node if gone else None

    def stale(self, before: int) -> list[NodeId]:
        """Who has been down or left since before ``before``."""
        return [
            each.record.node
            for each in self._members.values()
            if not each.state.is_present and each.since < before and each.record.node != self.me
        ]

    def drop(self, node: NodeId) -> MemberForgotten:
        del self._members[node]
        return MemberForgotten(node)
