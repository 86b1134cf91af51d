"""Groups: members who said that they belong, and what is said to them.

Who belongs is shared state (the space ``groups``: one set of node ids under each name), so everybody knows it, cut off
too. What is said is a topic, ``groups.NAME``: at most once, or counted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any

from mesh.messaging.pattern import check_topic
from mesh.messaging.subscription import Subscription, TopicMessage
from mesh.state.space import Space
from transport.identity import NodeId

SPACE = "groups"


class Group:
    """``async with node.group("cooks") as group:`` belongs to it for the block; ``async for`` reads what is said there.

    ``join`` and ``leave`` alone change who belongs, without reading. A node that falls belongs on until it, or
    somebody, says otherwise; ``members`` shows only those that are here. Raises ``ValueError`` for a name that is none.
    """

    def __init__(
        self, name: str, *, me: NodeId, space: Space, messages: Subscription,
        publish: Callable[[str, Any], Awaitable[None]], is_present: Callable[[NodeId], bool],
    ) -> None:  # fmt: skip
        self.name, self.topic = name, topic_of(name)
        self._me, self._space, self._messages = me, space, messages
        self._publish, self._is_present = publish, is_present

    def join(self) -> None:
        """This node belongs from now on."""
        self._space.set(self.name).add(bytes(self._me))

    def leave(self) -> None:
        """It no longer does."""
        self._space.set(self.name).discard(bytes(self._me))

    def members(self) -> list[NodeId]:
        """Those that belong and are here now, by their keys; this node too if it does."""
        ids = sorted(each for each in self._space.set(self.name) if isinstance(each, bytes) and len(each) == 32)
        return [each for each in map(NodeId, ids) if self._is_present(each)]

    async def send(self, body: Any) -> None:
        """Say ``body`` to all who read here; one need not belong to say something. Waits as ``publish`` does."""
        await self._publish(self.topic, body)

    @property
    def dropped(self) -> int:
        """What this reader missed, as far as known; see ``Subscription``."""
        return self._messages.dropped

    async def __aenter__(self) -> Group:
        await self._messages.__aenter__()
        self.join()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, wrong: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()
        await self._messages.__aexit__(kind, wrong, trace)

    def __aiter__(self) -> Group:
        return self

    async def __anext__(self) -> TopicMessage:
        return await self._messages.__anext__()


def topic_of(name: str) -> str:
    """Where a group talks. Raises ``ValueError`` for a name that is none."""
    topic = f"{SPACE}.{name}"
    check_topic(topic)
    return topic
