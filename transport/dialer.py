"""One link per peer: dials candidates, accepts strangers, settles crossed dials, retries for ever.

Which link stays is decided alike on both ends, by the last one to commit (``handshake``):

- while both dial, the dial of the smaller key wins: it refuses the other's as "crossed", the larger key gives way;
- a new connection by the dialler of the present link replaces it, as does one from a peer that restarted, or from a
  smaller key; so nobody is locked out by its own half-open link;
- whoever was told "crossed" and still has no link soon after dials again and insists, which replaces too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from transport.agenda import Agenda
from transport.audit import Audit
from transport.base import SECOND, Conduit, DialFault, Env, Hint
from transport.candidates import Candidate
from transport.dialing import DialerConfig
from transport.errors import HandshakeCut, Selfie, WrongMesh, WrongSecret, WrongVersion
from transport.handshake import BOOT_BYTES, Proven
from transport.identity import Identity, Mesh, NodeId
from transport.link import EstablishedLink, Opening, Refusal, establish
from transport.porch import Porch, host_of
from transport.rounds import Attempt, Round, Rounds

_HOPELESS = (WrongMesh, WrongSecret, WrongVersion, Selfie)  # will not change by asking again


# Outcomes of a host that took the connection and let go of it: the sockets of a process that dies close one by one,
# its links first, and a dial that comes in between lands in the backlog of a listener that nobody serves any more.
_HUNG_UP = frozenset((DialFault.TLS.value, HandshakeCut.reason))


def _ns(seconds: float) -> int:
    return round(seconds * SECOND)


class Dialer:
    """See the module. All callbacks come on the loop; ``on_link`` and ``on_lost`` alternate for each peer.

    ``on_lost(link, "replaced")`` is followed at once by ``on_link`` of the new one: the peer was never gone.
    ``on_unreached(member, refused)`` after each round over all addresses of a known node; ``refused``: every host
    answered that nobody listens there. ``on_refused`` once for each host, reason and peer in ``report_again_s``.
    """

    def __init__(
        self, env: Env, identity: Identity, mesh: Mesh, *, config: DialerConfig | None = None,
        on_link: Callable[[EstablishedLink], None], on_lost: Callable[[EstablishedLink, str], None],
        on_refused: Callable[[Refusal], None], on_unreached: Callable[[NodeId, bool], None],
    ) -> None:  # fmt: skip
        self._env, self._identity, self._mesh = env, identity, mesh
        self._config = config or DialerConfig()
        self._on_link, self._on_lost = on_link, on_lost
        self._on_refused, self._on_unreached = on_refused, on_unreached
        self._boot = env.entropy(BOOT_BYTES)
        self._links: dict[NodeId, EstablishedLink] = {}
        self._since: dict[NodeId, int] = {}  # when each link came up
        self._rounds = Rounds(
            env, dials_max=self._config.dials_max, hinted_max=self._config.hinted_dials_max,
            stagger_ns=_ns(self._config.stagger_s), timeout_ns=_ns(self._config.dial_timeout_s),
            on_conduit=self._dialed, on_attempt_failed=self._attempt_failed, on_failed=self._failed,
            on_freed=self._freed,
        )  # fmt: skip
        self._agenda = Agenda(
            env, self._config, env.rng("dialer"), self._rounds, is_linked=self._links.__contains__,
            is_denied=self._is_denied,
        )  # fmt: skip
        self._committed: dict[NodeId, Attempt] = {}  # proven, our proof is sent, their welcome not yet here
        self._porch = Porch(self._config.half_open_max, self._config.half_open_per_host_max)
        self._denied: frozenset[NodeId] = frozenset()
        self._audit = Audit(self._config.reports_max, _ns(self._config.report_again_s))
        self._is_closed = False

    def _is_denied(self, node: NodeId | None) -> bool:
        return node in self._denied

    # -- what others ask ---------------------------------------------------------------------------------------------

    @property
    def links(self) -> Mapping[NodeId, EstablishedLink]:
        """The present link of each peer."""
        return MappingProxyType(self._links)

    def accept(self, conduit: Conduit) -> None:
        """Somebody came in by the listener."""
        if self._is_closed:
            conduit.close("closing")
            return

        def begin(leave: Callable[[], None]) -> Opening:
            def on_link(link: EstablishedLink) -> None:
                leave()
                self._up(link, None)

            def on_refused(refusal: Refusal) -> None:
                leave()
                self._report(refusal)

            def admit(proven: Proven) -> str | None:
                verdict = self._admit_inbound(proven)
                if verdict == "":
                    leave()
                return verdict

            return establish(
                self._env, conduit, self._identity, self._mesh, dialed=False, on_link=on_link, on_refused=on_refused,
                admit=admit, on_end=self._ended, timeout_ns=_ns(self._config.handshake_timeout_s), boot=self._boot,
                lanes=self._config.lanes,
            )  # fmt: skip

        self._porch.enter(conduit.remote, begin)

    def hint(self, hint: Hint) -> None:
        """Somebody may be there. Nothing happens for a node that is linked, or is this one."""
        if self._is_closed or hint.node == self._identity.id or not hint.addresses:
            return
        if hint.node is None:
            for address in hint.addresses:
                self._agenda.hint(None, address, (address,), hint.source)
        elif hint.node not in self._links:
            self._agenda.hint(hint.node, hint.node, hint.addresses, hint.source)

    def connect(self, member: NodeId, addresses: tuple[str, ...]) -> None:
        """Hold a link to ``member`` from now on: dialled at once, and again whenever it is lost, until ``forget``.

        Asked again while there is none, it dials at once too, whatever the back-off, unless the last links ended as
        soon as they were up; ``addresses`` are added to those known, and tried first."""
        if self._is_closed or member == self._identity.id:
            return
        candidate = self._agenda.enter(member, member, addresses, is_wanted=True)
        if candidate is None or member in self._links:
            return
        if candidate.short_lives <= self._config.short_lives_max:
            self._agenda.start(candidate)
        else:  # we disagree on something that a new link does not settle: no storm of links (``_lost`` has set when)
            self._agenda.start_at(candidate, self._env.mono() + self._agenda.pause_ns(candidate), sooner=True)

    def forget(self, member: NodeId) -> None:
        """No longer try to reach ``member``. A link that is there stays; a later hint may find it again."""
        candidate = self._agenda.get(member)
        if candidate is not None:
            candidate.is_wanted = candidate.is_lasting = False
            self._agenda.rest(candidate)
            self._rounds.stop(member)

    def redial(self, member: NodeId) -> None:
        """Try ``member`` now, whatever its back-off and bars say. Nothing for one that is linked or unknown."""
        candidate = self._agenda.get(member)
        if candidate is not None and not self._is_closed and member not in self._links:
            candidate.failures = 0
            for record in candidate.addresses.values():
                record.barred_until_ns = 0
            self._agenda.start(candidate)

    def deny(self, members: set[NodeId]) -> None:
        """Have nothing to do with exactly these, in silence, as if the path were cut. For tests of partitions."""
        lifted = self._denied - members
        self._denied = frozenset(members)
        for member in sorted(members):
            if member in self._links:
                self._links[member].close("closed")
            self._rounds.stop(member)
        for candidate in self._agenda:
            if (candidate.node or candidate.resolved) in lifted:
                candidate.failures = 0
                self._agenda.start(candidate)

    def close(self) -> None:
        """End it all: dials, handshakes, and links with the cause "left"."""
        self._is_closed = True
        self._agenda.close()
        self._rounds.stop_all()
        self._porch.clear()
        for link in list(self._links.values()):
            link.close("left")

    def explain(self) -> list[dict[str, Any]]:
        """Every candidate: where it is said to be, what came of it, when it is tried again."""
        now = self._env.mono()
        rows = []
        for candidate in self._agenda:
            peer, round = candidate.node or candidate.resolved, self._rounds.get(candidate.key)
            rows.append(
                candidate.explain(now)
                | {
                    "linked": peer in self._links,
                    "denied": peer in self._denied,
                    "dialing": [] if round is None else [*round.attempts],
                }
            )
        return rows

    @property
    def refused(self) -> Mapping[str, int]:
        """How many handshakes came to nothing, by reason: those told, repeats, and those that are nobody's fault."""
        return MappingProxyType(self._audit.counts)

    @property
    def counts(self) -> dict[str, int]:
        """What the bounds did: strangers waiting and put out, candidates dropped, dials now."""
        return {
            "half_open": len(self._porch), "half_open_evicted": self._porch.evicted, "candidates": len(self._agenda),
            "candidates_dropped": self._agenda.dropped, "dials": self._rounds.dials,
        }  # fmt: skip

    # -- rounds ------------------------------------------------------------------------------------------------------

    def _dialed(self, attempt: Attempt, conduit: Conduit) -> None:
        candidate = attempt.round.candidate
        attempt.opening = establish(
            self._env, conduit, self._identity, self._mesh, dialed=True, expected=candidate.node,
            on_link=lambda link: self._up(link, attempt), on_refused=lambda refusal: self._declined(attempt, refusal),
            admit=lambda proven: self._admit_outbound(attempt, proven), on_end=self._ended,
            timeout_ns=_ns(self._config.handshake_timeout_s), boot=self._boot, insist=candidate.insist,
            lanes=self._config.lanes,
        )  # fmt: skip

    def _declined(self, attempt: Attempt, refusal: Refusal) -> None:
        candidate, now = attempt.round.candidate, self._env.mono()
        record = candidate.addresses.get(attempt.address)
        if record is not None and isinstance(refusal.error, _HOPELESS):
            record.barred_until_ns = now + _ns(self._config.barred_s)
        self._report(refusal)
        if refusal.reason == "declined" and refusal.detail == "crossed" and not attempt.round.is_over:
            # Not a failure: a link to this peer is there or on its way. See to it that it comes.
            candidate.note(attempt.address, "crossed", "", now)
            self._rounds.free(attempt)
            self._rounds.stop(candidate.key)
            candidate.insist = refusal.error.told
            self._agenda.start_at(candidate, now + _ns(self._config.crossed_wait_s))
            return
        self._rounds.fail(attempt, refusal.reason, refusal.detail)

    def _attempt_failed(self, attempt: Attempt, outcome: str, detail: str) -> None:
        round, candidate = attempt.round, attempt.round.candidate
        candidate.note(attempt.address, outcome, detail, self._env.mono())
        # Where it was last, nobody listens any more: that is news now, not when other addresses have timed out.
        best = candidate.best()
        is_gone = bool(best) and all(round.outcomes.get(each) == DialFault.REFUSED.value for each in best)
        if is_gone and candidate.node is not None and not round.has_told:
            round.has_told = True
            self._on_unreached(candidate.node, True)

    def _failed(self, round: Round) -> None:
        candidate = round.candidate
        if candidate.second_looks and not round.has_told and not _HUNG_UP.isdisjoint(round.outcomes.values()):
            candidate.second_looks -= 1  # it may be dying this very moment: look again before anything is said
            self._agenda.start_at(candidate, self._env.mono() + _ns(self._config.second_look_s))
            return
        candidate.failures += 1
        candidate.insist = False
        lasts = candidate.is_wanted or candidate.is_lasting or candidate.is_proven
        if not lasts and candidate.failures >= self._config.hint_tries_max:
            self._agenda.remove(candidate)
        else:
            self._agenda.start_at(candidate, self._env.mono() + self._agenda.backoff_ns(candidate.failures))
        if candidate.node is not None and not round.has_told:
            self._on_unreached(candidate.node, round.is_refused)

    def _freed(self, attempt: Attempt) -> None:
        for peer in [peer for peer, each in self._committed.items() if each is attempt]:
            del self._committed[peer]

    # -- links -------------------------------------------------------------------------------------------------------

    def _admit_outbound(self, attempt: Attempt, proven: Proven) -> str | None:
        """Whether to go on with the peer that answered our dial."""
        peer, candidate = proven.peer, attempt.round.candidate
        candidate.resolved = peer
        if self._is_closed or peer in self._denied:
            self._rounds.fail(attempt, "denied", "")
            return ""
        link = self._links.get(peer)
        if (link is not None and link.boot == proven.boot) or peer in self._committed:
            return "crossed"
        self._committed[peer] = attempt
        return None

    def _admit_inbound(self, proven: Proven) -> str | None:
        """Whether to go on with the peer that dialled us and has committed to it."""
        peer = proven.peer
        if peer in self._denied:
            return ""
        if self._is_closed:
            return "closing"
        link = self._links.get(peer)
        ours_wins = self._identity.id < peer and not proven.insist
        if link is not None:
            is_newer = proven.boot != link.boot or not link.dialed
            return "crossed" if ours_wins and not is_newer else None
        return "crossed" if peer in self._committed and ours_wins else None

    def _up(self, link: EstablishedLink, attempt: Attempt | None) -> None:
        peer, now = link.peer, self._env.mono()
        if attempt is not None:
            self._rounds.free(attempt)
        other = self._committed.get(peer)
        if other is not None:  # it crossed, and gives way
            self._rounds.stop(other.round.candidate.key)
        self._rounds.stop(peer)
        if attempt is not None:
            self._rounds.stop(attempt.round.candidate.key)
        old = self._links.pop(peer, None)
        if old is not None:
            old.end("replaced")
        self._links[peer], self._since[peer] = link, now
        if attempt is not None:
            via = attempt.round.candidate
            via.failures, via.insist, via.is_proven = 0, False, True
            via.linked((attempt.address,), now)
            via.note(attempt.address, "linked", "", now)
            if via.node is None:
                self._agenda.enter(peer, peer, (attempt.address,))
        candidate = self._agenda.get(peer)
        if candidate is not None:
            candidate.insist, candidate.is_proven = False, True
            self._agenda.rest(candidate)
            # It came from this host, so what is said of its doors there is true of it, whoever dialled.
            host = host_of(link.remote)
            candidate.linked([each for each in candidate.addresses if host_of(each) == host], now)
        self._on_link(link)

    def _ended(self, link: EstablishedLink, cause: str) -> None:
        peer, now = link.peer, self._env.mono()
        if self._links.get(peer) is link:
            del self._links[peer]
            lived = now - self._since.pop(peer) >= _ns(self._config.lived_s)
            for candidate in self._agenda:
                if candidate.node == peer:
                    self._lost(candidate, cause, lived)
                elif candidate.node is None and candidate.resolved == peer:
                    # The node's own entry goes first; this one is for the case that another node lives there now.
                    self._agenda.start_at(candidate, now + _ns(1.0))
        self._on_lost(link, cause)

    def _lost(self, candidate: Candidate, cause: str, lived: bool) -> None:
        now = self._env.mono()
        candidate.second_looks = self._config.second_looks_max
        if cause in ("evicted", "banned"):
            candidate.rests_until_ns = now + _ns(self._config.rest_s)
        if not candidate.is_wanted and cause in ("evicted", "banned", "left"):
            return
        candidate.failures = 0 if lived else candidate.failures + 1
        candidate.short_lives = 0 if lived else candidate.short_lives + 1
        self._agenda.start_at(candidate, now if lived else now + self._agenda.pause_ns(candidate))

    # -- telling -----------------------------------------------------------------------------------------------------

    def _report(self, refusal: Refusal) -> None:
        if self._audit.is_news(refusal, self._env.mono()) and not self._is_closed:
            self._on_refused(refusal)
