"""Who is alive: SWIM (Das, Gupta, Motivala 2002) with Lifeguard (Dadgar et al. 2017, arXiv:1707.00788), on links.

Two detectors. *A link that closed* is evidence at once, since a dead process closes its connections: peers are asked
whether they still reach the target, and it is dialled again; nobody reaches it and the dial is refused: down, within
a round trip. *Silence* (a frozen process, a cut cable) is probed for: directly, then through others, then suspected
for a while in which any byte heard clears it. A node that ran late itself distrusts itself first.

Every node probes the peers it is linked to; links are symmetric, so everyone is watched. News floods on links, and a
core forwards only what rose in its own table, so floods end. Only a member raises its own incarnation.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from typing import TypeAlias, assert_never

from mesh.messages import LinkMessage, Probe, ProbeAck, ProbeFor, ProbeVerdict, Records, Rumour
from mesh.protocol.effects import (
    CancelTimer,
    CloseLink,
    Connect,
    DialRefused,
    Effect,
    Emit,
    Heard,
    Leave,
    LinkClosed,
    LinkUp,
    LoopLate,
    Received,
    Send,
    SetTimer,
    Started,
    TimerFired,
)  # fmt: skip
from mesh.protocol.facts import MemberDown, MemberUp
from mesh.protocol.members import Member, MemberChanged, MemberForgotten, MemberView, State
from mesh.protocol.partition import HEALED, SUSPECTED, PartitionConfig, PartitionWatch
from mesh.protocol.prober import Prober, ProberConfig, ProberEffect, Silent
from mesh.protocol.roster import Doubted, Roster, RosterEffect
from mesh.protocol.suspicion import SuspicionConfig, Suspicions
from mesh.protocol.watch import Finding, Inquiry
from transport.base import MILLISECOND, SECOND
from transport.identity import Identity, Mesh, NodeId

Event: TypeAlias = (
    Started | LinkUp | LinkClosed | DialRefused | Received | Heard | TimerFired | LoopLate | Leave
)  # fmt: skip
SwimEffect: TypeAlias = Effect | MemberChanged | MemberForgotten

TICK = ("swim", "tick")


@dataclass(frozen=True, slots=True, kw_only=True)
class SwimConfig:
    inquiry_ms: int = 400  # a closed link is judged within that, whatever the dial does: kill -9 seen in 0.5 s
    unlinked_ms: int = 3000  # a member nobody here is linked to is asked about after this
    unlinked_members_max: int = 12  # in larger meshes not being linked is normal (hyparview)
    closed_memory_ms: int = 5000  # how long "my link to it closed" is an answer
    fresh_ms: int = 1000  # heard within: a rumour that says down is doubted
    forget_s: int = 7 * 24 * 3600  # DESIGN 6: the lease after which a member no longer counts
    members_max: int = 4096  # the bound of the table; oldest down goes first
    tick_ms: int = 1000
    prober: ProberConfig = field(default_factory=ProberConfig)
    suspicion: SuspicionConfig = field(default_factory=SuspicionConfig)
    partition: PartitionConfig = field(default_factory=PartitionConfig)

    def __post_init__(self) -> None:
        if self.members_max < 2 or self.tick_ms <= 0:
            raise ValueError(f"need members_max >= 2, tick_ms > 0, got {self}")


class Swim:
    """One node's view of who is there. Feed it its ``Event``s; it answers with effects and ``MemberChanged``.

    State: the member table, one ``Watch`` a link, one ``Inquiry`` a closed link; each goes with its link or answer.
    """

    def __init__(
        self, identity: Identity, mesh: Mesh, config: SwimConfig, rng: Random, *, name: str, incarnation: int,
        durable: bool,
    ) -> None:  # fmt: skip
        self._config = config
        self.me = identity.id
        self._roster = Roster(
            identity, mesh, name=name, incarnation=incarnation, durable=durable, members_max=config.members_max
        )
        self.table = self._roster.table
        self._prober = Prober(
            self.me, config.prober, rng, is_present=self._is_present, is_alive=self._is_alive
        )  # fmt: skip
        self._watches = self._prober.watches
        self._inquiries: dict[NodeId, Inquiry] = {}
        self._closed: dict[NodeId, int] = {}  # when a link to it closed unexpectedly
        self._suspicions = Suspicions(config.suspicion)
        self._partition = PartitionWatch(config.partition)
        self._late_ns = config.prober.late_ms * MILLISECOND
        self._started = False

    # -- questions ---------------------------------------------------------------------------------------------------

    @property
    def incarnation(self) -> int:
        """This node's own, as last signed."""
        return self._roster.incarnation

    def rtt_ns(self, peer: NodeId) -> int:
        """Smoothed round trip to a linked peer; a cautious guess for others."""
        watch = self._watches.get(peer)
        return watch.rtt_ns if watch else 50 * MILLISECOND

    def views(self) -> list[MemberView]:
        """Every member, itself included, by name and key."""
        rows = []
        for member in self.table:
            watch = self._watches.get(member.record.node)
            rtt = watch.rtt_ns / MILLISECOND if watch else (0.0 if member.record.node == self.me else None)
            record = member.record
            state = member.state.name.lower()
            rows.append(
                MemberView(
                    id=record.node,
                    name=record.name,
                    state=state,
                    addresses=record.addresses,
                    incarnation=member.incarnation,
                    rtt_ms=rtt,
                    since=member.since,
                    durable=record.durable,
                )
            )
        return sorted(rows, key=lambda row: (row.name, row.id))

    def explain(self) -> dict[str, object]:
        """Doubts and questions under way, as plain values."""
        return {
            "health": self._prober.health,
            "linked": {str(peer): watch.stage.name.lower() for peer, watch in sorted(self._watches.items())},
            "suspected": [str(member) for member in sorted(self._suspicions)],
            "asking_about": [str(member) for member in sorted(self._inquiries)],
        }

    # -- the machine -------------------------------------------------------------------------------------------------

    def handle(self, event: Event, now: int) -> list[SwimEffect]:
        match event:
            case Received(peer, message):
                return self._heard(peer, now) + self._on_message(peer, message, now)
            case Heard(peer):
                return self._heard(peer, now)
            case TimerFired(key):
                return self._on_timer(key, now)
            case Started(addresses):
                return self._on_started(addresses, now)
            case LinkUp(peer, rtt_ns):
                return self._on_link_up(peer, rtt_ns, now)
            case LinkClosed(peer, cause):
                return self._on_link_closed(peer, cause, now)
            case DialRefused(member, refused):
                return self._on_dial_refused(member, refused, now)
            case LoopLate(by_ns):
                return self._on_late(by_ns, now)
            case Leave():
                return self._on_leave(now)
            case _:
                assert_never(event)

    def _on_message(self, peer: NodeId, message: LinkMessage, now: int) -> list[SwimEffect]:
        match message:
            case Probe(number):
                return self._settle(self._prober.on_probe(peer, number, now), now)
            case ProbeAck(number):
                self._prober.on_ack(peer, number, now)
                return []
            case Records(records):
                return self._settle(self._roster.on_records(peer, records, now), now)
            case Rumour():
                return self._on_rumour(peer, message, now)
            case ProbeFor(number, target):
                return self._on_probe_for(peer, number, NodeId(target), now)
            case ProbeVerdict(number, target, verdict):
                return self._on_verdict(peer, number, NodeId(target), verdict, now)
            case _:
                return []  # another core's

    def _on_timer(self, key: object, now: int) -> list[SwimEffect]:
        match key:
            case ("swim", "watch", NodeId() as peer):
                return self._settle(self._prober.on_due(peer, now), now)
            case ("swim", "tick"):
                return self._on_tick(now)
            case ("swim", "suspect", NodeId() as member):
                return self._on_suspicion(member, now)
            case ("swim", "inquiry", NodeId() as target):
                return self._on_inquiry_due(target, now)
            case ("swim", "ask", NodeId() as target):
                return self._settle(self._prober.on_ask_due(target), now)
            case _ if key == SUSPECTED:
                here = tuple(each.record.node for each in self.table if each.state.is_present)
                return [*self._partition.on_window(here)]
            case _ if key == HEALED:
                return [*self._partition.on_healed()]
            case _:
                return []

    # -- oneself -----------------------------------------------------------------------------------------------------

    def _on_started(self, addresses: tuple[str, ...], now: int) -> list[SwimEffect]:
        if self._started and addresses == self._roster.addresses:
            return []
        first, self._started = not self._started, True
        out = self._settle(self._roster.speak(self.incarnation + (0 if first else 1), now, addresses=addresses), now)
        return [*out, SetTimer(TICK, self._config.tick_ms * MILLISECOND)] if first else out

    def _on_rumour(self, peer: NodeId, rumour: Rumour, now: int) -> list[SwimEffect]:
        if rumour.member == self.me and rumour.incarnation == self.incarnation:
            self._prober.worsen()  # we were slow enough to be doubted
        watch = self._watches.get(NodeId(rumour.member))
        heard = watch is not None and now - watch.heard < self._config.fresh_ms * MILLISECOND
        return self._settle(self._roster.on_rumour(peer, rumour, now, heard=heard), now)

    def _on_leave(self, now: int) -> list[SwimEffect]:
        out = self._settle(self._roster.speak(self.incarnation, now, left=True), now)
        out += self._settle(self._prober.on_leave(), now)
        out += [CancelTimer(("swim", "inquiry", target)) for target in self._inquiries]
        for member in [*self._suspicions]:
            out += self._suspicions.end(member)
        out += [CancelTimer(TICK), CancelTimer(SUSPECTED), CancelTimer(HEALED)]
        out += [CloseLink(peer, "left") for peer in self._watches]
        return out

    def _on_late(self, by_ns: int, now: int) -> list[SwimEffect]:
        """Our own loop slept: that time is no evidence against anybody."""
        if by_ns < self._late_ns:
            return []
        return [*self._settle(self._prober.on_late(by_ns, now), now), *self._suspicions.slept(by_ns, now)]

    # -- links -------------------------------------------------------------------------------------------------------

    def _on_link_up(self, peer: NodeId, rtt_ns: int, now: int) -> list[SwimEffect]:
        watched = self._settle(self._prober.on_link_up(peer, rtt_ns, now), now)
        self._closed.pop(peer, None)
        self._roster.peers[peer] = None
        return [*self._end_inquiry(peer), *self._roster.introduce(peer), *watched]

    def _on_link_closed(self, peer: NodeId, cause: str, now: int) -> list[SwimEffect]:
        if peer not in self._watches:
            return []
        self._roster.peers.pop(peer, None)
        unexpected = cause in ("closed", "timeout")
        if unexpected:
            self._closed[peer] = now
        out = self._settle(self._prober.on_link_closed(peer, "closed" if unexpected else "unlinked"), now)
        if member := self.table.get(peer):
            member.unlinked_since = now
        for inquiry in [*self._inquiries.values()]:
            if peer in inquiry.asked and inquiry.asked.pop(peer) is None:
                out += self._judge(inquiry, now)
        if not unexpected or member is None or not member.state.is_present:
            return out
        return out + self._inquire(member, now, redial=True)

    def _on_dial_refused(self, member: NodeId, refused: bool, now: int) -> list[SwimEffect]:
        inquiry = self._inquiries.get(member)
        if inquiry is None or member in self._watches:
            return []
        inquiry.dial = "refused" if refused else "failed"
        return self._judge(inquiry, now)

    def _inquire(self, member: Member, now: int, *, redial: bool) -> list[SwimEffect]:
        """Nobody home? Ask every other neighbour, and dial again."""
        target = member.record.node
        if target in self._inquiries:
            return []
        number = self._prober.number()
        asked = [peer for peer in self._watches if peer != target]
        inquiry = self._inquiries[target] = Inquiry(target, number, asked, dial="" if redial else "failed")
        out: list[SwimEffect] = [Connect(target, member.record.addresses)] if redial else []
        out += [Send(peer, ProbeFor(number, target)) for peer in asked]
        out.append(self._wait(inquiry, now))
        return out + self._judge(inquiry, now)

    def _wait(self, inquiry: Inquiry, now: int) -> SetTimer:
        after_ns = self._prober.stretched(self._config.inquiry_ms)
        inquiry.due = now + after_ns
        return SetTimer(("swim", "inquiry", inquiry.target), after_ns)

    def _on_inquiry_due(self, target: NodeId, now: int) -> list[SwimEffect]:
        inquiry = self._inquiries.get(target)
        if inquiry is None:
            return []
        if now - inquiry.due > self._late_ns:
            return [self._wait(inquiry, now)]  # we slept: the answers are waiting in our own queue
        return self._judge(inquiry, now, deadline=True)

    def _judge(self, inquiry: Inquiry, now: int, *, deadline: bool = False) -> list[SwimEffect]:
        target = inquiry.target
        finding = inquiry.finding(deadline=deadline)
        if finding is Finding.OPEN:
            return []
        out = self._end_inquiry(target)
        match finding:
            case Finding.ALIVE:
                return out  # the wish to link stays the overlay's
            case Finding.DEAD:
                return out + self._declare(target, "closed", now)
            case Finding.MUTE:
                down = self._declare(target, "closed", now)
                return [*out, *down, *(self._partition.on_gone(target, is_silent=False) if down else [])]
            case Finding.UNCLEAR:
                return out + self._suspect(target, now)
            case _:
                assert_never(finding)

    def _end_inquiry(self, target: NodeId) -> list[SwimEffect]:
        return [CancelTimer(("swim", "inquiry", target))] if self._inquiries.pop(target, None) else []

    # -- signs of life ------------------------------------------------------------------------------------------------

    def _on_probe_for(self, peer: NodeId, number: int, target: NodeId, now: int) -> list[SwimEffect]:
        """``peer`` wants to know whether this node reaches ``target``."""
        if target == self.me:
            return [Send(peer, ProbeVerdict(number, target, "alive"))]
        if watch := self._watches.get(target):
            return self._settle(self._prober.ask_for(peer, number, watch, now), now)
        closed = now - self._closed.get(target, -SECOND << 20) < self._config.closed_memory_ms * MILLISECOND
        return [Send(peer, ProbeVerdict(number, target, "closed" if closed else "unlinked"))]

    def _on_verdict(self, peer: NodeId, number: int, target: NodeId, verdict: str, now: int) -> list[SwimEffect]:
        inquiry = self._inquiries.get(target)
        if inquiry and inquiry.number == number and peer in inquiry.asked:
            inquiry.asked[peer] = verdict
            return self._judge(inquiry, now)
        self._prober.on_verdict(peer, number, target, verdict)
        return []

    def _heard(self, peer: NodeId, now: int) -> list[SwimEffect]:
        out = self._settle(self._prober.heard(peer, now), now)
        member = self.table.get(peer)
        if member is None or member.state not in (State.SUSPECT, State.DOWN) or not (watch := self._watches.get(peer)):
            return out
        out += self._suspicions.end(peer)
        if now - watch.nudged >= self._config.prober.quiet_ms * MILLISECOND:
            watch.nudged = now  # it lives and others think otherwise: only its own word ends that
            out.append(Send(peer, self._roster.rumour_of(member)))
        return out

    # -- news ---------------------------------------------------------------------------------------------------------

    def _settle(self, news: Iterable[RosterEffect | ProberEffect], now: int) -> list[SwimEffect]:
        """What follows here from what the roster took or told, and from what the prober found."""
        out: list[SwimEffect] = []
        for each in news:
            match each:
                case MemberChanged():
                    out += self._tell(each, now)
                case Doubted(member):
                    out.append(self._doubt(member, now))
                case Silent(member):
                    out += self._suspect(member, now)
                case MemberForgotten(member):
                    self._partition.on_lost(member)
                    out.append(each)
                case _:
                    out.append(each)
        return out

    def _is_alive(self, node: NodeId) -> bool:
        member = self.table.get(node)
        return member is not None and member.state is State.ALIVE

    def _is_present(self, node: NodeId) -> bool:
        member = self.table.get(node)
        return member is not None and member.state.is_present

    def _tell(self, changed: MemberChanged, now: int) -> list[SwimEffect]:
        """What follows from a change in the table, towards observers and timers."""
        node, was, state = changed.member, changed.was, changed.state
        member = self.table.get(node)
        assert member is not None
        out: list[SwimEffect] = [changed]
        if state is not State.SUSPECT:
            out += self._suspicions.end(node)
        if state is State.ALIVE and (was is None or not was.is_present):
            out.append(Emit(MemberUp(node, member.record.name, member.incarnation)))
            out += self._partition.on_back(node)
        elif not state.is_present and was is not None and was.is_present:
            out.append(Emit(MemberDown(node, member.record.name, member.cause)))
            out += self._end_inquiry(node)
            if member.cause == "timeout":
                out += self._partition.on_gone(node, is_silent=True)
        if state is State.LEFT:
            self._partition.on_lost(node)
        return out

    # -- suspicion ---------------------------------------------------------------------------------------------------

    def _suspect(self, target: NodeId, now: int) -> list[SwimEffect]:
        """This node itself finds ``target`` silent."""
        return self._settle(self._roster.suspect(target, now), now)

    def _doubt(self, target: NodeId, now: int) -> SetTimer:
        """(Re)set the deadline by which ``target`` must have refuted."""
        member = self.table.get(target)
        assert member is not None
        return self._suspicions.doubt(
            target,
            now,
            accusers=len(member.accusers),
            others=sum(1 for each in self.table if each.state.is_present) - 2,
            is_own=self.me in member.accusers,
            health=self._prober.health,
        )

    def _on_suspicion(self, target: NodeId, now: int) -> list[SwimEffect]:
        since = self._suspicions.due(target, now, self._late_ns)
        if not isinstance(since, int):
            return [since] if since else []
        watch = self._watches.get(target)
        if watch and watch.heard >= since:
            return []
        return self._declare(target, "timeout", now)

    def _declare(self, target: NodeId, cause: str, now: int) -> list[SwimEffect]:
        """``target`` is down; tell everybody."""
        return self._settle(self._roster.declare(target, cause, now), now)

    # -- once a second -----------------------------------------------------------------------------------------------

    def _on_tick(self, now: int) -> list[SwimEffect]:
        out: list[SwimEffect] = [SetTimer(TICK, self._config.tick_ms * MILLISECOND)]
        self._prober.recover()
        for target in self.table.stale(now - self._config.forget_s * SECOND):
            out += self._settle([self._roster.forget(target)], now)
        memory_ns = self._config.closed_memory_ms * MILLISECOND
        self._closed = {peer: when for peer, when in self._closed.items() if now - when < memory_ns}
        present = [each for each in self.table if each.state.is_present and each.record.node != self.me]
        if len(present) > self._config.unlinked_members_max:
            return out
        for member in present:
            node = member.record.node
            waited = now - member.unlinked_since > self._config.unlinked_ms * MILLISECOND
            if waited and node not in self._watches and node not in self._suspicions:
                out += self._inquire(member, now, redial=False)
        return out
