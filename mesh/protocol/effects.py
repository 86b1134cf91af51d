"""What a core may be told, and what it may ask of the world. The runtime feeds the first and performs the second.

One vocabulary for all cores of this room, so that ``stack.py`` can couple them and a transcript reads the same
everywhere. Time is int nanoseconds of the monotonic clock. Structs, since thousands are made a second: a frozen data
class takes four times as long to make.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple, TypeAlias

from msgspec import Struct

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


class Started(Struct, frozen=True):
    """The node listens. ``addresses`` is where it can be reached; called again when they change."""

    addresses: tuple[str, ...]


class LinkUp(Struct, frozen=True):
    """There is now exactly one authenticated link to ``peer``."""

    peer: NodeId
    rtt_ns: int  # of the handshake: a first guess


class LinkClosed(Struct, frozen=True):
    """It ended. ``cause``: "left", "evicted", "replaced", "closed", "timeout" or "banned"."""

    peer: NodeId
    cause: str


class Wanted(Struct, frozen=True):
    """There is a message for ``member``: a link to it is worth a dial."""

    member: NodeId


class DialRefused(Struct, frozen=True):
    """Every known address of ``member`` was dialled. ``refused``: all hosts answered that nobody listens there."""

    member: NodeId
    refused: bool


class Received(Struct, frozen=True):
    """A link message came from ``peer``."""

    peer: NodeId
    message: LinkMessage


class Heard(Struct, frozen=True):
    """Anything at all came from ``peer`` (frames too): it is alive. At most one a loop turn and peer."""

    peer: NodeId


class Arriving(Struct, frozen=True):
    """Frames that ``peer`` sent are here and wait to be verified and applied: what it was asked for is on its way,
    however slow this node is. At most one a heartbeat and peer."""

    peer: NodeId


class Held(Struct, frozen=True):
    """A log grew to ``head``: by the frame ``first``.. that came from ``source`` (``None``: this node wrote it),
    or by a snapshot (``first`` 0, ``size`` 0: nothing to relay)."""

    slot: Slot
    first: int
    head: Head
    source: NodeId | None
    size: int


class PushRefused(Struct, frozen=True):
    """``peer``'s BROADCAST lane was full: the frame of ``slot`` that ends at ``head`` was not sent to it."""

    peer: NodeId
    slot: Slot
    head: Head


class Served(Struct, frozen=True):
    """What ``Serve`` asked for is sent: ``peer`` was given ``slot`` up to ``seq``, which is all that may leave now."""

    peer: NodeId
    slot: Slot
    seq: int


class Repeated(Struct, frozen=True):
    """``peer`` pushed a frame that was held already."""

    peer: NodeId
    slot: Slot
    seq: int


class Gap(Struct, frozen=True):
    """``peer`` pushed a frame that begins after ``first - 1``, which is not held; it was put aside or dropped."""

    peer: NodeId
    slot: Slot
    first: int


class Forked(Struct, frozen=True):
    """``origin`` is proven to equivocate; nothing more of it is accepted or asked for."""

    origin: Origin


class TimerFired(Struct, frozen=True):
    """A ``SetTimer`` of this key ran out. Stale ones are normal."""

    key: Hashable


class LoopLate(Struct, frozen=True):
    """This node's own event loop ran ``by_ns`` late: it distrusts itself before others (Lifeguard)."""

    by_ns: int


class Leave(Struct, frozen=True):
    """The application ends this node: tell the others before the links close."""


Event: TypeAlias = (
    Started | LinkUp | LinkClosed | Wanted | DialRefused | Received | Heard | Arriving | Held | PushRefused | Served
    | Repeated | Gap | Forked | TimerFired | LoopLate | Leave
)  # fmt: skip

# -- effects: what is to be done -------------------------------------------------------------------------------------


class Send(Struct, frozen=True):
    """Send a link message. A full lane never happens on CONTROL; elsewhere it is the runtime's to tell."""

    peer: NodeId
    message: LinkMessage
    lane: Lane = Lane.CONTROL


class Push(Struct, frozen=True):
    """Send the frame of the ``Held`` event being handled, its very bytes, to these. A peer whose BROADCAST lane is
    full gets nothing: the runtime feeds ``PushRefused`` and the peer is told by *ihave*."""

    peers: tuple[NodeId, ...]


class Serve(Struct, frozen=True):
    """Send ``peer`` the held frames of ``slot`` after ``after``, in order, as its SYNC lane takes them; where the log
    was cut below that, the stream's snapshot first. ``Served`` says when that is done."""

    peer: NodeId
    slot: Slot
    after: int


class SetTimer(Struct, frozen=True):
    """Feed ``TimerFired(key)`` after ``after_ns``. A second one of the same key replaces the first."""

    key: Hashable
    after_ns: int


class CancelTimer(Struct, frozen=True):
    key: Hashable


class Connect(Struct, frozen=True):
    """Hold a link to ``member``: dial ``addresses`` now and, until ``Forget``, again and again, backing off."""

    member: NodeId
    addresses: tuple[str, ...]


class Forget(Struct, frozen=True):
    """No longer try to reach ``member``."""

    member: NodeId


class CloseLink(Struct, frozen=True):
    """End the link to ``peer`` for ``cause``, after what was sent."""

    peer: NodeId
    cause: str


class Emit(Struct, frozen=True):
    """Tell observers."""

    fact: Fact


Effect: TypeAlias = Send | Push | Serve | SetTimer | CancelTimer | Connect | Forget | CloseLink | Emit
