"""Settings of dialling and accepting (``dialer.py``, ``agenda.py``)."""

from __future__ import annotations

from dataclasses import dataclass

from transport.lanes import LanesConfig
from transport.link import LANES


@dataclass(frozen=True, slots=True, kw_only=True)
class DialerConfig:
    """Bounds and waits of dialling and accepting."""

    candidates_max: int = 1024  # remembered; about 1 KB each
    dials_max: int = 16  # at once, in all (Hyperswarm has 3, but no peers with several dead addresses)
    hinted_dials_max: int = 12  # of those for mere hints, so that wishes always find room
    stagger_s: float = 0.05  # between two addresses of one peer (RFC 8305 says 0.25 for the open internet)
    dial_timeout_s: float = 4.0  # a lost SYN is sent again after 1 and 3 s
    handshake_timeout_s: float = 5.0  # the bound; two round trips and four Ed25519 operations
    backoff_min_s: float = 0.2
    backoff_max_s: float = 30.0  # full jitter (Brooker 2015): half of it on average
    second_look_s: float = 0.03  # after a link was lost and the re-dial hung up: closing a process's sockets takes less
    second_looks_max: int = 3
    barred_s: float = 60.0  # an address that answered as another mesh, or as ourselves
    rest_s: float = 60.0  # no hint wakes a peer that was evicted or banned before; guess
    hint_gap_s: float = 0.5  # between two rounds that live hints start for one peer
    hint_tries_max: int = 8  # rounds for a hint that nobody repeats or wishes for: about half a minute
    crossed_wait_s: float = 0.5  # how long the winning link of crossed dials may take to appear
    lived_s: float = 5.0  # a link that ended sooner counts as a failed round: no loop of links that do not last
    short_lives_max: int = 3  # such links in a row after which even a wish waits
    short_lives_pause_s: float = 2.0  # that long at most: a path that flapped and is well again shall not wait; guess
    half_open_max: int = 64  # inbound handshakes at once, the bound
    half_open_per_host_max: int = 16
    reports_max: int = 512  # refusals remembered so as to be reported once
    report_again_s: float = 600.0
    lanes: LanesConfig = LANES

    def __post_init__(self) -> None:
        if not 0 < self.hinted_dials_max <= self.dials_max or not 0 < self.backoff_min_s <= self.backoff_max_s:
            raise ValueError(f"need 0 < hinted_dials_max <= dials_max, 0 < backoff_min_s <= backoff_max_s, got {self}")
        if min(self.candidates_max, self.half_open_max, self.half_open_per_host_max, self.reports_max) < 1:
            raise ValueError(f"bounds are at least 1, got {self}")
