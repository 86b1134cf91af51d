"""Snapshots: a space folded up to a causally stable cut, in one signed piece of bytes.

    snapshot   version, stream, sender key, stubs of the last folded frame of every log, document state
    signature  Ed25519 over purpose "snapshot", mesh id, hash(snapshot); 64 bytes, last

The clock of the document state is exactly the stubs' sequences. Each stub is the signed header of a frame, so nobody
invents sequences or chain heads for another; the state itself is believed on the word of its sender, an admitted
member. A snapshot is joined, never adopted.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta

from crdt import Change, CrdtError, Document
from transport.errors import FrameInvalid, PeerFault
from transport.frame import STUB_BYTES_MAX, SignedFrame, parse, parse_stub
from transport.identity import SIGNATURE_BYTES, Identity, Mesh, NodeId, Origin, Suite, verify

PURPOSE = b"snapshot"
VERSION = 1
SNAPSHOT_BYTES_MAX = 256 << 20
ORIGINS_MAX = 65_536


class _Parts(msgspec.Struct, frozen=True, array_like=True, gc=False):
    version: int
    stream: Annotated[str, Meta(min_length=1, max_length=128)]
    sender: Annotated[bytes, Meta(min_length=32, max_length=32)]
    stubs: Annotated[list[Annotated[bytes, Meta(max_length=STUB_BYTES_MAX)]], Meta(max_length=ORIGINS_MAX)]
    state: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Parts).decode


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A space at a cut: ``stubs`` (the last folded frame of each log) and the document's ``state`` there."""

    stream: str
    stubs: Mapping[Origin, SignedFrame]
    state: bytes  # of ``Document.snapshot``; empty: nothing was folded yet

    def seal(self, identity: Identity, mesh: Mesh) -> bytes:
        """The snapshot as this node vouches for it."""
        ordered = [self.stubs[origin].stub() for origin in sorted(self.stubs)]
        raw = _encode(_Parts(VERSION, self.stream, bytes(identity.id), ordered, self.state))
        return raw + identity.sign(PURPOSE, mesh.id, hashlib.sha256(raw).digest())

    @classmethod
    def parse(cls, raw: bytes) -> Snapshot:
        """Read bytes of our own disk, or such as ``check`` let pass. Raises ``PeerFault`` on anything else."""
        try:
            parts = _decode(raw[:-SIGNATURE_BYTES])
            stubs = [parse_stub(stub) for stub in parts.stubs]
        except (msgspec.MsgspecError, FrameInvalid, ValueError) as wrong:
            raise PeerFault(None, f"a snapshot must be well formed ({wrong})") from None
        return cls(parts.stream, {stub.origin: stub for stub in stubs}, parts.state)

    @classmethod
    def check(cls, peer: NodeId, stream: str, raw: bytes, mesh: Mesh, suite: Suite) -> Snapshot:
        """The snapshot ``peer`` sent: signed by it, for this stream, with genuine stubs and a clock that fits them.

        Pure, and slow (40 us a log, and the state is decoded): run it off the loop. Raises ``PeerFault``.
        """
        if not SIGNATURE_BYTES < len(raw) <= SNAPSHOT_BYTES_MAX:
            raise PeerFault(peer, f"a snapshot of {len(raw)} bytes")
        body, signature = raw[:-SIGNATURE_BYTES], raw[-SIGNATURE_BYTES:]
        if not verify(suite, peer, PURPOSE, mesh.id, hashlib.sha256(body).digest(), signature):
            raise PeerFault(peer, "a snapshot is signed by its sender")
        try:
            snapshot = cls.parse(raw)
        except PeerFault as fault:
            raise PeerFault(peer, fault.rule) from None
        if snapshot.stream != stream or any(stub.stream != stream for stub in snapshot.stubs.values()):
            raise PeerFault(peer, "a snapshot is of the stream that was asked for")
        if not all(stub.is_authentic(mesh, suite) for stub in snapshot.stubs.values()):
            raise PeerFault(peer, "the stubs in a snapshot are signed by their origins")
        try:
            clock = load(snapshot.state, "check").clock
        except CrdtError as wrong:
            raise PeerFault(peer, f"a snapshot's state must be one ({wrong})") from None
        if dict(clock) != {str(origin): stub.last for origin, stub in snapshot.stubs.items()}:
            raise PeerFault(peer, "a snapshot's state is exactly what its logs say")
        return snapshot


class Replay:
    """Puts the frames of several logs on top of a document, in an order their causes allow.

    ``forks``: actor -> sequence from which on it equivocated. What others built on dropped operations is kept, with
    that dependency taken as met: every node drops the same ones, so all read the rest alike.
    """

    def __init__(self, document: Document, forks: Mapping[str, int]) -> None:
        self.document = document
        self.seqs: dict[str, int] = dict(document.clock)
        self.forks = forks

    def run(self, logs: Mapping[Origin, Iterable[SignedFrame]], on_applied: Callable[[SignedFrame], None]) -> None:
        """Apply what can be applied; frames that lack a cause or break the order of their log stay out."""
        queues = {origin: deque(frames) for origin, frames in logs.items()}
        moved = True
        while moved:
            moved = False
            for origin, queue in queues.items():
                while queue and queue[0].last <= self.seqs.get(str(origin), 0):
                    queue.popleft()  # in the document already
                while queue and self._apply(queue[0]):
                    on_applied(queue.popleft())
                    moved = True

    def _apply(self, frame: SignedFrame) -> bool:
        actor = str(frame.origin)
        if frame.first != self.seqs.get(actor, 0) + 1:
            return False
        try:
            changes = changes_of(frame, actor, self.forks)
        except CrdtError:
            return False  # of a newer version, or written by a bug: it must not keep a node from starting
        if missing_cause(changes, self.seqs) is not None:
            return False
        self.document.apply(changes, events=False, admitted=True)
        self.seqs[actor] = frame.last
        return True


def changes_of(frame: SignedFrame, actor: str, forks: Mapping[str, int]) -> list[Change]:
    """The changes in ``frame``'s body. Raises ``CrdtError`` when they are none, or not what the header counts."""
    changes = Change.from_items(actor, frame.first, frame.hlc, frame.body, frame.items)
    if sum(change.count for change in changes) != frame.count:
        raise CrdtError(f"a frame of {frame.count} operations holds others")
    if forks:
        for change in changes:
            if any(change.needs.get(other, 0) >= fork for other, fork in forks.items()):
                change.needs = {
                    other: min(count, forks[other] - 1) if other in forks else count
                    for other, count in change.needs.items()
                }
    return changes


def missing_cause(changes: Iterable[Change], seqs: Mapping[str, int]) -> tuple[str, int] | None:
    """The first operation (actor, sequence) these changes rest on and that is not in ``seqs``."""
    for change in changes:
        for actor, seq in change.needs.items():
            if seqs.get(actor, 0) < seq and actor != change.actor:
                return actor, seq
    return None


def fold(snapshot: Snapshot, logs: Mapping[Origin, Iterable[bytes]], forks: Mapping[str, int]) -> Snapshot:
    """``snapshot`` with the frames of ``logs`` folded in: all whose causes are there too.

    Pure; as slow as the state is large: run it off the loop.
    """
    document = load(snapshot.state, "fold")
    stubs = dict(snapshot.stubs)

    def applied(frame: SignedFrame) -> None:
        stubs[frame.origin] = frame

    Replay(document, forks).run({origin: [parse(raw) for raw in frames] for origin, frames in logs.items()}, applied)
    return Snapshot(snapshot.stream, stubs, document.snapshot())


def load(state: bytes, actor: str, clock_ms: Callable[[], int] | None = None,
         on_change: Callable[[Change], None] | None = None) -> Document:  # fmt: skip
    """A document at ``state`` (empty: at the beginning) that writes as ``actor``."""
    if not state:
        return Document(actor, clock_ms, on_change, keep_history=False)
    return Document.load(state, actor=actor, clock_ms=clock_ms, on_change=on_change, keep_history=False)
