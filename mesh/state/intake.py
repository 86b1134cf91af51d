"""Signed frames from links: read, sorted out, verified in groups off the loop, handed on in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from mesh.state.config import StateConfig
from transport.base import Env
from transport.frame import SignedFrame
from transport.identity import Mesh, NodeId, Suite

Done = Callable[[], None]
LONE_OPERATIONS = 16  # a frame of so few that comes after a quiet turn is not made to wait for the next one: 0.1 ms


class Pending:
    """A frame that waits for its turn; ``done`` gives its link the credit back."""

    __slots__ = ("done", "frame", "is_genuine", "peer")

    def __init__(self, frame: SignedFrame, peer: NodeId, done: Done) -> None:
        self.frame, self.peer, self.done = frame, peer, done
        self.is_genuine = False


class Intake:
    """A queue of frames in the order they came. Its bound is the links' credit, which ``done`` gives back.

    Verifying costs about 40 us a frame: one or two are checked on the loop at once, more go off it as one piece of
    work (the signature check leaves the interpreter, so the loop really runs meanwhile). ``accept`` then gets them one
    by one, as many operations a loop turn as ``config`` says; while ``is_ready`` says no, they wait. A small frame that
    comes after a quiet turn goes all the way within ``put``; what comes behind it is gathered until the turn ends.
    """

    def __init__(
        self,
        env: Env,
        mesh: Mesh,
        config: StateConfig,
        *,
        accept: Callable[[Pending], None],
        is_ready: Callable[[SignedFrame], bool],
    ) -> None:
        self._env, self._mesh, self._config = env, mesh, config
        self._accept, self._is_ready = accept, is_ready
        self._queue: deque[Pending] = deque()
        self._checked: deque[Pending] = deque()
        self.senders: dict[NodeId, int] = {}  # whose frames wait, and how many
        self._waiting: dict[bytes, None] = {}  # digests of what is in either, so that nothing is verified twice
        self._is_verifying = False
        self._is_armed = False
        self._is_closed = False

    def __contains__(self, frame: SignedFrame) -> bool:
        return frame.digest in self._waiting

    def put(self, pending: Pending) -> None:
        """Take a frame; ``accept`` gets it, now or later."""
        if self._is_closed:
            return
        frame = pending.frame
        if not self._is_armed and not self._waiting and frame.count <= LONE_OPERATIONS and self._is_ready(frame):
            self.wake()
            _check([pending], self._mesh, self._env.suite)
            self._accept(pending)
            return
        self._waiting[frame.digest] = None
        self.senders[pending.peer] = self.senders.get(pending.peer, 0) + 1
        self._queue.append(pending)
        self.wake()

    def wake(self) -> None:
        """Go on at the next turn of the loop, with all that came in this one."""
        if not self._is_armed:
            self._is_armed = True
            self._env.call_at(self._env.mono(), self._turn)

    def _turn(self) -> None:
        self._is_armed = False
        if self._is_closed:
            return
        if not self._is_verifying and self._queue:
            self._verify()
        self._hand_on()

    def _verify(self) -> None:
        config = self._config
        group = [self._queue.popleft() for _ in range(min(len(self._queue), config.verify_group_max))]
        mesh, suite = self._mesh, self._env.suite
        if len(group) <= config.verify_inline_max:
            _check(group, mesh, suite)
            self._checked.extend(group)
            return
        self._is_verifying = True

        def on_checked(outcome: BaseException | None) -> None:
            self._is_verifying = False
            if outcome is not None:
                raise outcome
            self._checked.extend(group)
            self.wake()

        self._env.offload(lambda: _check(group, mesh, suite), on_checked)

    def _hand_on(self) -> None:
        operations = 0
        while self._checked and operations < self._config.apply_ops_per_turn:
            pending = self._checked[0]
            if not self._is_ready(pending.frame):
                return  # whoever was not ready calls ``wake``
            self._checked.popleft()
            del self._waiting[pending.frame.digest]
            self.senders[pending.peer] -= 1
            if not self.senders[pending.peer]:
                del self.senders[pending.peer]
            operations += pending.frame.count
            self._accept(pending)
        if self._checked or (self._queue and not self._is_verifying):
            self.wake()

    def close(self) -> None:
        """Take and hand on nothing more."""
        self._is_closed = True
        self._queue.clear()
        self._checked.clear()
        self._waiting.clear()
        self.senders.clear()


def _check(group: list[Pending], mesh: Mesh, suite: Suite) -> None:
    for pending in group:
        pending.is_genuine = pending.frame.is_authentic(mesh, suite)
