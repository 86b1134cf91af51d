"""Who is to be dialled, and when: what hints and wishes come to before anybody is dialled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from transport.base import MILLISECOND, SECOND, Env
from transport.candidates import Candidate, CandidateTable, Key
from transport.dialing import DialerConfig
from transport.identity import NodeId
from transport.rounds import Rounds

_LIVE = ("scout", "mdns")  # a hint from these was spoken just now
_LASTING = ("bootstrap", "known")


class Agenda:
    """The candidates and the time of each one's next round. ``is_linked`` and ``is_denied`` are the dialer's to say;
    nothing starts once it is closed."""

    def __init__(
        self, env: Env, config: DialerConfig, rng: Random, rounds: Rounds, *,
        is_linked: Callable[[NodeId | None], bool], is_denied: Callable[[NodeId | None], bool],
    ) -> None:  # fmt: skip
        self._env, self._config, self._rng, self._rounds = env, config, rng, rounds
        self._is_linked, self._is_denied = is_linked, is_denied
        self._table = CandidateTable(config.candidates_max)
        self._is_closed = False

    def __iter__(self) -> Iterator[Candidate]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)

    @property
    def dropped(self) -> int:
        """Candidates that had to make room."""
        return self._table.dropped

    def get(self, key: Key) -> Candidate | None:
        return self._table.get(key)

    def remove(self, candidate: Candidate) -> None:
        self._table.remove(candidate)

    # -- who ---------------------------------------------------------------------------------------------------------

    def enter(
        self, key: Key, node: NodeId | None, addresses: tuple[str, ...], *, is_wanted: bool = False, source: str = ""
    ) -> Candidate | None:
        """The entry for ``key``, made or brought up to date; ``None`` when the table has no room for it."""
        candidate = self._table.get(key)
        fresh: list[str] = []
        if candidate is None:
            candidate = Candidate(node)
            candidate.add(addresses)
            candidate.is_wanted, candidate.is_lasting = is_wanted, source in _LASTING
            out = self._table.add(candidate)
            if out is not None:
                self.rest(out)
                self._rounds.stop(out.key)
            if out is candidate:
                return None
        else:
            fresh = candidate.add(addresses)
            candidate.is_wanted |= is_wanted
            candidate.is_lasting |= source in _LASTING
        if source:
            candidate.sources[source] = None
        self._rounds.extend(key, fresh)
        return candidate

    def hint(self, node: NodeId | None, key: Key, addresses: tuple[str, ...], source: str) -> None:
        """Somebody may be at these addresses: dialled now if that is news, soon if it was spoken just now."""
        known = self._table.get(key)
        had = set(known.addresses) if known is not None else set()
        candidate = self.enter(key, node, addresses, source=source)
        if candidate is None or self._rounds.get(key) is not None or self._is_linked(candidate.resolved):
            return
        now = self._env.mono()
        if known is None or (not had.issuperset(addresses) and candidate.rests_until_ns <= now):
            self.start(candidate)
        elif source in _LIVE and candidate.rests_until_ns <= now:
            # It was heard just now, so its back-off is out of date; but a hint a packet must not mean a dial a packet.
            self.start_at(candidate, candidate.ended_ns + round(self._config.hint_gap_s * SECOND), sooner=True)

    # -- when --------------------------------------------------------------------------------------------------------

    def rest(self, candidate: Candidate) -> None:
        """No round is planned for it."""
        if candidate.timer is not None:
            candidate.timer.cancel()
        candidate.timer = candidate.next_ns = None

    def start_at(self, candidate: Candidate, when_ns: int, *, sooner: bool = False) -> None:
        """Plan its next round; ``sooner``: unless an earlier one is planned."""
        if self._is_closed or (sooner and candidate.next_ns is not None and candidate.next_ns <= when_ns):
            return
        self.rest(candidate)
        candidate.next_ns = max(when_ns, self._env.mono())
        candidate.timer = self._env.call_at(candidate.next_ns, lambda: self.start(candidate))

    def start(self, candidate: Candidate) -> None:
        """Begin a round over its addresses, unless it is linked or one is under way."""
        self.rest(candidate)
        if self._is_linked(candidate.node or candidate.resolved):
            candidate.insist = False
            return
        key = candidate.key
        if not self._is_closed and self._rounds.get(key) is None and self._table.get(key) is candidate:
            addresses = [] if self._is_denied(candidate.node) else candidate.order(self._env.mono())
            self._rounds.start(candidate, addresses)

    def backoff_ns(self, failures: int) -> int:
        """How long to wait after so many rounds in vain: full jitter, never nothing."""
        ceiling = min(self._config.backoff_max_s, self._config.backoff_min_s * 2 ** min(failures - 1, 20))
        return 10 * MILLISECOND + round(self._rng.uniform(0, ceiling) * SECOND)

    def pause_ns(self, candidate: Candidate) -> int:
        """Before the next link to a peer whose links end as soon as they are up."""
        return min(self.backoff_ns(candidate.short_lives), round(self._config.short_lives_pause_s * SECOND))

    def close(self) -> None:
        """Nothing is planned any more."""
        self._is_closed = True
        for candidate in self._table:
            self.rest(candidate)
