"""What failure detection keeps about one link, and about one link that closed. Plain bookkeeping, no decisions."""

from __future__ import annotations

import enum
from collections.abc import Iterable

from transport.identity import NodeId

SENT_MAX = 8  # probes remembered for their round trip; older answers only count as a sign of life


class Stage(enum.Enum):
    """How far doubt about a linked peer has come."""

    QUIET = 0  # heard lately
    PROBED = 1  # asked directly
    ASKED = 2  # asked again, and through others
    SUSPECTED = 3  # told everybody; still probed


class Watch:
    """One linked peer: when it was heard, how long its answers take (RFC 6298), who else waits to know."""

    __slots__ = (
        "_deviation", "_sent", "askers", "asks_first", "due", "heard", "nudged", "number", "peer", "probed_at",
        "rtt_ns", "stage", "verdicts",
    )  # fmt: skip

    def __init__(self, peer: NodeId, rtt_ns: int, now: int, *, asks_first: bool) -> None:
        self.peer = peer
        self.asks_first = asks_first  # when both ends fall quiet, they take turns: the other one waits a little longer
        self.heard = self.due = now
        self.nudged = now - (1 << 62)  # when it was last told that others doubt it
        self.stage = Stage.QUIET
        self.number = 0
        self.probed_at = now  # of our last own question
        self.rtt_ns = rtt_ns
        self._deviation = rtt_ns // 2
        self._sent: dict[int, int] = {}
        self.askers: dict[tuple[NodeId, int], None] = {}
        self.verdicts: dict[NodeId, str | None] = {}

    @property
    def timeout_ns(self) -> int:
        """Nearly every answer came within that: mean and four deviations."""
        return self.rtt_ns + 4 * self._deviation

    def probed(self, number: int, now: int) -> None:
        """Our own question left."""
        self.stage, self.number, self.probed_at, self.verdicts = Stage.PROBED, number, now, {}
        self.probed_for(number, now)

    def probed_for(self, number: int, now: int) -> None:
        """A question left, perhaps another's."""
        self._sent[number] = now
        if len(self._sent) > SENT_MAX:
            del self._sent[next(iter(self._sent))]

    def answered(self, number: int, now: int) -> bool:
        """An answer came. False: to no question we remember."""
        sent = self._sent.pop(number, None)
        if sent is None:
            return False
        error = now - sent - self.rtt_ns
        self.rtt_ns += error // 8
        self._deviation += (abs(error) - self._deviation) // 4
        return True


class Finding(enum.Enum):
    """What an inquiry about a member came to."""

    OPEN = 0  # answers are outstanding
    ALIVE = 1  # somebody reaches it
    DEAD = 2  # nobody has a link to it, and its host says that nobody listens
    MUTE = 3  # everybody asked lost it just now, but its host does not answer: a crash caught in the act, or a cut
    UNCLEAR = 4  # neither: suspicion, with its time to refute, decides


class Inquiry:
    """A member we are not linked to: who was asked about it, and what became of the dial."""

    __slots__ = ("asked", "dial", "due", "number", "target")

    def __init__(self, target: NodeId, number: int, asked: Iterable[NodeId], dial: str) -> None:
        self.target, self.number = target, number
        self.asked: dict[NodeId, str | None] = dict.fromkeys(asked)  # None: no answer yet
        self.due = 0  # when it is judged at the latest
        self.dial = dial  # "" under way, "refused", "failed"

    def finding(self, *, deadline: bool) -> Finding:
        """What is known by now; past the ``deadline`` what is missing counts as silence."""
        verdicts = self.asked.values()
        if "alive" in verdicts:
            return Finding.ALIVE
        if not deadline and (None in verdicts or not self.dial):
            return Finding.OPEN
        if self.dial == "refused" and all(verdict in ("closed", "unlinked") for verdict in verdicts):
            return Finding.DEAD
        if verdicts and all(verdict == "closed" for verdict in verdicts):
            return Finding.MUTE
        return Finding.UNCLEAR
