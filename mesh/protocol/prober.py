"""Silence on links: any byte is a sign of life, and who brings none for a while is asked (SWIM, section 4.1).

Directly first, then again and through others, then it is for membership to suspect, while the asking goes on. Beyond
the paper: what counts is a link and not a member, time-outs follow each link's round trip (RFC 6298), and a node that
ran late itself asks again before it doubts anybody (Lifeguard's local health, Dadgar et al. 2017, arXiv:1707.00788).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TypeAlias, assert_never

from mesh.messages import Probe, ProbeAck, ProbeFor, ProbeVerdict
from mesh.protocol.effects import CancelTimer, CloseLink, Effect, Send, SetTimer
from mesh.protocol.watch import Stage, Watch
from transport.base import MILLISECOND
from transport.identity import NodeId


@dataclass(frozen=True, slots=True, kw_only=True)
class ProberConfig:
    quiet_ms: int = 400  # nothing heard for so long: probe. DESIGN: frozen seen in 2-2.5 s
    second_ms: int = 100  # so much longer waits who asked last: else both ends of an idle link ask at the same time
    probe_floor_ms: int = 100  # least wait for an answer: a busy interpreter answers late, not never
    probe_cap_ms: int = 1000  # most, before the health multiplier: a bad estimate must not blind the detector
    indirect_peers: int = 3  # SWIM's k; memberlist's setting
    indirect_factor: int = 2  # an indirect answer takes two round trips
    link_silent_ms: int = 2000  # others reach it, we do not: this link is broken, dial a new one
    health_max: int = 8  # Lifeguard's awareness limit
    late_ms: int = 100  # own loop behind by more than this: one step of distrust each
    askers_max: int = 64  # of one target; more are told "silent"

    def __post_init__(self) -> None:
        if not 0 < self.probe_floor_ms <= self.probe_cap_ms:
            raise ValueError(f"need 0 < probe_floor_ms <= probe_cap_ms, got {self}")
        if self.quiet_ms <= 0:
            raise ValueError(f"need quiet_ms > 0, got {self}")


@dataclass(frozen=True, slots=True)
class Silent:
    """Neither a link's peer nor anybody who was asked about it says that it lives: membership shall suspect it."""

    member: NodeId


ProberEffect: TypeAlias = Effect | Silent


class Prober:
    """One ``Watch`` a link, which goes with it. ``health`` is Lifeguard's awareness of oneself: 0 is healthy, and
    every time-out is stretched by 1 + health."""

    def __init__(
        self, me: NodeId, config: ProberConfig, rng: Random, *, is_present: Callable[[NodeId], bool],
        is_alive: Callable[[NodeId], bool],
    ) -> None:  # fmt: skip
        self.me, self._config, self._rng = me, config, rng
        self._is_present, self._is_alive = is_present, is_alive
        self.watches: dict[NodeId, Watch] = {}
        self.health = 0
        self._number = 0

    def number(self) -> int:
        """A fresh one, for a question."""
        self._number += 1
        return self._number

    def stretched(self, ms: int) -> int:
        """``ms`` in ns, and longer while this node distrusts itself."""
        return ms * MILLISECOND * (1 + self.health)

    def worsen(self, steps: int = 1) -> None:
        """This node was slow."""
        self.health = min(self._config.health_max, self.health + steps)

    def recover(self) -> None:
        """This node was not."""
        self.health = max(0, self.health - 1)

    # -- links -------------------------------------------------------------------------------------------------------

    def on_link_up(self, peer: NodeId, rtt_ns: int, now: int) -> list[ProberEffect]:
        watch = self.watches[peer] = Watch(peer, rtt_ns, now, asks_first=self.me < peer)
        return [self._arm(watch, self._quiet_ns(watch), now)]

    def on_link_closed(self, peer: NodeId, verdict: str) -> list[ProberEffect]:
        """``verdict`` is what those who asked about ``peer`` are told."""
        watch = self.watches.pop(peer, None)
        return [] if watch is None else [CancelTimer(("swim", "watch", peer)), *self._answer(watch, verdict)]

    def on_leave(self) -> list[ProberEffect]:
        out: list[ProberEffect] = []
        for peer in self.watches:
            out += [CancelTimer(("swim", "watch", peer)), CancelTimer(("swim", "ask", peer))]
        return out

    def on_late(self, by_ns: int, now: int) -> list[ProberEffect]:
        """Our own loop slept: what we did not hear in that time says nothing about others. Listen anew."""
        late_ns = self._config.late_ms * MILLISECOND
        if by_ns < late_ns:
            return []
        self.worsen(1 + by_ns // (10 * late_ns))
        return [each for watch in self.watches.values() if watch.stage is not Stage.QUIET
                for each in self._probe(watch, now)]  # fmt: skip

    # -- asking ------------------------------------------------------------------------------------------------------

    def _quiet_ns(self, watch: Watch) -> int:
        return (self._config.quiet_ms + (0 if watch.asks_first else self._config.second_ms)) * MILLISECOND

    def _timeout(self, watch: Watch) -> int:
        low, high = self._config.probe_floor_ms * MILLISECOND, self._config.probe_cap_ms * MILLISECOND
        return min(high, max(low, watch.timeout_ns)) * (1 + self.health)

    def _arm(self, watch: Watch, after_ns: int, now: int) -> SetTimer:
        watch.due = now + after_ns
        return SetTimer(("swim", "watch", watch.peer), after_ns)

    def _probe(self, watch: Watch, now: int) -> list[ProberEffect]:
        number = self.number()
        watch.probed(number, now)
        watch.asks_first = False
        return [Send(watch.peer, Probe(number)), self._arm(watch, self._timeout(watch), now)]

    def on_due(self, peer: NodeId, now: int) -> list[ProberEffect]:
        """The timer of ``peer``'s watch rang."""
        watch = self.watches.get(peer)
        if watch is None:
            return []
        if now - watch.due > self._config.late_ms * MILLISECOND:
            return self._probe(watch, now)  # we slept, not they: ask again before doubting
        match watch.stage:
            case Stage.QUIET:
                quiet_ns = self._quiet_ns(watch)
                if now - watch.heard < quiet_ns:
                    return [self._arm(watch, watch.heard + quiet_ns - now, now)]
                return self._probe(watch, now)
            case Stage.SUSPECTED:
                if self._is_alive(peer) and self._is_silent(watch, now):
                    return [CloseLink(peer, "timeout")]  # it refuted, so others reach it
                out = self._probe(watch, now)
                watch.stage = Stage.SUSPECTED
                out[-1] = self._arm(watch, self._config.quiet_ms * MILLISECOND, now)
                return out
            case Stage.PROBED:
                return self._ask_others(watch, now)
            case Stage.ASKED:
                if "alive" in watch.verdicts.values() or not self._is_present(peer):
                    return [CloseLink(peer, "timeout")] if self._is_silent(watch, now) else self._probe(watch, now)
                watch.stage = Stage.SUSPECTED
                return [Silent(peer), self._arm(watch, self._config.quiet_ms * MILLISECOND, now)]
            case _:
                assert_never(watch.stage)

    def _is_silent(self, watch: Watch, now: int) -> bool:
        """For so long that, where the peer lives, this link does not: a new one is dialled."""
        return now - watch.heard > self.stretched(self._config.link_silent_ms)

    def _ask_others(self, watch: Watch, now: int) -> list[ProberEffect]:
        """No answer: ask again, and through k others (SWIM 4.1)."""
        others = [peer for peer in self.watches if peer != watch.peer and self._is_present(peer)]
        chosen = self._rng.sample(others, min(self._config.indirect_peers, len(others)))
        out = self._probe(watch, now)
        watch.stage, watch.verdicts = Stage.ASKED, dict.fromkeys(chosen)
        out += [Send(peer, ProbeFor(watch.number, watch.peer)) for peer in chosen]
        return [*out, self._arm(watch, self._config.indirect_factor * self._timeout(watch), now)]

    # -- answers -----------------------------------------------------------------------------------------------------

    def heard(self, peer: NodeId, now: int) -> list[ProberEffect]:
        """Any byte is a sign of life."""
        watch = self.watches.get(peer)
        if watch is None:
            return []
        watch.heard = now
        if watch.stage is Stage.QUIET and not watch.askers:
            return []  # the usual case; the timer looks at ``heard`` when it rings
        out = self._answer(watch, "alive")
        if watch.stage is not Stage.QUIET:
            watch.stage = Stage.QUIET
            out.append(self._arm(watch, self._quiet_ns(watch), now))
        return out

    def on_probe(self, peer: NodeId, number: int, now: int) -> list[ProberEffect]:
        """``peer`` wants to know whether this node lives. Next time it is this end's turn to ask; who asked at the
        same time go by their keys."""
        if watch := self.watches.get(peer):
            crossed = now - watch.probed_at < self._config.quiet_ms * MILLISECOND
            watch.asks_first = self.me < peer if crossed else True
        return [Send(peer, ProbeAck(number))]

    def on_ack(self, peer: NodeId, number: int, now: int) -> None:
        """``peer`` answered a probe."""
        if (watch := self.watches.get(peer)) and watch.answered(number, now):
            self.recover()

    def on_verdict(self, peer: NodeId, number: int, target: NodeId, verdict: str) -> None:
        """``peer`` was asked about the silent ``target``."""
        watch = self.watches.get(target)
        if watch and watch.stage is Stage.ASKED and watch.number == number and peer in watch.verdicts:
            watch.verdicts[peer] = verdict

    # -- for others --------------------------------------------------------------------------------------------------

    def ask_for(self, peer: NodeId, number: int, watch: Watch, now: int) -> list[ProberEffect]:
        """``peer`` does not hear whom ``watch`` is about: ask for it, and tell."""
        if len(watch.askers) >= self._config.askers_max:
            return [Send(peer, ProbeVerdict(number, watch.peer, "silent"))]
        watch.askers[peer, number] = None
        own = self.number()
        watch.probed_for(own, now)
        return [Send(watch.peer, Probe(own)), SetTimer(("swim", "ask", watch.peer), self._timeout(watch))]

    def on_ask_due(self, target: NodeId) -> list[ProberEffect]:
        """``target`` did not answer in time what was asked for others."""
        watch = self.watches.get(target)
        return [] if watch is None else self._answer(watch, "silent")

    def _answer(self, watch: Watch, verdict: str) -> list[ProberEffect]:
        """Tell everybody who asked about this peer."""
        if not watch.askers:
            return []
        out: list[ProberEffect] = [CancelTimer(("swim", "ask", watch.peer))] if verdict != "silent" else []
        for peer, number in watch.askers:
            if peer in self.watches:
                out.append(Send(peer, ProbeVerdict(number, watch.peer, verdict)))
        watch.askers = {}
        return out
