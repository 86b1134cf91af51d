"""What a node tells itself: handed over at the next turn of the loop, in order, as a link would."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from mesh.messages import LinkMessage
from transport.base import Env

BYTES_MAX = 4 << 20  # waiting at once, as on a lane of a link
MESSAGE_EXTRA = 256  # bytes of memory a waiting message costs beside its body


class Loopback:
    """The way of a node to itself. ``deliver`` gets each message, ``writable`` is called once there is room again."""

    def __init__(self, env: Env, *, deliver: Callable[[LinkMessage], object], writable: Callable[[], None]) -> None:
        self._env, self._deliver, self._writable = env, deliver, writable
        self._queue: deque[LinkMessage] = deque()
        self._bytes = 0
        self._is_full = False

    def try_send(self, message: LinkMessage) -> bool:
        """Queue ``message``. False: there is no room, and ``writable`` will be called."""
        size = _size(message)
        if self._queue and self._bytes + size > BYTES_MAX:
            self._is_full = True
            return False
        if not self._queue:
            self._env.call_at(self._env.mono(), self._turn)
        self._queue.append(message)
        self._bytes += size
        return True

    def _turn(self) -> None:
        """Hand over what waited when this turn began; what follows from it has its own."""
        queue, self._queue, self._bytes = self._queue, deque(), 0
        for message in queue:
            self._deliver(message)
        if self._is_full:
            self._is_full = False
            self._writable()


def _size(message: LinkMessage) -> int:
    return len(getattr(message, "body", b"")) + MESSAGE_EXTRA
