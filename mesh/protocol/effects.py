"""What a core may be told, and what it may ask of the world. The runtime feeds the first and performs the second.

One vocabulary for all cores of this room, so that ``stack.py`` can couple them and a transcript reads the same
everywhere. Time is int nanoseconds of the monotonic clock.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from mesh.messages import LinkMessage
from mesh.protocol.facts import Fact
from transport.base import Lane
from transport.identity import NodeId, Origin


class Slot(NamedTuple):
    """One log of one stream."""

    stream: str
    origin: Origin


TRANSIENT = "\0"  # streams whose names begin so are kept in memory for a moment: told and grafted, never compared


class Head(NamedTuple):
    """How far a log is held, and the hash of the last frame: equal heads are equal histories."""

    seq: int
    hash: bytes


# -- events: what happened -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Started:
    """The node listens. ``addresses`` is where it can be reached; called again when they change."""

    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LinkUp:
    """There is now exactly one authenticated link to ``peer``."""

    peer: NodeId
    rtt_ns: int  # of the handshake: a first guess


@dataclass(frozen=True, slots=True)
class LinkClosed:
    """It ended. ``cause``: "left", "evicted", "replaced", "closed", "timeout" or "banned"."""

    peer: NodeId
    cause: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """There is a message for ``member``: a link to it is worth a dial."""

    member: NodeId


@dataclass(frozen=True, slots=True)
class DialRefused:
    """Every known address of ``member`` was dialled. ``refused``: all hosts answered that nobody listens there."""

    member: NodeId
    refused: bool


@dataclass(frozen=True, slots=True)
class Received:
    """A link message came from ``peer``."""

    peer: NodeId
    message: LinkMessage


@dataclass(frozen=True, slots=True)
class Heard:
    """Anything at all came from ``peer`` (frames too): it is alive. At most one a loop turn and peer."""

    peer: NodeId


@dataclass(frozen=True, slots=True)
class Arriving:
    """Frames that ``peer`` sent are here and wait to be verified and applied: what it was asked for is on its way,
    however slow this node is. At most one a heartbeat and peer."""

    peer: NodeId


@dataclass(frozen=True, slots=True)
class Held:
    """A log grew to ``head``: by the frame ``first``.. that came from ``source`` (``None``: this node wrote it),
    or by a snapshot (``first`` 0, ``size`` 0: nothing to relay)."""

    slot: Slot
    first: int
    head: Head
    source: NodeId | None
    size: int


@dataclass(frozen=True, slots=True)
class PushRefused:
    """``peer``'s BROADCAST lane was full: the frame of ``slot`` that ends at ``head`` was not sent to it."""

    peer: NodeId
    slot: Slot
    head: Head


@dataclass(frozen=True, slots=True)
class Repeated:
    """``peer`` pushed a frame that was held already."""

    peer: NodeId
    slot: Slot
    seq: int


@dataclass(frozen=True, slots=True)
class Gap:
    """``peer`` pushed a frame that begins after ``first - 1``, which is not held; it was put aside or dropped."""

    peer: NodeId
    slot: Slot
    first: int


@dataclass(frozen=True, slots=True)
class Forked:
    """``origin`` is proven to equivocate; nothing more of it is accepted or asked for."""

    origin: Origin


@dataclass(frozen=True, slots=True)
class TimerFired:
    """A ``SetTimer`` of this key ran out. Stale ones are normal."""

    key: Hashable


@dataclass(frozen=True, slots=True)
class LoopLate:
    """This node's own event loop ran ``by_ns`` late: it distrusts itself before others (Lifeguard)."""

    by_ns: int


@dataclass(frozen=True, slots=True)
class Leave:
    """The application ends this node: tell the others before the links close."""


Event: TypeAlias = (
    Started | LinkUp | LinkClosed | Wanted | DialRefused | Received | Heard | Arriving | Held | PushRefused | Repeated
    | Gap | Forked | TimerFired | LoopLate | Leave
)  # fmt: skip

# -- effects: what is to be done -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    """Send a link message. A full lane never happens on CONTROL; elsewhere it is the runtime's to tell."""

    peer: NodeId
    message: LinkMessage
    lane: Lane = Lane.CONTROL


@dataclass(frozen=True, slots=True)
class Push:
    """Send the frame of the ``Held`` event being handled, its very bytes, to these. A peer whose BROADCAST lane is
    full gets nothing: the runtime feeds ``PushRefused`` and the peer is told by *ihave*."""

    peers: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True)
class Serve:
    """Send ``peer`` the held frames of ``slot`` after ``after``, in order, as its SYNC lane takes them; where the log
    was cut below that, the stream's snapshot first."""

    peer: NodeId
    slot: Slot
    after: int


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Feed ``TimerFired(key)`` after ``after_ns``. A second one of the same key replaces the first."""

    key: Hashable
    after_ns: int


@dataclass(frozen=True, slots=True)
class CancelTimer:
    key: Hashable


@dataclass(frozen=True, slots=True)
class Connect:
    """Hold a link to ``member``: dial ``addresses`` now and, until ``Forget``, again and again, backing off."""

    member: NodeId
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Forget:
    """No longer try to reach ``member``."""

    member: NodeId


@dataclass(frozen=True, slots=True)
class CloseLink:
    """End the link to ``peer`` for ``cause``, after what was sent."""

    peer: NodeId
    cause: str


@dataclass(frozen=True, slots=True)
class Emit:
    """Tell observers."""

    fact: Fact


Effect: TypeAlias = Send | Push | Serve | SetTimer | CancelTimer | Connect | Forget | CloseLink | Emit
