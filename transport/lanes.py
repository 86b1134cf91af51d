"""The two directions of one link: what may be sent next, and what the other end may have sent.

    message   entries, one after another, to the end of the conduit message
    frame     lane byte (0-3), length as varint, the frame
    credit    0x10 | lane, absolute total as varint: "in all, you may send this many bytes on that lane"

Varints are LEB128, at most 9 bytes, in their shortest form. Credit covers frame bytes and only rises; a sender starts
with none, and each side opens with one entry for every lane but CONTROL, which needs no credit. Nothing is dropped: a
full lane takes no frame, and says so. A message above 64 KiB holds one frame, so that handling one is never long.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from transport.base import FRAME_BYTES_MAX, MESSAGE_BYTES_MAX, Lane
from transport.errors import Misuse, PeerFault
from transport.identity import NodeId

COALESCED_BYTES_MAX = 64 << 10  # of a message with several frames: a constant of the protocol
_CREDIT = 0x10
_LANES = tuple(Lane)
_FLOW = (Lane.DIRECT, Lane.BROADCAST, Lane.SYNC)  # those under credit
_QUEUED_EXTRA = 64  # bytes of memory a queued frame costs beside its own: so a bound also bounds tiny frames
_VARINT_BYTES_MAX = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class LanesConfig:
    """The bounds of one link. Both ends may differ: each only promises what it takes itself."""

    window_bytes: int = 4 << 20  # unread bytes taken per lane: four largest frames, 40 ms at 100 MB/s
    outbound_bytes_max: int = 4 << 20  # queued per lane; beyond it ``offer`` refuses: another 40 ms of patience
    control_bytes_max: int = 1 << 20  # thousands of control frames unsent: a peer that takes none is dead
    message_bytes: int = 32 << 10  # coalesced up to this: above 64 KiB aiohttp gets slower (perf-primitives, 9)
    passed_over_bytes_max: int = 128 << 10  # higher lanes' bytes before a waiting lane gets one frame in; guess

    def __post_init__(self) -> None:
        if min(self.window_bytes, self.outbound_bytes_max) < FRAME_BYTES_MAX:
            raise ValueError(f"a lane must take one largest frame of {FRAME_BYTES_MAX} bytes, got {self}")
        if not 0 < self.message_bytes <= COALESCED_BYTES_MAX - 1024 or self.passed_over_bytes_max <= 0:
            raise ValueError(
                f"need 0 < message_bytes <= {COALESCED_BYTES_MAX - 1024} and 0 < passed_over_bytes_max, got {self}"
            )


class Lanes:
    """Queues and credit of one link (the credit scheme of QUIC, RFC 9000 section 4.1: absolute and idempotent).

    Law: what ``receive`` gives is, per lane, exactly what ``offer`` took, in order, the urgent before others, as far
    as messages arrived.
    Control overtakes direct, direct broadcast, broadcast sync; but a lane that may send and was passed over by
    ``passed_over_bytes_max`` gets one frame in. Cost: O(1) a frame.
    """

    __slots__ = ("_allowed", "_arrived", "_config", "_consumed", "_due", "_granted", "_passed", "_peer", "_queued",
                 "_queues", "_refused", "_sent", "_urgent", "_waiting")  # fmt: skip

    def __init__(self, peer: NodeId, config: LanesConfig) -> None:
        self._peer, self._config = peer, config
        self._queues: tuple[deque[bytes], ...] = tuple(deque() for _ in _LANES)
        self._urgent = [0, 0, 0, 0]  # so many in front of each queue
        self._waiting = 0  # frames in all of them
        self._queued = [0, 0, 0, 0]  # bytes in each queue, extra included
        self._sent = [0, 0, 0, 0]  # frame bytes taken out of it, in all
        self._allowed = [1 << 62, 0, 0, 0]  # how many the peer lets us send, in all
        self._passed = [0, 0, 0, 0]  # bytes of higher lanes that went before it while it could have gone
        self._refused: dict[Lane, None] = {}  # lanes that said no and have not said yes since
        self._arrived = [0, 0, 0, 0]  # frame bytes that came in, in all
        self._consumed = [0, 0, 0, 0]  # of those, how many our owner is done with
        self._granted = [1 << 62, 0, 0, 0]  # how many we let the peer send, in all
        self._due: dict[Lane, None] = {}  # credit to be told with the next message
        for lane in _FLOW:
            self._grant(lane)

    @property
    def is_ready(self) -> bool:
        """Whether ``take`` would give a message."""
        return bool(self._due) or (self._waiting > 0 and any(self._may_send(lane) for lane in _LANES))

    def offer(self, lane: Lane, frame: bytes, urgent: bool = False) -> bool:
        """Queue ``frame``, an ``urgent`` one before all that are not and with room of its own. False: the lane is full,
        nothing was taken, and ``writable`` will name it once."""
        size = len(frame)
        if not 0 < size <= FRAME_BYTES_MAX:
            raise Misuse(f"a frame has 1 to {FRAME_BYTES_MAX} bytes, got {size}")
        bound = self._config.control_bytes_max if lane is Lane.CONTROL else self._config.outbound_bytes_max
        # An empty lane takes any frame, so that the extra can never shut out a largest one.
        if urgent:
            bound += FRAME_BYTES_MAX
        if self._queued[lane] and self._queued[lane] + size + _QUEUED_EXTRA > bound:
            self._refused[lane] = None
            return False
        if urgent:
            self._queues[lane].insert(self._urgent[lane], frame)
            self._urgent[lane] += 1
        else:
            self._queues[lane].append(frame)
        self._waiting += 1
        self._queued[lane] += size + _QUEUED_EXTRA
        return True

    def writable(self) -> list[Lane]:
        """Lanes that refused a frame and are down to half their bound since; each is named once."""
        if not self._refused:
            return []
        control, other = self._config.control_bytes_max, self._config.outbound_bytes_max
        free = [each for each in self._refused if self._queued[each] * 2 <= (other if each else control)]
        for lane in free:
            del self._refused[lane]
        return sorted(free)

    def queued(self, lane: Lane) -> int:
        """Bytes waiting in ``lane``."""
        return self._queued[lane]

    def take(self) -> bytes | None:
        """The next conduit message: credit due, then frames up to ``message_bytes``; a bigger frame goes alone."""
        if not self._due and self._waiting < 2:
            return self._take_only() if self._waiting else None
        parts: list[bytes] = []
        size = 0
        for due in self._due:
            parts.append(bytes((_CREDIT | due,)) + _varint(self._granted[due]))
            size += len(parts[-1])
        self._due.clear()
        while (lane := self._next()) is not None:
            frame = self._queues[lane][0]
            length = len(frame)
            if size and size + length > self._config.message_bytes:
                break
            self._queues[lane].popleft()
            if self._urgent[lane]:
                self._urgent[lane] -= 1
            self._waiting -= 1
            self._queued[lane] -= length + _QUEUED_EXTRA
            self._sent[lane] += length
            self._pass_over(lane, length)
            parts.append(bytes((lane,)) + _varint(length))
            parts.append(frame)
            size += length + len(parts[-2])
        return b"".join(parts) or None

    def _take_only(self) -> bytes | None:
        """One frame waits, and no lane is passed over for it: what nearly every message of a quiet link is."""
        for lane, queue in enumerate(self._queues):
            if queue:
                frame = queue[0]
                length = len(frame)
                sent = self._sent[lane] + length
                if sent > self._allowed[lane]:
                    return None
                queue.popleft()
                self._waiting = self._queued[lane] = 0
                self._sent[lane] = sent
                self._passed[lane:] = [0] * (len(_LANES) - lane)
                if length < 0x80:
                    return bytes((lane, length)) + frame
                return bytes((lane,)) + _varint(length) + frame
        return None

    def receive(self, message: bytes) -> list[tuple[Lane, bytes]]:
        """The frames in one conduit message, and its credit taken in. Raises ``PeerFault`` on any rule broken;
        then nothing of this message counts but the link must end."""
        frames: list[tuple[Lane, bytes]] = []
        at, end = 0, len(message)
        if not 0 < end <= MESSAGE_BYTES_MAX:
            raise PeerFault(self._peer, f"a conduit message has 1 to {MESSAGE_BYTES_MAX} bytes")
        while at < end:
            kind = message[at]
            at += 1
            number = message[at] if at < end else 0x80
            if number < 0x80:
                at += 1
            elif at + 1 < end and 0 < message[at + 1] < 0x80:  # the two usual lengths, without a call
                number, at = number & 0x7F | message[at + 1] << 7, at + 2
            else:
                number, at = self._read_varint(message, at)
            if kind < 4:
                if not 0 < number <= FRAME_BYTES_MAX or at + number > end:
                    raise PeerFault(self._peer, "a frame lies inside its message and has 1 B to 1 MiB")
                if frames and end > COALESCED_BYTES_MAX:
                    raise PeerFault(self._peer, f"a message above {COALESCED_BYTES_MAX} bytes holds one frame")
                lane = _LANES[kind]
                self._arrived[lane] += number
                if self._arrived[lane] > self._granted[lane]:
                    raise PeerFault(self._peer, f"nothing is sent without credit ({lane.name})")
                frames.append((lane, message[at : at + number]))
                at += number
            elif _CREDIT < kind < _CREDIT + 4:
                lane = _LANES[kind - _CREDIT]
                if number <= self._allowed[lane]:
                    raise PeerFault(self._peer, f"credit only rises ({lane.name})")
                self._allowed[lane] = number
            else:
                raise PeerFault(self._peer, f"there is no entry of kind {kind}")
        return frames

    def consumed(self, lane: Lane, size: int) -> bool:
        """Our owner is done with ``size`` bytes. True: credit is due, so a message should be taken soon."""
        if lane is Lane.CONTROL:
            return False
        if size < 0 or self._consumed[lane] + size > self._arrived[lane]:
            raise Misuse(f"{lane.name}: more bytes consumed than came in")
        self._consumed[lane] += size
        # Told in steps of a quarter, but never so late that a largest frame would wait for credit nobody announces.
        window = self._config.window_bytes
        rise = self._consumed[lane] + window - self._granted[lane]
        if rise and rise >= min(window // 4, window - FRAME_BYTES_MAX):
            self._grant(lane)
            return True
        return False

    # -- inside ------------------------------------------------------------------------------------------------------

    def _grant(self, lane: Lane) -> None:
        self._granted[lane] = self._consumed[lane] + self._config.window_bytes
        self._due[lane] = None

    def _may_send(self, lane: Lane) -> bool:
        queue = self._queues[lane]
        return bool(queue) and self._sent[lane] + len(queue[0]) <= self._allowed[lane]

    def _next(self) -> Lane | None:
        if not self._waiting:
            return None
        first: Lane | None = None
        for lane in _LANES:
            if not self._queues[lane] or not self._may_send(lane):
                continue
            if self._passed[lane] >= self._config.passed_over_bytes_max:
                return lane
            if first is None:
                first = lane
        return first

    def _pass_over(self, chosen: Lane, size: int) -> None:
        self._passed[chosen] = 0
        for lane in _LANES[chosen + 1 :]:
            self._passed[lane] = self._passed[lane] + size if self._waiting and self._may_send(lane) else 0

    def _read_varint(self, message: bytes, at: int) -> tuple[int, int]:
        number = 0
        for index, byte in enumerate(message[at : at + _VARINT_BYTES_MAX]):
            number |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                if index and not byte:
                    break
                return number, at + index + 1
        raise PeerFault(self._peer, "a varint is whole, shortest, and has at most 9 bytes")


def _varint(number: int) -> bytes:
    if number < 0x80:
        return bytes((number,))
    if number < 0x4000:
        return bytes((number & 0x7F | 0x80, number >> 7))
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
