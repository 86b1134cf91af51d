"""A link to a member before messages for it go over others: one hop costs nobody else anything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from transport.base import SECOND, Env, Timer
from transport.identity import NodeId

PATIENCE_S = 0.5  # a dial on a LAN takes 20 ms, and its first retry comes after 250 (guess)
AGAIN_S = 30.0  # who could not be dialled is not waited for again so soon
TRIED_MAX = 4096  # members whose last attempt is remembered


class Reach:
    """Who is dialled for a message. ``dial`` asks the overlay for a link, which it may refuse (False)."""

    def __init__(self, env: Env, *, is_linked: Callable[[NodeId], bool], dial: Callable[[NodeId], bool]) -> None:
        self._env, self._is_linked, self._dial = env, is_linked, dial
        self._soon: dict[NodeId, tuple[asyncio.Future[None], Timer]] = {}
        self._tried: dict[NodeId, int] = {}  # until when they are not dialled again; mono ns, the oldest first

    def __call__(self, peer: NodeId) -> asyncio.Future[None] | None:
        """What to wait for before other ways are taken: it ends with the link, or after half a second. None: now."""
        if self._is_linked(peer):
            return None
        if (known := self._soon.get(peer)) is not None:
            return known[0]
        now = self._env.mono()
        if self._tried.get(peer, 0) > now or not self._dial(peer):
            return None
        self._tried.pop(peer, None)
        self._tried[peer] = now + int(AGAIN_S * SECOND)
        if len(self._tried) > TRIED_MAX:
            del self._tried[next(iter(self._tried))]
        soon: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = self._env.call_at(now + int(PATIENCE_S * SECOND), partial(self.settled, peer))
        self._soon[peer] = soon, timer
        return soon

    def settled(self, peer: NodeId) -> None:
        """There is a link now, or it is not waited for any longer."""
        if (known := self._soon.pop(peer, None)) is not None:
            known[1].cancel()
            if not known[0].done():
                known[0].set_result(None)

    def close(self) -> None:
        """Nobody waits any more."""
        for peer in list(self._soon):
            self.settled(peer)
