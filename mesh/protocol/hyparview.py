"""Whom a node holds links to: HyParView (Leitão, Pereira, Rodrigues, DSN 2007), one algorithm at every size.

Active view: links held. Passive view: members to fall back on. While the mesh is small the active view's target is
everybody; above that it is max(6, ceil(ln N) + 2), at most 12, and links are dropped only above 16, so that a mesh
that grows past the border does not churn.

Beyond the paper: the members outside our own component are retried for ever (``_duty``), since HyParView's views can
split for good (iroh-gossip #86, #152); and every lost neighbour has a cause. Differs from the paper: no random walks
(JOIN, FORWARDJOIN), because membership news is flooded anyway; candidates are drawn from the member table, and
shuffles add contacts whose record has not arrived yet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random
from typing import TypeAlias, assert_never

from mesh.messages import Contact, Disconnect, LinkMessage, Shuffle
from mesh.protocol.effects import (
    CancelTimer,
    CloseLink,
    Connect,
    Effect,
    Emit,
    Forget,
    Leave,
    LinkClosed,
    LinkUp,
    Received,
    Send,
    SetTimer,
    Started,
    TimerFired,
    Wanted,
)  # fmt: skip
from mesh.protocol.facts import LinkLost, LinkOpened
from mesh.protocol.members import MemberChanged, MemberForgotten, State
from transport.base import MILLISECOND, SECOND
from transport.identity import NodeId

Event: TypeAlias = (
    Started | LinkUp | LinkClosed | Wanted | Received | TimerFired | Leave | MemberChanged | MemberForgotten
)  # fmt: skip

DUTY = ("overlay", "duty")
SHUFFLE = ("overlay", "shuffle")


@dataclass(frozen=True, slots=True, kw_only=True)
class HyParViewConfig:
    full_members_max: int = (
        12  # up to this everybody is linked to everybody: one hop, no view to go wrong (research 2.3)
    )
    active_min: int = 6  # above that: the least; gossipsub's D, a random 6-regular graph is connected almost surely
    active_max: int = 12
    links_max: int = 16  # evict only above, down to ``active_max``
    passive_factor: int = 6  # the paper's ratio of passive to active
    larger_key_waits_ms: int = 300  # the smaller key dials first, which saves most crossed dials
    retry_s: tuple[float, float] = (1.0, 2.0)  # DESIGN 5, in the first minutes of an absence …
    retry_late_s: tuple[float, float] = (10.0, 30.0)  # … and for ever after
    retry_first_s: float = 120.0
    give_up_s: float = 10.0  # guess: above the full mesh a wish that long in vain goes to another member
    retry_members_max: int = 16  # dialled at one turn; the others wait for the next
    shuffle_s: float = 10.0  # Partisan's setting; the paper leaves it open
    shuffle_active: int = 3  # the paper's ka
    shuffle_passive: int = 4  # the paper's kp

    def __post_init__(self) -> None:
        if not 1 <= self.active_min <= self.active_max <= self.links_max:
            raise ValueError(f"need 1 <= active_min <= active_max <= links_max, got {self}")
        if not 0 < self.retry_s[0] <= self.retry_s[1] or not 0 < self.retry_late_s[0] <= self.retry_late_s[1]:
            raise ValueError(f"need 0 < shortest <= longest retry, got {self}")


class _Peer:
    """A member, as the overlay sees it."""

    __slots__ = ("addresses", "alone_since", "retry_at", "state", "wished")

    def __init__(self, state: State, addresses: tuple[str, ...], now: int) -> None:
        self.state, self.addresses = state, addresses
        self.wished = False  # the dialer was told to hold a link
        self.alone_since = self.retry_at = now


class HyParView:
    """The active view and the wishes for it. State: one ``_Peer`` a member, the links, a bounded passive view."""

    def __init__(self, me: NodeId, config: HyParViewConfig, rng: Random) -> None:
        self.me, self._config, self._rng = me, config, rng
        self._peers: dict[NodeId, _Peer] = {}
        self._passive: dict[NodeId, tuple[str, ...]] = {}  # heard of in shuffles, not yet members here
        self._goodbyes: dict[NodeId, str] = {}  # why a peer said it would close
        self.links: dict[NodeId, None] = {}
        self._present = 0  # of ``_peers``
        self._started = False

    # -- questions ---------------------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """Members that are present, this node among them."""
        return 1 + self._present

    @property
    def is_full_mesh(self) -> bool:
        """Whether everybody is meant to be linked to everybody."""
        return self.size <= self._config.full_members_max

    @property
    def is_short(self) -> bool:
        """Whether everybody is meant to be linked, and somebody who is present is not."""
        return self.is_full_mesh and any(
            each.state.is_present and node not in self.links for node, each in self._peers.items()
        )

    @property
    def target(self) -> int:
        """How many links this node wants."""
        if self.is_full_mesh:
            return self.size - 1
        return min(self._config.active_max, max(self._config.active_min, math.ceil(math.log(self.size)) + 2))

    def may_dial(self, member: NodeId) -> bool:
        """Whether one more link, to ``member``, is worth it: this node has all it needs, and nobody is let go of for
        it, here or, most likely, there."""
        is_present = member in self._peers and self._peers[member].state.is_present
        return is_present and self._lacks(member) and self.target <= len(self.links) < self._config.active_max

    def cause(self, peer: NodeId, cause: str) -> str:
        """Why a link really ended: what ``peer`` said before it closed weighs more than that it closed."""
        return self._goodbyes.get(peer, cause) if cause == "closed" else cause

    def explain(self) -> dict[str, object]:
        return {
            "active": [str(peer) for peer in self.links],
            "target": self.target,
            "wished": [str(node) for node, each in sorted(self._peers.items()) if each.wished],
            "passive": len(self._passive),
        }

    # -- the machine -------------------------------------------------------------------------------------------------

    def handle(self, event: Event, now: int) -> list[Effect]:
        match event:
            case Started():
                return self._on_started(now)
            case LinkUp(peer):
                return self._on_link_up(peer, now)
            case LinkClosed(peer, cause):
                return self._on_link_closed(peer, cause, now)
            case Wanted(member):
                return self._dial(member) if self.may_dial(member) else []
            case MemberChanged(member, _, state, addresses):
                return self._on_member(member, state, addresses, now)
            case MemberForgotten(member):
                gone = self._peers.pop(member, None)
                self._present -= gone is not None and gone.state.is_present
                return [Forget(member), CancelTimer(("overlay", "dial", member))]
            case Received(peer, message):
                return self._on_message(peer, message, now)
            case TimerFired(("overlay", "duty")):
                return self._duty(now)
            case TimerFired(("overlay", "shuffle")):
                return self._shuffle()
            case TimerFired(("overlay", "dial", NodeId() as member)):
                return self._dial(member) if self._lacks(member) else []
            case TimerFired():
                return []
            case Leave():
                out: list[Effect] = [CancelTimer(DUTY), CancelTimer(SHUFFLE)]
                for member in self._peers:
                    out += [CancelTimer(("overlay", "dial", member)), Forget(member)]
                out += [Send(peer, Disconnect("left")) for peer in self.links]
                self._started = False
                return out
            case _:
                assert_never(event)

    def _on_started(self, now: int) -> list[Effect]:
        if self._started:
            return []
        self._started = True
        return [SetTimer(DUTY, self._between(self._config.retry_s)), SetTimer(SHUFFLE, self._around_shuffle())]

    def _between(self, range_s: tuple[float, float]) -> int:
        return int(self._rng.uniform(*range_s) * SECOND)

    def _around_shuffle(self) -> int:
        return int(self._config.shuffle_s * self._rng.uniform(0.8, 1.2) * SECOND)

    def _on_link_up(self, peer: NodeId, now: int) -> list[Effect]:
        self.links[peer] = None
        self._goodbyes.pop(peer, None)
        self._passive.pop(peer, None)
        return [Emit(LinkOpened(peer)), CancelTimer(("overlay", "dial", peer)), *self._evict(peer)]

    def _on_link_closed(self, peer: NodeId, cause: str, now: int) -> list[Effect]:
        self._goodbyes.pop(peer, None)
        if peer not in self.links:
            return []
        del self.links[peer]
        if each := self._peers.get(peer):
            each.alone_since = now
            each.wished = each.wished or cause in ("closed", "timeout")  # failure detection dials it again
            each.retry_at = now + self._between(self._config.retry_s)
        return [Emit(LinkLost(peer, cause)), *self._fill(now)]

    def _on_member(self, member: NodeId, state: State, addresses: tuple[str, ...], now: int) -> list[Effect]:
        each = self._peers.get(member)
        if each is None:
            each = self._peers[member] = _Peer(state, addresses, now)
            self._present += state.is_present
        else:
            self._present += state.is_present - each.state.is_present
        news = each.addresses != addresses or state.is_present > each.state.is_present
        each.state, each.addresses = state, addresses
        self._passive.pop(member, None)
        if state is State.LEFT:
            each.wished = False
            return [Forget(member), CancelTimer(("overlay", "dial", member)), *self._fill(now)]
        if news:
            each.wished = False  # it moved, or somebody reaches it again: dial afresh
        return self._fill(now)

    def _lacks(self, member: NodeId) -> bool:
        each = self._peers.get(member)
        return self._started and each is not None and each.state is not State.LEFT and member not in self.links

    def _fill(self, now: int) -> list[Effect]:
        """Wish for as many links as the target says."""
        if not self._started:
            return []
        free = [node for node, each in self._peers.items() if each.state.is_present and node not in self.links]
        if self.is_full_mesh:
            chosen = [node for node in free if not self._peers[node].wished]
        else:
            pending = sum(1 for node in free if self._peers[node].wished)
            idle = [node for node in free if not self._peers[node].wished]
            chosen = self._rng.sample(idle, min(len(idle), max(0, self.target - len(self.links) - pending)))
        out: list[Effect] = []
        for node in chosen:
            self._peers[node].wished = True
            self._peers[node].retry_at = now + self._between(self._config.retry_s)
            if self.me < node:
                out += self._dial(node)
            else:
                out.append(SetTimer(("overlay", "dial", node), self._config.larger_key_waits_ms * MILLISECOND))
        return out

    def _dial(self, member: NodeId) -> list[Effect]:
        self._peers[member].wished = True
        return [Connect(member, self._peers[member].addresses)]

    def _evict(self, newcomer: NodeId) -> list[Effect]:
        """Above the hard limit, let go of links at random, down to the active view's size; never of the newest, which
        somebody wanted (the paper drops before it adds), and which may be lost before its goodbye is read."""
        if self.is_full_mesh or len(self.links) <= self._config.links_max:
            return []
        others = [peer for peer in self.links if peer != newcomer]
        chosen = self._rng.sample(others, len(self.links) - self._config.active_max)
        out: list[Effect] = []
        for peer in chosen:
            if each := self._peers.get(peer):
                each.wished = False
            out += [Send(peer, Disconnect("evicted")), Forget(peer), CloseLink(peer, "evicted")]
        return out

    def _duty(self, now: int) -> list[Effect]:
        """Who is outside our component, or wished for in vain, is dialled again, for ever: splits must heal."""
        first_ns = int(self._config.retry_first_s * SECOND)
        give_up_ns = int(self._config.give_up_s * SECOND)
        out: list[Effect] = [SetTimer(DUTY, self._between((self._config.retry_s[0] / 2, self._config.retry_s[0])))]
        due = [
            node
            for node, each in self._peers.items()
            if self._lacks(node) and now >= each.retry_at and (each.wished or not each.state.is_present)
        ]
        if len(due) > self._config.retry_members_max:
            due = self._rng.sample(due, self._config.retry_members_max)
        for node in due:
            each = self._peers[node]
            early = now - each.alone_since < first_ns
            each.retry_at = now + self._between(self._config.retry_s if early else self._config.retry_late_s)
            if each.state.is_present and not self.is_full_mesh and now - each.alone_since > give_up_ns:
                each.wished = False  # not to be reached from here: let somebody else fill its place
                out.append(Forget(node))
            else:
                out += self._dial(node)
        return out + self._fill(now)

    # -- shuffles ----------------------------------------------------------------------------------------------------

    def _contact(self, node: NodeId) -> Contact:
        return Contact(node, list(self._peers[node].addresses))

    def _sample(self, besides: NodeId) -> list[Contact]:
        active = [node for node in self.links if node != besides and node in self._peers]
        others = [node for node, each in self._peers.items() if each.state.is_present and node not in self.links]
        chosen = self._rng.sample(active, min(len(active), self._config.shuffle_active))
        chosen += self._rng.sample(others, min(len(others), self._config.shuffle_passive))
        return [self._contact(node) for node in chosen]

    def _shuffle(self) -> list[Effect]:
        out: list[Effect] = [SetTimer(SHUFFLE, self._around_shuffle())]
        if self.is_full_mesh or not self.links:
            return out  # everybody is in the active view: nothing to exchange
        peer = self._rng.choice(list(self.links))
        return [*out, Send(peer, Shuffle(self._sample(peer), answer=False))]

    def _on_message(self, peer: NodeId, message: LinkMessage, now: int) -> list[Effect]:
        match message:
            case Disconnect(cause):
                if peer not in self.links or cause not in ("left", "evicted", "replaced", "banned"):
                    return []
                self._goodbyes[peer] = cause
                if cause != "evicted":
                    return []
                if each := self._peers.get(peer):
                    each.wished = False
                return [Forget(peer), CloseLink(peer, "evicted")]  # a link that just ends is dialled again, for ever
            case Shuffle(contacts, answer):
                out: list[Effect] = [] if answer else [Send(peer, Shuffle(self._sample(peer), answer=True))]
                for contact in contacts:
                    out += self._remember(NodeId(contact.node), tuple(contact.addresses))
                return out
            case _:
                return []

    def _remember(self, node: NodeId, addresses: tuple[str, ...]) -> list[Effect]:
        """A contact we have no record of: keep it, and meet it if the active view has room."""
        if node == self.me or node in self._peers or node in self.links:
            return []
        self._passive.pop(node, None)
        self._passive[node] = addresses
        out: list[Effect] = [Connect(node, addresses)] if len(self.links) < self.target else []
        if len(self._passive) > self._config.passive_factor * max(1, self.target):
            dropped = self._rng.choice(list(self._passive))
            del self._passive[dropped]
            out.append(Forget(dropped))
        return out
