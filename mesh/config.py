"""What an embedder may tune. Every field has a default with a reason; most programs set none."""

from __future__ import annotations

from dataclasses import dataclass, field

from mesh.messaging.config import MessagingConfig
from mesh.protocol.stack import StackConfig
from mesh.state.config import StateConfig
from transport.dialing import DialerConfig

DEFAULT_PORT = 17470  # unassigned by IANA; the next free one is taken when a second node runs on this host
PORTS_TRIED = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """Settings of one node, by room."""

    stack: StackConfig = field(default_factory=StackConfig)
    dialer: DialerConfig = field(default_factory=DialerConfig)
    state: StateConfig = field(default_factory=StateConfig)
    messaging: MessagingConfig = field(default_factory=MessagingConfig)
    port: int = DEFAULT_PORT
    addresses_interval_s: float = 2.0  # how often this host's addresses are looked at: sleep, resume, another Wi-Fi
    compare_s: float = 0.15  # a start waits so long for a peer's word on our own log: this disk may be an old backup
    events_max: int = 1024  # facts one slow reader of node.events() may lag behind; then the oldest go, and it is told

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536 or self.events_max < 1 or min(self.addresses_interval_s, self.compare_s) <= 0:
            raise ValueError(f"need 0 <= port < 65536, events_max >= 1 and positive waits, got {self}")
