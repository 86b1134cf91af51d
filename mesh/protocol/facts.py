"""What a core may tell observers. Log, ``node.events()``, metrics, dashboard and simulator read the same ones.

A fact's name is ``noun.verb``; its fields are flat, and never secret.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

from transport.identity import NodeId, Origin


@dataclass(frozen=True, slots=True)
class Fact:
    """Root of them all."""

    name: ClassVar[str] = "fact"
    level: ClassVar[str] = "info"

    def fields(self) -> dict[str, Any]:
        """The fact as plain values: ids as text, the rest as it is."""
        plain = {each.name: getattr(self, each.name) for each in fields(self)}
        return {key: str(value) if isinstance(value, NodeId | Origin) else value for key, value in plain.items()}


@dataclass(frozen=True, slots=True)
class MemberUp(Fact):
    """``member`` joined, came back, or refuted a suspicion that had it down."""

    name: ClassVar[str] = "member.up"
    member: NodeId
    member_name: str
    incarnation: int


@dataclass(frozen=True, slots=True)
class MemberSuspect(Fact):
    """``member`` is silent; it may still refute."""

    name: ClassVar[str] = "member.suspect"
    member: NodeId
    accuser: NodeId


@dataclass(frozen=True, slots=True)
class MemberDown(Fact):
    """``member`` is gone: "closed" (its host refused), "timeout" (silence) or "left" (it said so)."""

    name: ClassVar[str] = "member.down"
    member: NodeId
    member_name: str
    cause: str


@dataclass(frozen=True, slots=True)
class LinkOpened(Fact):
    """A link to ``peer`` is up."""

    name: ClassVar[str] = "link.up"
    peer: NodeId


@dataclass(frozen=True, slots=True)
class LinkLost(Fact):
    """The link to ``peer`` ended, and why."""

    name: ClassVar[str] = "link.down"
    peer: NodeId
    cause: str


@dataclass(frozen=True, slots=True)
class PartitionSuspected(Fact):
    """Several members went silent together: this node may be cut off from ``gone``."""

    name: ClassVar[str] = "partition.suspected"
    gone: tuple[NodeId, ...]
    here: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True)
class PartitionHealed(Fact):
    """Members that were cut off are back."""

    name: ClassVar[str] = "partition.healed"
    back: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True)
class ClockAhead(Fact):
    """``origin``'s stamps are further ahead of this node's wall clock than it follows."""

    name: ClassVar[str] = "clock.ahead"
    level: ClassVar[str] = "warning"
    origin: Origin
    by_ms: int


@dataclass(frozen=True, slots=True)
class PeerRefused(Fact):
    """Somebody was refused in the handshake, or a hint led nowhere: the audit line."""

    name: ClassVar[str] = "peer.refused"
    level: ClassVar[str] = "warning"
    address: str
    reason: str
    peer: NodeId | None = None


@dataclass(frozen=True, slots=True)
class PeerMisbehaved(Fact):
    """A linked peer broke a rule; its link was closed."""

    name: ClassVar[str] = "peer.misbehaved"
    level: ClassVar[str] = "warning"
    peer: NodeId
    rule: str


@dataclass(frozen=True, slots=True)
class LogForked(Fact):
    """``origin`` signed two histories. Its changes from ``seq`` on are dropped, the evidence is kept."""

    name: ClassVar[str] = "log.forked"
    level: ClassVar[str] = "error"
    origin: Origin
    stream: str
    seq: int


@dataclass(frozen=True, slots=True)
class LogRenewed(Fact):
    """This node's own log could not go on (restored backup, damaged tail): it writes a new one from now on."""

    name: ClassVar[str] = "log.renewed"
    level: ClassVar[str] = "warning"
    old: Origin
    new: Origin
    reason: str


@dataclass(frozen=True, slots=True)
class WritesRefused(Fact):
    """``origin`` was retired; what it wrote to ``stream`` beyond the end of its log, lastly ``first`` to ``last``, was
    not taken in. Its owner is told the same by its own node."""

    name: ClassVar[str] = "log.refused"
    level: ClassVar[str] = "warning"
    stream: str
    origin: Origin
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class StateLost(Fact):
    """The disk refused: local writes of ``stream`` from ``first`` to ``last`` were taken back."""

    name: ClassVar[str] = "state.lost"
    level: ClassVar[str] = "error"
    stream: str
    first: int
    last: int
    reason: str


@dataclass(frozen=True, slots=True)
class WritesLost(Fact):
    """Own writes of ``stream``, durable here, cannot become part of what the others hold; they are kept aside."""

    name: ClassVar[str] = "writes.lost"
    level: ClassVar[str] = "error"
    stream: str
    origin: Origin
    first: int
    last: int
    reason: str


@dataclass(frozen=True, slots=True)
class StateDamaged(Fact):
    """Records on disk failed their checksum; they are fetched from peers again, or missed."""

    name: ClassVar[str] = "state.damaged"
    level: ClassVar[str] = "error"
    records: int


@dataclass(frozen=True, slots=True)
class Dropped(Fact):
    """A limit dropped something that somebody may have waited for."""

    name: ClassVar[str] = "message.dropped"
    level: ClassVar[str] = "warning"
    reason: str
    count: int


@dataclass(frozen=True, slots=True)
class SpaceStalled(Fact):
    """``origin`` wrote what only a newer version understands: its log, and what rests on it, waits for an upgrade."""

    name: ClassVar[str] = "space.stalled"
    level: ClassVar[str] = "error"
    stream: str
    origin: Origin
    seq: int
    reason: str


@dataclass(frozen=True, slots=True)
class LetterDied(Fact):
    """A durable message to ``to`` was given up; ``node.dead_letters()`` has it."""

    name: ClassVar[str] = "letter.died"
    level: ClassVar[str] = "warning"
    letter: str
    to: NodeId
    reason: str
