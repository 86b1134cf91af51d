"""Questions, plain messages and streams: what the caller was told is what happened at the other end.

A question runs at most one handler; answered, exactly one; refused with "nothing ran", none. Under a key one life of a
node runs its handler once, however often it is asked. Of a stream the reader gets the beginning, in order, and all of
it unless an error says otherwise. Relays hand a message on once, and read nothing of it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING, Any

from mesh.errors import Busy, Expired, MeshError, NoHandler, NotReached, UnknownMember

if TYPE_CHECKING:
    from sim.node import SimNode
    from sim.world import World

NOTHING_RAN = (NotReached, NoHandler, Busy, Expired, UnknownMember)
MARK = "for nobody else to read"


class Miscalled(AssertionError):
    """What a caller was told is not what happened."""


class Calls:
    """All calls between the nodes of a world, each with a name of its own."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = world.seed.stream("calls")
        self.ran: Counter[str] = Counter()  # by name of the call; under a key also of the life that ran it
        self.answered: set[str] = set()
        self.refused: dict[str, str] = {}  # by name: the error that says that nothing ran
        self._handed_on: Counter[tuple[str, bytes, int]] = Counter()
        self._count = 0

    def serve(self, node: SimNode) -> None:
        """Handle what comes to this life of ``node``, and look over the shoulder of its relay."""
        life, name = node.node, f"{node.name}/{node.machine.epoch}"

        @life.on("echo")  # type: ignore[untyped-decorator, unused-ignore]
        async def echo(request: Any) -> Any:
            call, _ = request.body
            self.ran[f"{call} {name}" if request.key else call] += 1
            await asyncio.sleep(self._rng.random() * 0.2)
            return [call, name]

        @life.on("items")  # type: ignore[untyped-decorator, unused-ignore]
        async def items(request: Any) -> AsyncIterator[Any]:
            call, count = request.body
            self.ran[call] += 1
            pause = self._rng.choice((0.0, 0.0, 0.1))
            for each in range(count):
                yield [each, MARK * 20]
                await asyncio.sleep(pause)

        @life.on_message  # type: ignore[untyped-decorator, unused-ignore]
        async def take(message: Any) -> None:
            self.ran[message.body[0]] += 1

        relay = life._runtime.relay
        relay._hand_on = partial(self._hand_on, node, relay._hand_on)

    def _hand_on(self, node: SimNode, hand_on: Any, message: Any, raw: bytes, source: Any) -> Any:
        key = f"{node.name}/{node.machine.epoch}", bytes(message.sender), message.number
        self._handed_on[key] += 1
        if self._handed_on[key] > 1:
            raise Miscalled(f"{node.name} hands one message on again")
        if MARK.encode() in raw:
            raise Miscalled(f"{node.name} could read what it hands on")
        return hand_on(message, raw, source)

    # -- calls -------------------------------------------------------------------------------------------------------

    def name(self, node: SimNode) -> str:
        """A new name for a call of ``node``."""
        self._count += 1
        return f"{node.name}-{self._count}"

    async def ask(self, node: SimNode, to: Any, timeout: float = 3.0) -> bool:
        """A question, asked once. Whether it was answered."""
        call = self.name(node)
        try:
            answer = await node.node.request(to, "echo", [call, MARK], timeout=timeout)
        except MeshError as wrong:
            self._told(call, wrong)
            return False
        if answer[0] != call:
            raise Miscalled(f"{call} was answered with {answer[0]}")
        self.answered.add(call)
        return True

    async def insist(self, node: SimNode, to: Any) -> None:
        """A question under a key, asked until it is answered, and once more: then the answer is the same."""
        call = self.name(node)
        answers: list[Any] = []
        for _ in range(20):
            try:
                answers.append(await node.node.request(to, "echo", [call, MARK], timeout=1.0, key=call))
            except MeshError:
                await asyncio.sleep(1.0)
            if len(answers) == 2:
                return

    async def tell(self, node: SimNode, to: Any) -> None:
        """A message."""
        call = self.name(node)
        try:
            await node.node.send(to, [call, MARK], ttl=3.0, priority=self._rng.choice(("high", "normal", "low")))
        except MeshError as wrong:
            self._told(call, wrong)

    async def read(self, node: SimNode, to: Any) -> bool:
        """A stream, read to its end. Whether it was whole."""
        call, count, got = self.name(node), self._rng.randrange(40), 0
        try:
            async for each, _ in node.node.stream(to, "items", [call, count]):
                if each != got:
                    raise Miscalled(f"{call} got item {each} after {got} others")
                got += 1
        except MeshError as wrong:
            self._told(call, wrong)
            return False
        if got != count:
            raise Miscalled(f"{call} ended after {got} of {count} items")
        self.answered.add(call)
        return True

    def _told(self, call: str, wrong: MeshError) -> None:
        if isinstance(wrong, NOTHING_RAN):
            self.refused[call] = type(wrong).__name__

    def check(self) -> None:
        """Nothing ran twice; what was answered ran; of what was refused nothing did."""
        for call, count in self.ran.items():
            if count > 1:
                raise Miscalled(f"{call} ran {count} times")
        for call in self.answered:
            if not self.ran[call]:
                raise Miscalled(f"{call} was answered, and nothing ran")
        for call, error in self.refused.items():
            if self.ran[call]:
                raise Miscalled(f"{call} ran, and its caller was told {error}")
