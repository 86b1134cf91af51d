"""The four cores coupled: one machine that is told what happened and says what to do.

Order within one event: membership first (it decides who counts), then the overlay (who is linked), then broadcast,
then repair. Changes of membership reach the overlay as ``MemberChanged``, inside.
"""

from __future__ import annotations

from collections.abc import Hashable, KeysView
from dataclasses import dataclass, field
from random import Random
from typing import assert_never

from mesh.messages import (
    Digest,
    Disconnect,
    Graft,
    IHave,
    LinkMessage,
    Listen,
    Probe,
    ProbeAck,
    ProbeFor,
    ProbeVerdict,
    Prune,
    Records,
    Rumour,
    Shuffle,
    Vector,
    Want,
)
from mesh.protocol.antientropy import AntiEntropy, AntiEntropyConfig
from mesh.protocol.effects import (
    Arriving,
    DialRefused,
    Effect,
    Event,
    Forked,
    Gap,
    Heard,
    Held,
    Leave,
    LinkClosed,
    LinkUp,
    LoopLate,
    PushRefused,
    Received,
    Repeated,
    Served,
    Slot,
    Started,
    TimerFired,
    Wanted,
)  # fmt: skip
from mesh.protocol.hyparview import HyParView, HyParViewConfig
from mesh.protocol.logs import Logs
from mesh.protocol.members import MemberChanged, MemberForgotten, MemberView
from mesh.protocol.plumtree import Plumtree, PlumtreeConfig
from mesh.protocol.swim import Event as SwimEvent
from mesh.protocol.swim import Swim, SwimConfig
from transport.identity import Identity, Mesh, NodeId


@dataclass(frozen=True, slots=True, kw_only=True)
class StackConfig:
    swim: SwimConfig = field(default_factory=SwimConfig)
    hyparview: HyParViewConfig = field(default_factory=HyParViewConfig)
    plumtree: PlumtreeConfig = field(default_factory=PlumtreeConfig)
    antientropy: AntiEntropyConfig = field(default_factory=AntiEntropyConfig)


class Stack:
    """The protocol of one node. ``handle`` is total: stale and foreign events do nothing.

    ``durable``: this node has a disk, and says so in its record. ``incarnation``: where to go on; a node that does
    not remember starts at 1 and learns from its peers whether that is too low.
    """

    def __init__(
        self, identity: Identity, mesh: Mesh, config: StackConfig, rng: Random, *, name: str, incarnation: int = 1,
        durable: bool = False,
    ) -> None:  # fmt: skip
        self.me = identity.id
        self.swim = Swim(identity, mesh, config.swim, rng, name=name, incarnation=incarnation, durable=durable)
        self.overlay = HyParView(self.me, config.hyparview, rng)
        self.logs = Logs(config.antientropy.claims_max)
        self.tree = Plumtree(
            self.me, config.plumtree, self.logs, rtt_ns=self.swim.rtt_ns, is_full_mesh=self._is_full_mesh,
            is_short=self._is_short,
        )  # fmt: skip
        self._left = False
        self.members_version = 0  # counts changes of the member table, also those that are no news to observers
        self.repair = AntiEntropy(config.antientropy, self.logs, rng, rtt_ns=self.swim.rtt_ns)

    def _is_full_mesh(self) -> bool:
        return self.overlay.is_full_mesh

    def _is_short(self) -> bool:
        return self.overlay.is_short

    # -- questions ---------------------------------------------------------------------------------------------------

    @property
    def incarnation(self) -> int:
        """This node's own; worth keeping on disk."""
        return self.swim.incarnation

    @property
    def links(self) -> KeysView[NodeId]:
        """Peers linked now."""
        return self.overlay.links.keys()

    def members(self) -> list[MemberView]:
        """Every member, itself included, by name and key."""
        return self.swim.views()

    def resolve(self, name: str) -> list[NodeId]:
        """Members called ``name``: those present if any, else those down or left. Two of one name are both named."""
        called = [view for view in self.members() if view.name == name]
        present = [view.id for view in called if view.state in ("alive", "suspect")]
        return present or [view.id for view in called]

    def forget(self, slot: Slot) -> None:
        """The log ``slot`` of a transient stream is no longer kept by this node."""
        self.logs.forget(slot)
        self.tree.forget(slot)

    def is_present(self, node: NodeId) -> bool:
        """Whether ``node`` is a member that is alive or suspect."""
        member = self.swim.table.get(node)
        return member is not None and member.state.is_present

    def explain(self) -> dict[str, object]:
        """Why things are as they are: plain values for ``gossamer doctor`` and ``node.explain()``."""
        return {
            "membership": self.swim.explain(),
            "overlay": self.overlay.explain(),
            "broadcast": self.tree.explain(),
            "repair": self.repair.explain(),
        }

    # -- the machine -------------------------------------------------------------------------------------------------

    def handle(self, event: Event, now: int) -> list[Effect]:
        match event:
            case _ if self._left:  # it said goodbye: nothing it learns now is its to tell
                return self.overlay.handle(event, now) if isinstance(event, LinkClosed) else []
            case Received(peer, message):
                return self._on_message(event, peer, message, now) if peer in self.links else []
            case TimerFired(key):
                return self._on_timer(event, key, now)
            case Heard():
                return self._swim(event, now)
            case Held(slot, _, head, source, _):
                self.logs.held(slot, head, source)
                return [*self.tree.handle(event, now), *self.repair.handle(event, now)]
            case PushRefused(peer) | Served(peer) | Repeated(peer) | Gap(peer):
                if peer not in self.links:
                    return []  # of a link that ended meanwhile
                return [*self.tree.handle(event, now), *self.repair.watch()]
            case Started():
                return [*self._swim(event, now), *self.overlay.handle(event, now), *self.repair.handle(event, now)]
            case LinkUp(peer):
                self.logs.met(peer)
                out = [*self._swim(event, now), *self.overlay.handle(event, now)]
                return [*out, *self.tree.handle(event, now), *self.repair.handle(event, now)]
            case LinkClosed(peer, cause):
                event = LinkClosed(peer, self.overlay.cause(peer, cause))
                self.logs.lost(peer)
                out = [*self.overlay.handle(event, now), *self._swim(event, now)]
                return [*out, *self.tree.handle(event, now), *self.repair.handle(event, now)]
            case LoopLate():
                return [*self._swim(event, now), *self.repair.handle(event, now)]
            case Wanted():
                return self.overlay.handle(event, now)
            case DialRefused():
                return self._swim(event, now)
            case Arriving():
                return self.repair.handle(event, now)
            case Forked(origin):
                self.logs.fork(origin)
                return [*self.tree.handle(event, now), *self.repair.handle(event, now)]
            case Leave():
                self._left = True
                out = [*self.tree.handle(event, now), *self.repair.handle(event, now)]
                return [*out, *self.overlay.handle(event, now), *self._swim(event, now)]
            case _:
                assert_never(event)

    def _on_timer(self, event: TimerFired, key: Hashable, now: int) -> list[Effect]:
        match key[0] if isinstance(key, tuple) and key else None:
            case "tree":
                return [*self.tree.handle(event, now), *self.repair.watch()]
            case "repair":
                return self.repair.handle(event, now)
            case "overlay":
                return self.overlay.handle(event, now)
            case _:
                return self._swim(event, now)

    def _on_message(self, event: Received, peer: NodeId, message: LinkMessage, now: int) -> list[Effect]:
        match message:
            case Probe() | ProbeAck() | Rumour() | Records() | ProbeFor() | ProbeVerdict():
                return self._swim(event, now)
            case IHave() | Graft() | Prune() | Listen() | Want():
                return [*self._swim(Heard(peer), now), *self.tree.handle(event, now), *self.repair.watch()]
            case Digest() | Vector():
                if not isinstance(message, Digest) or message.hash == self.logs.digest():
                    self.tree.compared(peer)
                return [*self._swim(Heard(peer), now), *self.repair.handle(event, now)]
            case Shuffle() | Disconnect():
                return [*self._swim(Heard(peer), now), *self.overlay.handle(event, now)]
            case _:
                return self._swim(Heard(peer), now)  # not this room's: state, messaging

    def _swim(self, event: SwimEvent, now: int) -> list[Effect]:
        """Membership, and what the overlay makes of its changes."""
        out: list[Effect] = []
        for effect in self.swim.handle(event, now):
            if isinstance(effect, (MemberChanged, MemberForgotten)):
                self.members_version += 1
                out += [*self.overlay.handle(effect, now), *self.tree.listen_anew()]
            else:
                out.append(effect)
        return out
