"""Trying addresses: all of one candidate in parallel with a small stagger, a bounded number of dials in all.

A *round* goes over a candidate's addresses until one of them links (its owner then ends the round) or all failed.
Happy Eyeballs (RFC 8305) for peers: a dead address costs the others one stagger, not its timeout.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from transport.base import Conduit, DialFailed, DialFault, Env, Timer
from transport.candidates import Candidate, Key
from transport.link import Opening


class Attempt:
    """One address being tried: a dial, then a handshake (``opening``, set by whoever began it)."""

    __slots__ = ("address", "dial", "is_hinted", "opening", "round")

    def __init__(self, round: Round, address: str) -> None:
        self.round, self.address = round, address
        self.is_hinted = not round.candidate.is_wanted
        self.dial: Timer | None = None
        self.opening: Opening | None = None

    def abandon(self) -> None:
        """Stop it; nobody is told."""
        if self.dial is not None:
            self.dial.cancel()
        if self.opening is not None:
            self.opening.abandon()


class Round:
    """What is under way for one candidate."""

    __slots__ = ("attempts", "candidate", "has_told", "is_over", "outcomes", "pending", "stagger", "waits_in")

    def __init__(self, candidate: Candidate, addresses: list[str]) -> None:
        self.candidate = candidate
        self.pending = deque(addresses)
        self.attempts: dict[str, Attempt] = {}
        self.outcomes: dict[str, str] = {}  # address -> how it failed
        self.stagger: Timer | None = None
        self.waits_in: deque[Round] | None = None  # the queue for a free dial that it stands in
        self.is_over = False
        self.has_told = False  # its owner acted on an early outcome

    @property
    def is_refused(self) -> bool:
        """Every host answered that nobody listens there; addresses where somebody else lives do not count."""
        of_it = [each for each in self.outcomes.values() if each not in ("selfie", "unexpected-peer")]
        return bool(of_it) and all(each == DialFault.REFUSED.value for each in of_it)


class Rounds:
    """At most ``dials_max`` dials at once, ``hinted_max`` of them for candidates that nobody wishes for. The other
    rounds queue, one place each, so the queue is bounded by the table of candidates.

    ``on_conduit`` begins the handshake of an attempt; ``on_attempt_failed`` and ``on_failed`` tell of one address and
    of a whole round; ``on_freed`` that an attempt is over, however it ended. None is called inside ``start``.
    """

    def __init__(
        self, env: Env, *, dials_max: int, hinted_max: int, stagger_ns: int, timeout_ns: int,
        on_conduit: Callable[[Attempt, Conduit], None], on_attempt_failed: Callable[[Attempt, str, str], None],
        on_failed: Callable[[Round], None], on_freed: Callable[[Attempt], None],
    ) -> None:  # fmt: skip
        self._env, self._dials_max, self._hinted_max = env, dials_max, hinted_max
        self._stagger_ns, self._timeout_ns = stagger_ns, timeout_ns
        self._on_conduit, self._on_attempt_failed = on_conduit, on_attempt_failed
        self._on_failed, self._on_freed = on_failed, on_freed
        self._rounds: dict[Key, Round] = {}
        self._wanted: deque[Round] = deque()
        self._hinted: deque[Round] = deque()
        self._hinted_dials = 0
        self.dials = 0  # now

    def get(self, key: Key) -> Round | None:
        """The round of this candidate, if one is under way."""
        return self._rounds.get(key)

    def start(self, candidate: Candidate, addresses: list[str]) -> None:
        """Begin a round. One over no address at all fails on the next turn."""
        round = self._rounds[candidate.key] = Round(candidate, addresses)
        if addresses:
            self._step(round)
        else:
            self._env.call_at(self._env.mono(), lambda: self._step(round))

    def extend(self, key: Key, addresses: list[str]) -> None:
        """More addresses for a round under way; and if the candidate is wished for by now, its place in the queue."""
        round = self._rounds.get(key)
        if round is None:
            return
        round.pending.extend(addresses)
        if round.waits_in is self._hinted and round.candidate.is_wanted:
            self._leave_queue(round)
        if round.pending and round.stagger is None:
            self._step(round)

    def fail(self, attempt: Attempt, outcome: str, detail: str) -> None:
        """This address came to nothing; the next one starts now."""
        if not self.free(attempt):
            return
        round = attempt.round
        round.outcomes[attempt.address] = outcome
        self._on_attempt_failed(attempt, outcome, detail)
        self._step(round)
        self._pump()

    def free(self, attempt: Attempt) -> bool:
        """Take an attempt out of its round; its dial is free. False when it was out already."""
        if attempt.round.attempts.get(attempt.address) is not attempt:
            return False
        del attempt.round.attempts[attempt.address]
        self.dials -= 1
        self._hinted_dials -= attempt.is_hinted
        self._on_freed(attempt)
        return True

    def stop(self, key: Key) -> None:
        """End what is under way for a candidate, without a verdict."""
        round = self._rounds.pop(key, None)
        if round is None:
            return
        round.is_over = True
        round.candidate.ended_ns = self._env.mono()
        round.pending.clear()
        self._leave_queue(round)
        if round.stagger is not None:
            round.stagger.cancel()
        for attempt in list(round.attempts.values()):
            self.free(attempt)
            attempt.abandon()
        self._pump()

    def stop_all(self) -> None:
        for round in list(self._rounds.values()):  # first out of the queues, so that none takes another's dial
            self._leave_queue(round)
            round.pending.clear()
        for key in list(self._rounds):
            self.stop(key)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _step(self, round: Round) -> None:
        """Start the next address if a dial is free, else queue; end the round when nothing is left."""
        if round.is_over or round.waits_in is not None:
            return
        if round.stagger is not None:
            round.stagger.cancel()
            round.stagger = None
        if not round.pending:
            if not round.attempts:
                self.stop(round.candidate.key)
                self._on_failed(round)
            return
        is_wanted = round.candidate.is_wanted
        if self.dials >= self._dials_max or (not is_wanted and self._hinted_dials >= self._hinted_max):
            round.waits_in = self._wanted if is_wanted else self._hinted
            round.waits_in.append(round)
            return
        attempt = Attempt(round, round.pending.popleft())
        if attempt.address in round.attempts:  # hinted again while it is tried
            self._step(round)
            return
        round.attempts[attempt.address] = attempt
        self.dials += 1
        self._hinted_dials += attempt.is_hinted
        if round.pending:
            round.stagger = self._env.call_at(self._env.mono() + self._stagger_ns, lambda: self._staggered(round))
        attempt.dial = self._env.transport.dial(
            attempt.address, lambda outcome: self._dialed(attempt, outcome), self._timeout_ns
        )

    def _staggered(self, round: Round) -> None:
        round.stagger = None
        self._step(round)

    def _dialed(self, attempt: Attempt, outcome: Conduit | DialFailed) -> None:
        attempt.dial = None
        if isinstance(outcome, DialFailed):
            self.fail(attempt, outcome.fault.value, outcome.detail)
        elif attempt.round.is_over:
            outcome.close("closed")
        else:
            self._on_conduit(attempt, outcome)

    def _leave_queue(self, round: Round) -> None:
        if round.waits_in is not None:
            round.waits_in.remove(round)
            round.waits_in = None

    def _pump(self) -> None:
        """Give free dials to the rounds that wait, those wished for first."""
        while self.dials < self._dials_max:
            if self._wanted:
                round = self._wanted[0]
            elif self._hinted and self._hinted_dials < self._hinted_max:
                round = self._hinted[0]
            else:
                return
            self._leave_queue(round)
            self._step(round)
