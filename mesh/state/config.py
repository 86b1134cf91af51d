"""Settings of a node's state."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StateConfig:
    """Bounds and waits of spaces, journal and intake. Nodes need not agree on any of them."""

    seal_items: int = 256  # items under one signature: 7.4 B an operation, research/crdt.md section 2
    seal_after_ms: float = 1.0  # how long an item waits for company
    seal_after_behind_ms: float = 20.0  # the same while the disk is behind: fewer, larger frames
    backlog_bytes_max: int = 64 << 20  # waiting for the disk; past it local writes raise BacklogFull
    commit_bytes_max: int = 8 << 20  # in one commit, so that a flush behind a flood is not late (guess)
    aside_bytes_max: int = 16 << 20  # frames kept, in all spaces together, until what they need arrives
    apply_ops_per_turn: int = 2048  # received operations applied before the loop may do something else
    verify_inline_max: int = 2  # frames checked on the loop; a larger group goes off it (40 us each)
    verify_group_max: int = 256
    fold_frames: int = 1024  # a space's log is folded once its stable part has so many frames,
    fold_bytes: int = 1 << 20  # or so many bytes, and at least as many as the last snapshot has
    durable_every_s: float = 2.0  # how often a member is asked what is on its disk, when folding waits for that …
    durable_slow_s: float = 60.0  # … and how seldom at last, while the answers allow no folding
    lease_s: float = 7 * 86400.0  # a member silent for longer no longer holds back folding or confirmations
    diskless_lease_s: float = 60.0  # the same for a member without disk, once it is down: it comes back empty
    tend_every_s: float = 300.0  # how often what removals left behind is looked after (guess: nobody waits for it)
    clock_ahead_max_s: float = 3600.0  # stamps further ahead of our wall clock are reported, never refused
    spaces_max: int = 1024
    origins_max: int = 65_536  # logs of one space
    watch_events_max: int = 1024  # of one watcher; past it the older of one key's events go, the latest stays
    retry_min_s: float = 0.5  # first new attempt after the disk refused, doubled up to
    retry_max_s: float = 15.0

    def __post_init__(self) -> None:
        if not 1 <= self.seal_items <= 4096 or not 0 <= self.seal_after_ms <= self.seal_after_behind_ms:
            raise ValueError(f"need 1 <= seal_items <= 4096 and seal_after_ms <= seal_after_behind_ms, got {self}")
        if min(self.backlog_bytes_max, self.aside_bytes_max, self.commit_bytes_max) < 1 << 21:
            raise ValueError(f"a backlog has room for at least two frames of 1 MiB, got {self}")
