"""Delivery: what was sent, what arrived, and whether the difference is accounted for.

A topic's reader, while it lives: nothing invented, nothing twice, each sender's messages in order; and once all has
arrived, what senders that never fell published is what it got and what it counts as dropped, exactly. Durable messages:
what was promised is handled, in order, and a handler that writes to a space runs exactly once.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim.node import SimNode
    from sim.world import World

SPACE = "letters"


class Undelivered(AssertionError):
    """A promise of delivery does not hold."""


class Reader:
    """One node's reading of all topics, checked message by message."""

    def __init__(self, world: World, node: SimNode) -> None:
        self.node = node
        self.bodies: Counter[Any] = Counter()
        self._last: dict[str, int] = {}
        self._messages = node.node.subscribe("**")
        world.start_in(node, self._read())

    @property
    def dropped(self) -> int:
        """What the node itself says it missed."""
        return int(self._messages.dropped)

    async def _read(self) -> None:
        async with self._messages as messages:
            async for message in messages:
                origin, _, number = message.id.partition("/")
                if int(number) <= self._last.get(origin, 0):
                    raise Undelivered(f"{self.node.name} got {message.id} after number {self._last[origin]}")
                self._last[origin] = int(number)
                self.bodies[message.body] += 1

    def check(self, published: set[Any]) -> None:
        """All has arrived: ``published`` is what senders that never fell published since this reader began."""
        invented = set(self.bodies) - published
        if invented or any(count > 1 for count in self.bodies.values()):
            raise Undelivered(f"{self.node.name} got what nobody published, or twice: {sorted(map(str, invented))[:5]}")
        if len(self.bodies) + self.dropped != len(published):
            raise Undelivered(
                f"{self.node.name} got {len(self.bodies)} and counts {self.dropped} as dropped of {len(published)}"
            )


class Letters:
    """Durable messages between all nodes of a world, each counted in a space of its own by the handler.

    Names end in ``-NUMBER``, and what is before it names one life of one sender: its letters are handled in order. A
    letter with a time to live is handled, or its sender is told that it died.
    """

    def __init__(self, world: World) -> None:
        self._world, self._rng = world, world.seed.stream("handlers")
        self.started: dict[str, list[str]] = {}  # by receiver: the names of letters that were begun
        self.promised: dict[str, list[str]] = {}  # those of which ``send`` returned
        self.mortal: dict[str, set[str]] = {}  # those that have a time to live
        self._order: dict[str, list[str]] = {}  # by receiver and sender's life: promised, in order, not mortal

    def listen(self, node: SimNode) -> None:
        """Handle what comes to this life of ``node``."""
        life = node.node

        @life.on_message  # type: ignore[untyped-decorator, unused-ignore]
        async def take(message: Any) -> None:
            if self._rng.random() < 0.3:
                await asyncio.sleep(self._rng.random() * 0.1)
            space = life.space(f"{SPACE}-{node.name}")
            self._in_turn(node.name, message.body, space)
            with space.transaction():
                space.counter("count").increment()
                space.set("seen").add(message.body)

    def _in_turn(self, receiver: str, name: str, space: Any) -> None:
        seen, number = space.set("seen"), int(name.rpartition("-")[2])
        for earlier in self._order.get(f"{receiver} {name.rpartition('-')[0]}", ())[-64:]:
            if int(earlier.rpartition("-")[2]) < number and earlier not in seen:
                raise Undelivered(f"{receiver} handles {name} before {earlier}")

    async def send(self, sender: SimNode, receiver: SimNode, to: Any, name: str, ttl: float | None = None) -> None:
        """One letter; promised once this returns."""
        self.started.setdefault(receiver.name, []).append(name)
        if ttl is not None:
            self.mortal.setdefault(receiver.name, set()).add(name)
        await sender.node.send(to, name, durable=True, ttl=ttl)
        self.promised.setdefault(receiver.name, []).append(name)
        if ttl is None:
            self._order.setdefault(f"{receiver.name} {name.rpartition('-')[0]}", []).append(name)

    def delivered(self, world: World) -> bool:
        """Every promised letter is handled, or died and its sender was told. For ``world.run_until``."""
        return not any(self._lacking(each) for each in world.nodes)

    def explain(self, world: World) -> str:
        """Who lacks how many."""
        return f"letters not handled: { {each.name: len(self._lacking(each)) for each in world.nodes} }"

    def handled(self, node: SimNode) -> int:
        """How many letters ``node`` handled, as far as it knows."""
        return int(node.node.space(f"{SPACE}-{node.name}").counter("count").value)

    def _lacking(self, node: SimNode) -> set[str]:
        return set(self.promised.get(node.name, ())) - self._seen(node) - self._dead(node)

    def _dead(self, receiver: SimNode) -> set[str]:
        """Letters to ``receiver`` with a time to live that their senders list as dead."""
        dead = {each.body for node in self._world.nodes for each in node.node.dead_letters()}
        return dead & self.mortal.get(receiver.name, set())

    def _seen(self, node: SimNode) -> set[str]:
        return set(node.node.space(f"{SPACE}-{node.name}").value.get("seen", ()))

    def check(self) -> None:
        """Nothing lost, nothing twice, nothing invented."""
        for each in self._world.nodes:
            seen = self._seen(each)
            count = self.handled(each)
            if count != len(seen):
                raise Undelivered(f"{each.name} handled {count} letters, {len(seen)} different ones")
            if invented := seen - set(self.started.get(each.name, ())):
                raise Undelivered(f"{each.name} handled what nobody sent: {sorted(invented)[:5]}")
            if lost := self._lacking(each):
                raise Undelivered(f"{each.name} never handled {sorted(lost)[:5]}")
