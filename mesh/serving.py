"""What peers pulled, sent as their SYNC lanes take it: frames from the journal, and snapshots where a log was cut.

A snapshot may be as large as the space. So it is never queued whole: a first window of parts goes out, the rest as the
receiver pulls, who thereby decides how much of its memory half a snapshot may hold. What follows waits behind it, since
the frames above a cut mean nothing without what lies below.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

from mesh.messages import CHUNK_BYTES_MAX, PARTS_AHEAD, SnapshotPart, SnapshotPull, encode
from mesh.messaging.topic import Topics
from mesh.protocol.effects import Event, Served, Slot
from mesh.state.spaces import Spaces
from transport.base import SECOND, Env, Lane, Link, Timer
from transport.identity import SIGNATURE_BYTES, NodeId

READ_BYTES = 256 << 10  # from the journal at a time, per peer
STILL_NS = 30 * SECOND  # a snapshot that nobody pulls on is let go; asked again, it begins anew


class Serving:
    """One queue a linked peer; ``feed`` gets ``Served`` when a log it pulled is sent as far as it goes."""

    def __init__(
        self, env: Env, *, links: Mapping[NodeId, Link], spaces: Spaces, topics: Topics, feed: Callable[[Event], None]
    ) -> None:
        self._env, self._links, self._spaces, self._topics, self._feed = env, links, spaces, topics, feed
        self._queues: dict[NodeId, _Queue] = {}
        self._transfers = 0

    @property
    def waiting(self) -> int:
        """Frames to send and logs to read, for all peers."""
        return sum(len(each.ready) + len(each.wanted) for each in self._queues.values())

    def serve(self, peer: NodeId, slot: Slot, after: int) -> None:
        """``peer`` pulls ``slot`` from after ``after``. Asked again: from there; at most one entry a log."""
        queue = self._queues.setdefault(peer, _Queue())
        sending = queue.sending
        if sending is not None and sending.is_stalled and slot in queue.snapshots[sending.stream][1]:
            self._let_go(queue)  # the receiver gave its half up, and asks anew
        queue.wanted[slot] = after
        self.go(peer)

    def pull(self, peer: NodeId, message: SnapshotPull) -> None:
        """``peer`` has room for the parts of this transfer up to a number."""
        queue = self._queues.get(peer)
        if queue is not None and queue.sending is not None and queue.sending.number == message.transfer:
            queue.sending.allowed = max(queue.sending.allowed, message.parts)
            self._watch(peer, queue)
            self.go(peer)

    def lost(self, peer: NodeId) -> None:
        """The link ended."""
        if (queue := self._queues.pop(peer, None)) is not None:
            self._let_go(queue)

    def close(self) -> None:
        for peer in list(self._queues):
            self.lost(peer)

    def go(self, peer: NodeId) -> None:
        """Send until the lane is full, the receiver's window is, or nothing is left."""
        queue, link = self._queues.get(peer), self._links.get(peer)
        if queue is None or link is None:
            return
        while True:
            while queue.ready:
                if not link.try_send(Lane.SYNC, queue.ready[0]):
                    return
                queue.ready.popleft()
            if (sending := queue.sending) is not None:
                if sending.is_stalled or not link.try_send(Lane.SYNC, sending.part()):
                    return
                sending.next += 1
                if sending.next == sending.parts:
                    self._let_go(queue)
            elif queue.wanted:
                slot, after = next(iter(queue.wanted.items()))
                del queue.wanted[slot]
                self._read(peer, queue, slot, after)
            else:
                return

    def _read(self, peer: NodeId, queue: _Queue, slot: Slot, after: int) -> None:
        if self._topics.holds(slot):
            frames, last = self._topics.serve(slot, after, READ_BYTES)
        else:
            found = self._spaces.frames_after(slot, after, READ_BYTES)
            if found is None:
                self._begin(peer, queue, slot)
                queue.wanted[slot] = self._spaces.floor_of(slot)
                return
            frames, last = found, self._spaces.last_of(found[-1]) if found else after
        if frames:
            queue.ready.extend(frames)
            queue.wanted[slot] = last
        else:
            self._feed(Served(peer, slot, after))

    def _begin(self, peer: NodeId, queue: _Queue, slot: Slot) -> None:
        """Begin to send the stream's snapshot: one serves all of its logs, unless one of them is asked for again."""
        whole = self._spaces.snapshot(slot.stream)
        signature = whole[-SIGNATURE_BYTES:]
        known, slots = queue.snapshots.get(slot.stream, (b"", {}))
        if known == signature and slot not in slots:
            slots[slot] = None
            return
        queue.snapshots[slot.stream] = signature, {slot: None}
        for other in self._queues.values():
            if other.sending is not None and other.sending.whole == whole:
                whole = other.sending.whole  # the same bytes for all who join at once
                break
        self._transfers += 1
        queue.sending = _Sending(slot.stream, self._transfers, whole)
        self._watch(peer, queue)

    def _watch(self, peer: NodeId, queue: _Queue) -> None:
        """Nobody makes this node hold a snapshot for longer than it takes to send."""
        if queue.timer is not None:
            queue.timer.cancel()
        queue.timer = self._env.call_at(self._env.mono() + STILL_NS, lambda: self._on_still(peer, queue))

    def _on_still(self, peer: NodeId, queue: _Queue) -> None:
        if queue.sending is not None and not queue.sending.is_stalled:
            self._watch(peer, queue)  # it waits for the lane, not for a pull
            return
        self._let_go(queue)
        self.go(peer)

    @staticmethod
    def _let_go(queue: _Queue) -> None:
        queue.sending = None
        if queue.timer is not None:
            queue.timer.cancel()
            queue.timer = None


class _Queue:
    """What one peer asked for: logs still to be read, bytes that are next, the snapshot that is being sent, and which
    ones went over this link for which logs (at most one each of the streams there are)."""

    __slots__ = ("ready", "sending", "snapshots", "timer", "wanted")

    def __init__(self) -> None:
        self.wanted: dict[Slot, int] = {}
        self.ready: deque[bytes] = deque()
        self.sending: _Sending | None = None
        self.timer: Timer | None = None
        self.snapshots: dict[str, tuple[bytes, dict[Slot, None]]] = {}


class _Sending:
    """A snapshot on its way out."""

    __slots__ = ("allowed", "next", "number", "parts", "stream", "whole")

    def __init__(self, stream: str, number: int, whole: bytes) -> None:
        self.stream, self.number, self.whole = stream, number, whole
        self.parts = max(1, -(-len(whole) // CHUNK_BYTES_MAX))
        self.next, self.allowed = 0, PARTS_AHEAD

    @property
    def is_stalled(self) -> bool:
        """Whether the receiver has to pull first."""
        return self.next >= self.allowed

    def part(self) -> bytes:
        """The next one, encoded."""
        at = self.next * CHUNK_BYTES_MAX
        data = self.whole[at : at + CHUNK_BYTES_MAX]
        return encode(SnapshotPart(self.stream, self.number, self.next, self.parts, data))
