"""From a conduit to a link: the handshake over it, then lanes over it. Callbacks only: no task, no await.

``establish`` works on any conduit: a WebSocket, a pair in memory, a simulated one. The first frame after a quiet turn
of the loop goes at once; as long as each turn brings more, they are gathered, one message a turn. The conduit's backlog
sets the pace, so that what is urgent waits behind 256 KiB at the most.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from transport.base import SECOND, Conduit, Env, Lane, Timer
from transport.errors import HandshakeCut, HandshakeError, HandshakeTimeout, PeerFault
from transport.handshake import BOOT_BYTES, NONCE_BYTES, Handshake, Proven, refusal
from transport.identity import Identity, Mesh, NodeId
from transport.lanes import Lanes, LanesConfig

HANDSHAKE_TIMEOUT_NS = 5 * SECOND
CONDUIT_BYTES_MAX = 256 << 10  # kept in the conduit at most, that control cannot overtake: 2.5 ms at 100 MB/s
LANES = LanesConfig()

CAUSES = ("left", "evicted", "replaced", "closed", "timeout", "banned")


@dataclass(frozen=True, slots=True)
class Refusal:
    """A conversation that did not become a link: the audit line."""

    address: str
    reason: str  # of ``transport.errors.HandshakeError``
    peer: NodeId | None  # who it is or claims to be, if that much was said
    detail: str
    error: HandshakeError


def no_frame(lane: Lane, frame: bytes) -> None:
    """For links whose owner did not say what to do."""


class EstablishedLink:
    """``transport.base.Link`` over a conduit. Made by ``establish`` only."""

    __slots__ = ("_closing", "_conduit", "_env", "_flush_timer", "_is_blocked", "_is_open", "_lanes", "_on_end",
                 "boot", "dialed", "fault", "on_close", "on_frame", "on_writable", "peer", "remote",
                 "rtt_ns")  # fmt: skip

    def __init__(
        self, env: Env, conduit: Conduit, proven: Proven, *, dialed: bool, rtt_ns: int, lanes: LanesConfig,
        on_end: Callable[[EstablishedLink, str], None],
    ) -> None:  # fmt: skip
        self._env, self._conduit, self._on_end = env, conduit, on_end
        self._lanes = Lanes(proven.peer, lanes)
        self.peer, self.boot, self.dialed = proven.peer, proven.boot, dialed
        self.remote, self.rtt_ns = conduit.remote, rtt_ns
        self.on_frame: Callable[[Lane, bytes], None] = no_frame
        self.on_writable: Callable[[Lane], None] = lambda lane: None
        self.on_close: Callable[[str], None] = lambda cause: None
        self.fault: PeerFault | None = None  # the rule the peer broke, when the cause is "banned"
        self._is_open, self._is_blocked = True, False
        self._closing: str | None = None
        self._flush_timer: Timer | None = None
        conduit.on_message, conduit.on_drained, conduit.on_close = self._on_message, self._on_drained, self._on_closed
        self._flush_soon()

    def try_send(self, lane: Lane, frame: bytes, urgent: bool = False) -> bool:
        """See ``base.Link``. CONTROL never refuses: a peer that takes none of a whole lane is dead, and cut off."""
        if self._closing is not None or not self._is_open:
            return True
        if not self._lanes.offer(lane, frame, urgent):
            if lane is not Lane.CONTROL:
                return False
            self._is_blocked = True  # what is queued will not go either
            self.close("timeout")
            return True
        if self._flush_timer is None and not self._is_blocked:
            self._pour()
            self._flush_soon()
        return True

    def queued(self, lane: Lane) -> int:
        """Bytes that wait in ``lane``: for people and for the choice of a peer, not a promise."""
        return self._lanes.queued(lane)

    def consumed(self, lane: Lane, size: int) -> None:
        """See ``base.Link``."""
        if self._lanes.consumed(lane, size) and self._is_open and self._flush_timer is None and not self._is_blocked:
            self._flush_soon()

    def close(self, cause: str) -> None:
        """See ``base.Link``; ``cause`` is one of ``CAUSES``. ``on_close`` follows on a later turn."""
        if self._closing is None and self._is_open:
            self._closing = cause
            self._env.call_at(self._env.mono(), lambda: self.end(cause))

    def end(self, cause: str) -> None:
        """Like ``close``, but ``on_close`` is called before this returns: for the dialer, between two callbacks."""
        if not self._is_open:
            return
        self._flush()
        self._finish(cause)

    def __repr__(self) -> str:
        return f"Link({'to' if self.dialed else 'from'} {self.peer.short} at {self.remote})"

    # -- inside ------------------------------------------------------------------------------------------------------

    def _flush_soon(self) -> None:
        self._flush_timer = self._env.call_at(self._env.mono(), self._flush)

    def _flush(self) -> None:
        """A turn is over: send what it brought. If it brought nothing, the next frame need not wait for company."""
        self._flush_timer = None
        if not self._is_open:
            return
        if self._pour() and not self._is_blocked:
            self._flush_soon()
        if self._closing is None:
            for lane in self._lanes.writable():
                self.on_writable(lane)

    def _pour(self) -> bool:
        """Hand messages to the conduit as far as it takes them; whether there were any. Calls nobody back."""
        conduit, lanes = self._conduit, self._lanes
        poured = False
        while True:
            if conduit.backlog >= CONDUIT_BYTES_MAX:
                self._is_blocked = True  # until on_drained
                break
            message = lanes.take()
            if message is None:
                break
            conduit.send(message)
            poured = True
        return poured

    def _on_drained(self) -> None:
        self._is_blocked = False
        if self._flush_timer is None:
            self._flush()

    def _on_message(self, message: bytes) -> None:
        if not self._is_open:
            return
        try:
            frames = self._lanes.receive(message)
        except PeerFault as fault:
            self.fault = fault
            self._finish("banned")
            return
        on_frame = self.on_frame
        for lane, frame in frames:
            on_frame(lane, frame)
            if not self._is_open:
                return
        if self._flush_timer is None and not self._is_blocked and self._lanes.is_ready:
            self._flush_soon()  # credit came in

    def _on_closed(self, reason: str) -> None:
        self._finish(self._closing or ("timeout" if reason == "timeout" else "closed"))

    def _finish(self, cause: str) -> None:
        if not self._is_open:
            return
        self._is_open = False
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None
        _detach(self._conduit)
        self._conduit.close(cause)
        self.on_close(cause)
        self._on_end(self, cause)


class Opening:
    """A handshake under way. ``abandon`` ends it in silence: neither callback follows."""

    __slots__ = ("_admit", "_asked_ns", "_conduit", "_env", "_handshake", "_is_committed", "_lanes", "_on_end",
                 "_on_link", "_on_refused", "_rtt_ns", "_timer", "dialed")  # fmt: skip

    def __init__(
        self, env: Env, conduit: Conduit, handshake: Handshake, *, dialed: bool, lanes: LanesConfig, timeout_ns: int,
        on_link: Callable[[EstablishedLink], None], on_refused: Callable[[Refusal], None],
        on_end: Callable[[EstablishedLink, str], None], admit: Callable[[Proven], str | None],
    ) -> None:  # fmt: skip
        self._env, self._conduit, self._handshake, self.dialed, self._lanes = env, conduit, handshake, dialed, lanes
        self._on_link, self._on_refused, self._on_end, self._admit = on_link, on_refused, on_end, admit
        self._asked_ns, self._rtt_ns = env.mono(), 0
        self._is_committed = False  # our last word is sent: to the other end this is a link, as soon as it arrives
        self._timer: Timer | None = env.call_at(env.mono() + timeout_ns, self._on_timeout)
        conduit.on_message, conduit.on_close, conduit.on_drained = self._on_message, self._on_closed, _nothing
        opening = handshake.open()
        if opening is not None:
            conduit.send(opening)

    @property
    def claimed(self) -> NodeId | None:
        """Who the other end says it is; beyond doubt once ``admit`` was asked."""
        return self._handshake.claimed

    def abandon(self, reason: str = "closed") -> None:
        """Stop; the other side sees the conduit end."""
        if self._stop():
            self._conduit.close(reason)

    def _stop(self) -> bool:
        if self._timer is None:
            return False
        self._timer.cancel()
        self._timer = None
        _detach(self._conduit)
        return True

    def _on_message(self, raw: bytes) -> None:
        handshake = self._handshake
        try:
            reply = handshake.receive(raw)
        except HandshakeError as error:
            self._refuse(error)
            return
        if reply is not None:
            self._asked_ns = self._env.mono()
            self._conduit.send(reply)
            return
        if not handshake.is_up:
            proven = handshake.proven
            assert proven is not None  # nothing to send and not up: it is ours to commit
            self._rtt_ns = self._env.mono() - self._asked_ns
            verdict = self._admit(proven)
            if verdict is not None:
                if verdict:
                    self._refuse(handshake.decline(verdict))
                else:
                    self.abandon()
                return
            if self._timer is None:
                return  # abandoned meanwhile
            self._conduit.send(handshake.commit())
            self._is_committed = True
        if handshake.is_up and self._stop():
            proven = handshake.proven
            assert proven is not None
            self._on_link(
                EstablishedLink(
                    self._env, self._conduit, proven, dialed=self.dialed, rtt_ns=self._rtt_ns, lanes=self._lanes,
                    on_end=self._on_end,
                )
            )  # fmt: skip

    def _on_timeout(self) -> None:
        self._refuse(HandshakeTimeout(self._handshake.claimed))

    def _on_closed(self, reason: str) -> None:
        self._refuse(HandshakeCut(self._handshake.claimed, reason))

    def _refuse(self, error: HandshakeError) -> None:
        if not self._stop():
            return
        told = refusal(error)
        if told is not None and not self._is_committed:  # on a link a word of the handshake would be a broken rule
            self._conduit.send(told)
        self._conduit.close(error.reason)
        self._on_refused(Refusal(self._conduit.remote, error.reason, error.peer, error.detail, error))


def establish(
    env: Env, conduit: Conduit, identity: Identity, mesh: Mesh, *, dialed: bool, expected: NodeId | None = None,
    on_link: Callable[[EstablishedLink], None], on_refused: Callable[[Refusal], None],
    timeout_ns: int = HANDSHAKE_TIMEOUT_NS, boot: bytes = bytes(BOOT_BYTES), insist: bool = False,
    lanes: LanesConfig = LANES, admit: Callable[[Proven], str | None] = lambda proven: None,
    on_end: Callable[[EstablishedLink, str], None] = lambda link, cause: None,
) -> Opening:  # fmt: skip
    """Find out who is at the other end of ``conduit``; then exactly one of ``on_link`` and ``on_refused``, later.

    ``admit`` is asked when the peer is proven and before this side commits: ``None`` goes on, a word declines with it,
    "" ends in silence. ``on_end`` follows the link's own ``on_close``. The owner sets the link's callbacks inside
    ``on_link``.
    """
    handshake = Handshake(
        identity, mesh, dialed=dialed, binding=conduit.binding, nonce=env.entropy(NONCE_BYTES), boot=boot,
        expected=expected, insist=insist,
    )  # fmt: skip
    return Opening(
        env, conduit, handshake, dialed=dialed, lanes=lanes, timeout_ns=timeout_ns, on_link=on_link,
        on_refused=on_refused, on_end=on_end, admit=admit,
    )  # fmt: skip


def _nothing(*_: object) -> None:
    pass


def _detach(conduit: Conduit) -> None:
    conduit.on_message = conduit.on_close = conduit.on_drained = _nothing
