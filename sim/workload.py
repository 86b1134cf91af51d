"""Clients that write on every node, an observer that looks at every node, and what must be true of both.

Every write is one transaction that adds a unique element to the set ``all`` and one to the counter ``n``; so at any
moment, on any node, ``n`` counts exactly the elements there. An element is *acknowledged* when ``flush`` returned on
its node, and *seen* when another node held it. Laws:

- *causal order* and the four session guarantees, against an oracle that knows what each author saw (``Causality``);
- *winner sanity*: no register shows a value that the author of a later write had seen (``Winners``);
- *atomic*: ``n`` is the size of ``all``, everywhere and always;
- *bounded*: no right is spent twice, as all nodes together know it (``check_rights``), so nobody ever shows less than
  zero; in the end it is the sum of what was acknowledged, and of some whose fate nobody knows;
- *strong convergence*: equal clocks, equal digests, at every look;
- *nothing lost*: what a node acknowledged it has again after any crash, and in the end everybody has it; what was seen
  elsewhere too, since nothing leaves a node that it could forget;
- *once*: an element of the list is there at most once, whoever moves it where;
- *nothing invented*: only what some client wrote is ever there;
- *stable cut*: nobody folds what another node does not have on disk (``check_floors``);
- in the end: *counters exact* (``Tally``), *equal values*, *nothing waits* anywhere, messages a write within bounds.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

from sim.checkers.bounds import check_messages
from sim.checkers.causality import Causality
from sim.checkers.convergence import check_clocks, check_values
from sim.checkers.counting import Tally
from sim.checkers.delivery import Delivered, SetFull
from sim.checkers.escrow import check_rights
from sim.checkers.stability import check_floors
from sim.checkers.verdict import Violated
from sim.checkers.winners import Winners
from sim.operations import NAMES, OTHERS
from sim.seed import exponential

if TYPE_CHECKING:
    from sim.node import SimNode
    from sim.world import World

WRITES_PER_S = 2.0
LOOK_EVERY_S = 0.25


@dataclass(slots=True)
class Write:
    """One element of ``all``: who wrote it, in which life, and what became of it."""

    node: str
    epoch: int
    acknowledged: bool = False
    seen_by: set[str] = field(default_factory=set)  # other nodes that showed it

    @property
    def seen(self) -> bool:
        return bool(self.seen_by)


class Workload:
    """``start`` it, let time pass, ``stop`` it, and demand ``check_end`` once the world has converged."""

    def __init__(self, world: World, writes_per_s: float = WRITES_PER_S, look_every_s: float = LOOK_EVERY_S) -> None:
        self._world = world
        self._look_every_s = look_every_s
        self._pause = round(1e9 / writes_per_s)
        self._running = False
        self._lives: dict[str, int] = {}
        self._views: dict[str, tuple[tuple[int, ...], frozenset[str]]] = {}
        self._causality = Causality()
        self._winners = Winners()
        self._delivery = SetFull()
        self._granted: dict[str, int] = {}  # what a write added to the bounded counter, by element
        self._flushes: dict[asyncio.Task[None], None] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.writes: dict[str, Write] = {}
        self.refused: Counter[str] = Counter()
        self.looks = 0

    def start(self) -> None:
        """One client a node, and the observer."""
        self._running = True
        world = self._world  # which raises what they raise, at the moment they raise it
        self._tasks = [world.start(self._client(each)) for each in world.nodes]
        self._tasks.append(world.start(self._observe()))

    def stop(self) -> None:
        """No more writes; the observer looks on until the end."""
        self._running = False

    async def _client(self, node: SimNode) -> None:
        seed = self._world.seed
        rng = seed.stream(f"client/{node.name}")
        number = 0
        while self._running:
            await asyncio.sleep(exponential(rng, self._pause) / 1e9)
            number += 1
            element = f"{node.name}-{number}"
            if not self._running or not node.answers or not self._world.operation(element):
                continue
            try:
                self._write(node, element, seed.stream(f"operation/{element}"))
            except _refusals() as refused:
                self.refused[type(refused).__name__] += 1

    def _write(self, node: SimNode, element: str, rng: Random) -> None:
        space = node.node.space("main")
        saw = self._shown(node)
        with space.transaction():
            space.set("all").add(element)
            space.counter("n").increment()
        self.writes[element] = write = Write(node.name, node.machine.epoch)
        self._causality.wrote(element, saw)
        self._delivery.add(element, self._world.now)
        flush = self._world.loop.create_task(self._flush(node, element, write))
        self._flushes[flush] = None  # a crashed node's never ends; kept, so that it is not collected
        more = OTHERS[rng.randrange(len(OTHERS))]
        if callable(more):
            more(space, rng, element)
        elif more == "register":
            self._write_register(space, rng.choice(NAMES), element)
        else:
            self._write_bounded(space.bounded("bound"), rng, space, element)

    def _shown(self, node: SimNode) -> frozenset[str]:
        """The elements there: read anew only when something arrived."""
        doc = node.node.space("main")._doc
        key = (node.machine.epoch, doc.index, *doc._clock)
        known = self._views.get(node.name)
        if known is not None and known[0] == key:
            return known[1]
        here: frozenset[str] = frozenset(doc.set("all").value)
        self._views[node.name] = key, here
        return here

    def _write_register(self, space: Any, name: str, element: str) -> None:
        register = space.register(name)
        saw = register.value
        register.set(element)
        self._winners.wrote(name, element, saw)

    def _write_bounded(self, bounded: Any, rng: Random, space: Any, element: str) -> None:
        draw, amount = rng.random(), rng.randrange(1, 5)
        if draw < 0.4:
            bounded.increment(amount)
            self._granted[element] = amount
        elif draw < 0.8:
            bounded.decrement(amount)
            self._granted[element] = -amount
        elif others := sorted(space.clock.keys() - {space._doc.actor}):
            bounded.transfer(min(amount, bounded.rights), to=rng.choice(others))

    async def _flush(self, node: SimNode, element: str, write: Write) -> None:
        try:
            await node.node.space("main").flush()
        except _refusals() as refused:
            self.refused[f"flush: {type(refused).__name__}"] += 1
        else:
            write.acknowledged = True
            self._delivery.acknowledge(element, self._world.now)

    async def _observe(self) -> None:
        while True:
            await asyncio.sleep(self._look_every_s)
            self.look()

    def look(self) -> None:
        """Check on every node what must hold at every moment."""
        self.looks += 1
        views = [self._look_at(node) for node in self._world.nodes if node.answers]
        if self._running or self.looks % 4 == 0:
            self._delivery.read(views, self._world.now)
        check_clocks(self._world)
        check_rights(self._world, "bound")
        if self.looks % 4 == 0:
            check_floors(self._world)
            for node in self._world.nodes:
                if node.answers:
                    self._check_list(node)

    def _look_at(self, node: SimNode) -> frozenset[str]:
        space = node.node.space("main")
        here = self._shown(node)
        count = space.counter("n").value
        if count != len(here):
            raise Violated(f"{node.name} counts {count} for {len(here)} elements: a transaction was torn")
        epoch = node.machine.epoch
        for element in self._causality.read(node.name, epoch, here, lambda gone: self._excused(node.name, gone)):
            write = self.writes[element]
            if write.node != node.name:
                write.seen_by.add(node.name)
        if self._lives.get(node.name, 0) != epoch:
            self._lives[node.name] = epoch
            lost = [
                name
                for name, write in self.writes.items()
                if write.node == node.name and (write.acknowledged or write.seen) and name not in here
            ]
            if lost and node.name not in self.forgetful:
                raise Violated(f"{node.name} came back without {lost[:5]}, which it had acknowledged or sent")
        return here

    def _check_list(self, node: SimNode) -> None:
        """Each element was inserted once: whoever moves it, it is there at most once."""
        shown = node.node.list("list").value
        twice = [each for each, count in Counter(shown).items() if count > 1 or each not in self.writes]
        if twice:
            raise Violated(f"{node.name} shows {twice[:5]} twice in a list, or nobody wrote it")

    def _excused(self, node: str, gone: frozenset[str]) -> frozenset[str]:
        """What of ``gone`` a node may miss: what a refusing disk made its author take back before anybody had it, and
        whatever a disk lost that forgot, or lied."""
        if node in self.forgetful:
            return gone
        writes = self.writes
        return frozenset(
            each
            for each in gone
            if writes[each].node in self.forgetful
            or (self.refused and writes[each].node == node and not (writes[each].acknowledged or writes[each].seen))
        )

    @property
    def forgetful(self) -> set[str]:
        """Nodes whose disk was lost or lied: what they acknowledged proves nothing."""
        return self._world.forgetful

    def check_end(self, messages: float = 1.0) -> Delivered:
        """After convergence: nothing lost, nothing invented, everything counted once, equal values, and no more
        messages than ``messages`` times what so many writes are worth."""
        self.look()
        world = self._world
        check_values(world)
        check_messages(world, len(self.writes), messages)
        keepers = {each.name for each in world.nodes if each.alive} - self.forgetful
        excused = {  # nobody who lives and has a good disk ever had it
            name for name, write in self.writes.items() if not keepers & (write.seen_by | {write.node})
        }
        seen = {name for name, write in self.writes.items() if write.seen}
        tally, bound = Tally(), Tally()
        for name, write in self.writes.items():
            if (write.acknowledged or write.seen) and name not in excused:
                tally.add(1)
            else:
                tally.maybe(1)
            if write.acknowledged and name not in excused:  # its change to the bounded counter was on disk by then
                bound.add(self._granted.get(name, 0))
            else:
                bound.maybe(self._granted.get(name, 0))
        delivered = Delivered(0, 0, (), (), {})
        for node in world.nodes:
            if not node.alive:
                continue
            here = set(node.node.set("all").value)
            delivered = self._delivery.judge(here, seen=seen, excused=excused)
            delivered.demand()
            tally.demand([node.node.counter("n").value])
            bound.demand([node.node.bounded("bound").value])
            counted = {name for name in here if self.writes[name].acknowledged}
            for name in NAMES:
                self._winners.demand(name, node.node.register(name).value, counted)
        for task in self._tasks:
            task.cancel()
        return delivered

    def summary(self) -> str:
        """What there was to check."""
        acknowledged = sum(each.acknowledged for each in self.writes.values())
        seen = sum(each.seen for each in self.writes.values())
        return f"{len(self.writes)} writes, {acknowledged} acknowledged, {seen} seen elsewhere, {self.looks} looks"


def _refusals() -> tuple[type[Exception], ...]:
    from crdt import CrdtError
    from mesh.errors import MeshError

    return CrdtError, MeshError
