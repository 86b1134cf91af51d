"""What is told about members and what of it is believed: the dissemination half of SWIM (Das et al. 2002, section 4).

News floods on links and is forwarded only where it raised ``(incarnation, state)``, so floods end. Alive and left come
as the member's own signed record, suspect and down as rumours. A rumour at an incarnation whose record is not held is
not believed: links are in order, so who tells it told the record before, or invents it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from mesh.messages import RECORDS_MAX, LinkMessage, Records, Rumour
from mesh.protocol.effects import CloseLink, Effect, Emit, Send
from mesh.protocol.facts import Dropped, MemberSuspect, PeerMisbehaved
from mesh.protocol.members import Member, MemberChanged, MemberForgotten, MemberTable, State
from mesh.protocol.record import INCARNATION_MAX, MemberRecord, decode, sign
from transport.errors import PeerFault
from transport.identity import Identity, Mesh, NodeId

ACCUSERS_MAX = 16  # of one incarnation; Lifeguard counts three


@dataclass(frozen=True, slots=True)
class Doubted:
    """Inside swim: ``member`` is suspected, or one more peer confirmed it; its deadline is to be set anew."""

    member: NodeId


RosterEffect: TypeAlias = Effect | MemberChanged | MemberForgotten | Doubted


class Roster:
    """This node's word about itself, the member table, and the floods that keep tables alike.

    State: ``table``; ``peers``, the links to flood on, which its owner keeps.
    """

    def __init__(
        self, identity: Identity, mesh: Mesh, *, name: str, incarnation: int, durable: bool, members_max: int
    ) -> None:
        self._identity, self._mesh, self._name, self._durable = identity, mesh, name, durable
        self._record = self._sign(incarnation, left=False, addresses=())
        self.me = identity.id
        self.table = MemberTable(self._record, members_max, 0)
        self.peers: dict[NodeId, None] = {}

    @property
    def incarnation(self) -> int:
        """This node's own, as last signed."""
        return self._record.incarnation

    @property
    def addresses(self) -> tuple[str, ...]:
        """This node's own, as last signed."""
        return self._record.addresses

    # -- telling -----------------------------------------------------------------------------------------------------

    def _sign(self, incarnation: int, *, left: bool, addresses: tuple[str, ...]) -> MemberRecord:
        return sign(
            self._identity,
            self._mesh,
            name=self._name,
            incarnation=incarnation,
            left=left,
            addresses=addresses,
            durable=self._durable,
        )

    def speak(
        self, incarnation: int, now: int, *, addresses: tuple[str, ...] | None = None, left: bool = False
    ) -> list[RosterEffect]:
        """Sign a new record of this node and tell every neighbour."""
        where = self._record.addresses if addresses is None else addresses
        self._record = self._sign(incarnation, left=left, addresses=where)
        self.table.own(self._record, now)
        return self._flood(Records([self._record.raw]))

    def _refute(self, incarnation: int, now: int) -> list[RosterEffect]:
        """Somebody doubts us, or holds another word of ours: outlive it."""
        if incarnation < self.incarnation or incarnation >= INCARNATION_MAX:
            return []
        return self.speak(incarnation + 1, now)

    def _flood(self, message: LinkMessage, besides: NodeId | None = None) -> list[RosterEffect]:
        return [Send(peer, message) for peer in self.peers if peer != besides]

    def introduce(self, peer: NodeId) -> list[Effect]:
        """Everything we know, to a new neighbour: records of those present or left, rumours about the others."""
        words = [each.record.raw for each in self.table if each.state in (State.ALIVE, State.LEFT)]
        out: list[Effect] = [
            Send(peer, Records(words[at : at + RECORDS_MAX])) for at in range(0, len(words), RECORDS_MAX)
        ]
        for member in self.table:
            if member.state in (State.SUSPECT, State.DOWN):
                out.append(Send(peer, self.rumour_of(member, whole=True)))
        return out

    def rumour_of(self, member: Member, *, whole: bool = False, accuser: NodeId | None = None) -> Rumour:
        """How ``member`` stands, if not well. ``whole``: with its record, for who may not know it."""
        by = accuser or next(iter(member.accusers), self.me)
        raw = member.record.raw if whole else b""
        return Rumour(member.record.node, member.incarnation, member.state is State.DOWN, by, member.cause, raw)

    def suspect(self, target: NodeId, now: int) -> list[RosterEffect]:
        """This node itself doubts ``target``: say so once an incarnation, whoever said it before."""
        member = self.table.get(target)
        if member is None or not member.state.is_present:
            return []
        out: list[RosterEffect] = []
        if changed := self.table.accuse(target, member.incarnation, State.SUSPECT, "timeout", now):
            out += [changed, Emit(MemberSuspect(target, self.me))]
        if self.me not in member.accusers:
            member.accusers[self.me] = None
            out += self._flood(self.rumour_of(member, accuser=self.me))
        return [*out, Doubted(target)]

    def declare(self, target: NodeId, cause: str, now: int) -> list[RosterEffect]:
        """This node finds ``target`` down."""
        member = self.table.get(target)
        changed = member and self.table.accuse(target, member.incarnation, State.DOWN, cause, now)
        if not member or not changed:
            return []
        out = [changed, *self._flood(self.rumour_of(member, accuser=self.me), besides=target)]
        return [*out, CloseLink(target, "timeout")] if target in self.peers else out

    def forget(self, target: NodeId) -> MemberForgotten:
        """Too long gone."""
        return self.table.drop(target)

    # -- believing ---------------------------------------------------------------------------------------------------

    def _read(self, peer: NodeId, raw: bytes) -> MemberRecord | Emit:
        """The authentic record in ``raw``, or what to tell about the peer that sent something else."""
        try:
            record = decode(peer, raw)
        except PeerFault as fault:
            return Emit(PeerMisbehaved(peer, fault.rule))
        member = self.table.get(record.node)
        if member is not None and record.rank < member.record.rank:
            return record  # stale: nothing will be made of it, so its signature does not matter
        if member is not None and member.record.raw == raw:
            return record  # held already, checked then
        if not record.is_authentic(self._mesh, self._identity.suite):
            return Emit(PeerMisbehaved(peer, "a member record is signed by its member"))
        return record

    def on_records(self, peer: NodeId, records: Iterable[bytes], now: int) -> list[RosterEffect]:
        """Members' own words. A peer that brings a forged one loses its link."""
        out: list[RosterEffect] = []
        fresh: list[bytes] = []
        for raw in records:
            if raw == self._record.raw:
                continue
            record = self._read(peer, raw)
            if not isinstance(record, MemberRecord):
                out += [record, CloseLink(peer, "banned")]
                break
            if record.node == self.me:
                out += self._refute(record.incarnation, now)  # an earlier life of ours, or a copy of our key
            elif news := self._learn(record, State.LEFT if record.left else State.ALIVE, "", now):
                out += news
                if record.node in self.table:
                    fresh.append(raw)
        return out + self._flood(Records(fresh), besides=peer) if fresh else out

    def _learn(self, record: MemberRecord, state: State, cause: str, now: int) -> list[RosterEffect]:
        """Take a checked record. Empty: no news."""
        out: list[RosterEffect] = []
        if record.node not in self.table and self.table.is_full():
            oldest = self.table.oldest_gone()
            if oldest is None or not state.is_present:
                return [Emit(Dropped("members_max", 1))]  # and not forwarded: what is not kept would flood for ever
            out.append(self.forget(oldest))
        changed = self.table.learn(record, state, "left" if record.left else cause, now)
        return [] if changed is None else [*out, changed]

    def on_rumour(self, peer: NodeId, rumour: Rumour, now: int, *, heard: bool) -> list[RosterEffect]:
        """Somebody is said to be suspect or down. ``heard``: this node itself had a sign of life of it just now."""
        node = NodeId(rumour.member)
        state = State.DOWN if rumour.down else State.SUSPECT
        if node == self.me:
            return self._on_own_rumour(peer, rumour, now)
        member = self.table.get(node)
        if rumour.record and (member is None or member.incarnation < rumour.incarnation):
            return self._on_whole_rumour(peer, rumour, state, now)
        if member is None or rumour.incarnation != member.incarnation:
            return []
        if state <= member.state:
            return self._confirm(member, rumour)
        if state is State.DOWN and heard:
            return [Send(node, rumour)]  # not believed against one's own ears: it shall answer for itself
        changed = self.table.accuse(node, rumour.incarnation, state, rumour.cause, now)
        if changed is None:
            return []
        out: list[RosterEffect] = [changed]
        if state is State.SUSPECT:
            member.accusers[NodeId(rumour.accuser)] = None
            out += [Emit(MemberSuspect(node, NodeId(rumour.accuser))), Doubted(node)]
        elif node in self.peers:
            out.append(CloseLink(node, "timeout"))
        return out + self._flood(rumour, besides=peer)

    def _on_own_rumour(self, peer: NodeId, rumour: Rumour, now: int) -> list[RosterEffect]:
        if rumour.incarnation == self.incarnation:
            return self._refute(rumour.incarnation, now)
        if rumour.incarnation > self.incarnation and rumour.record:
            return self.on_records(peer, [rumour.record], now)  # of an earlier life of ours
        return []  # stale, or an incarnation that we never signed

    def _on_whole_rumour(self, peer: NodeId, rumour: Rumour, state: State, now: int) -> list[RosterEffect]:
        """A rumour that brings the record it is about: a member we did not know, or not at that incarnation."""
        record = self._read(peer, rumour.record)
        if not isinstance(record, MemberRecord):
            return [record, CloseLink(peer, "banned")]
        if record.node != rumour.member or record.incarnation != rumour.incarnation or record.left:
            fault = PeerMisbehaved(peer, "a rumour and the record it brings are about the same life")
            return [Emit(fault), CloseLink(peer, "banned")]
        out = self._learn(record, state, rumour.cause, now)
        if not out or record.node not in self.table:
            return out
        if state is State.SUSPECT and (member := self.table.get(record.node)):
            member.accusers[NodeId(rumour.accuser)] = None
            out.append(Doubted(record.node))
        return out + self._flood(rumour, besides=peer)

    def _confirm(self, member: Member, rumour: Rumour) -> list[RosterEffect]:
        """Old news about a suspect may still be another's independent suspicion (Lifeguard's LHA-Suspicion)."""
        accuser = NodeId(rumour.accuser)
        if member.state is not State.SUSPECT or rumour.down or accuser in member.accusers:
            return []
        if len(member.accusers) >= ACCUSERS_MAX:
            return []
        member.accusers[accuser] = None
        return [Doubted(member.record.node)]
