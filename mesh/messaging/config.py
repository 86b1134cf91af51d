"""Settings of a node's messages."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagingConfig:
    """Bounds and waits of topics, streams and the outbox. Nodes need not agree on any of them."""

    seal_items: int = 256  # messages under one signature: more buys little (perf-primitives, consequence 1)
    seal_bytes: int = 64 << 10  # or so many bytes: above 64 KiB a WebSocket message gets slower (consequence 9)
    linger_ms: float = 1.0  # how long a published message waits for company; an urgent one not at all
    pending_bytes_max: int = 256 << 10  # published, not yet signed; past it publish waits, fails, drops
    lane_bytes: int = 256 << 10  # queued for one neighbour before this node's own topics wait for it: 8 ms at 30 MB/s …
    lane_patience_ms: float = 250.0  # … for so long; then it is a laggard, and pulls from the window (guess)
    window_bytes: int = 8 << 20  # recent frames of all topics kept for those who pull; then they are gone
    aside_bytes_max: int = 4 << 20  # frames that came before the ones they follow
    subscription_bytes_max: int = 8 << 20  # one reader's backlog; past it the oldest go, counted in ``dropped``
    logs_max: int = 4096  # topic logs remembered, the most recently used: so long repeats are recognised
    join_grace_s: float = 2.0  # after the first link: what others published before is not for us
    outbox_bytes_max: int = 64 << 20  # durable messages not yet acknowledged, in memory and on disk
    handler_s: float = 300.0  # a message's handler may take so long, unless it is registered with another time (guess)
    tries_max: int = 5  # times a handler may fail on a durable message before it is a dead letter
    retry_min_s: float = 0.2  # full jitter between tries: up to this, doubled each time (guess),
    retry_max_s: float = 30.0  # up to this
    dead_max: int = 4096  # dead letters kept; past it the oldest goes, counted
    drain_s: float = 2.0  # how long a node that stops waits for its lanes to empty

    def __post_init__(self) -> None:
        if not 1 <= self.seal_items <= 4096 or not 0 < self.linger_ms <= 1000 or self.logs_max < 2:
            raise ValueError(f"need 1 <= seal_items <= 4096, 0 < linger_ms <= 1000 and logs_max >= 2, got {self}")
        if not self.handler_s > 0:
            raise ValueError(f"need handler_s > 0, got {self}")
        if self.tries_max < 1 or self.dead_max < 1 or not 0 < self.retry_min_s <= self.retry_max_s:
            raise ValueError(f"need tries_max, dead_max >= 1 and 0 < retry_min_s <= retry_max_s, got {self}")
        if min(self.window_bytes, self.aside_bytes_max, self.subscription_bytes_max) < 1 << 20:
            raise ValueError(f"a window has room for a frame of 1 MiB, got {self}")
