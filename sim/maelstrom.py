"""Maelstrom's workloads over our nodes: its requests, its answers, its rules of acceptance, and its line protocol.

``serve`` answers one request body with what a node holds: an ``_ok`` only once the write is on disk. In a world,
``Clients`` asks every node, with no latency of its own as Maelstrom has it ("adding latency tends to hide anomalies"),
under faults that Maelstrom has not. ``python -m sim.maelstrom`` is a node on standard input and output, for who has the
jar; its links run beside Maelstrom's network, over loopback, so Maelstrom's partitions do not cut them.

Source  jepsen-io/maelstrom, doc/protocol.md and doc/workloads.md.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Literal

from sim.checkers.counting import Tally
from sim.checkers.delivery import Delivered, SetFull
from sim.checkers.verdict import Violated
from sim.seed import exponential

if TYPE_CHECKING:
    from sim.node import SimNode
    from sim.world import World

Body = dict[str, Any]
Workload = Literal["echo", "unique-ids", "broadcast", "g-set", "g-counter", "pn-counter"]
WORKLOADS: tuple[Workload, ...] = ("echo", "unique-ids", "broadcast", "g-set", "g-counter", "pn-counter")
NOT_SUPPORTED, UNAVAILABLE, MALFORMED = 10, 11, 12  # Maelstrom's codes; all three are definite: nothing happened
SPACE = "maelstrom"


async def serve(node: Any, body: Body, workload: Workload, number: int = 0) -> Body:
    """The answer to one request. ``number`` is unique among the requests of this life of the node."""
    from crdt import CrdtError
    from mesh.errors import MeshError

    kind = body.get("type")
    space = node.space(SPACE)
    try:
        match kind:
            case "init" | "topology":
                return {"type": f"{kind}_ok"}
            case "echo":
                return {"type": "echo_ok", "echo": body["echo"]}
            case "generate":
                incarnation = next(each.incarnation for each in node.members() if each.id == node.id)
                return {"type": "generate_ok", "id": f"{node.id}/{incarnation}/{number}"}
            case "broadcast":
                space.set("all").add(body["message"])
            case "add" if workload == "g-set":
                space.set("all").add(body["element"])
            case "add":
                _count(space.counter("n"), body["delta"], workload)
            case "read" if workload == "broadcast":
                return {"type": "read_ok", "messages": sorted(space.set("all"), key=repr)}
            case "read" if workload == "g-set":
                return {"type": "read_ok", "value": sorted(space.set("all"), key=repr)}
            case "read":
                return {"type": "read_ok", "value": space.counter("n").value}
            case _:
                return {"type": "error", "code": NOT_SUPPORTED, "text": f"no such request: {kind!r}"}
    except (KeyError, TypeError, ValueError, CrdtError) as wrong:
        return {"type": "error", "code": MALFORMED, "text": f"{type(wrong).__name__}: {wrong}"}
    except MeshError as refused:
        return {"type": "error", "code": UNAVAILABLE, "text": str(refused)}
    try:
        await space.flush()
    except MeshError as lost:  # taken back: it is as if it had never been
        return {"type": "error", "code": UNAVAILABLE, "text": str(lost)}
    return {"type": f"{kind}_ok"}


def _count(counter: Any, delta: int, workload: Workload) -> None:
    if delta < 0 and workload == "g-counter":
        raise ValueError(f"a grow-only counter takes no {delta}")
    counter.increment(delta) if delta >= 0 else counter.decrement(-delta)


@dataclass(slots=True)
class Request:
    """One request of a client, and what became of it. Without an answer its effect is unknown."""

    node: str
    body: Body
    answer: Body | None = None

    @property
    def is_ok(self) -> bool:
        return self.answer is not None and self.answer["type"] != "error"

    @property
    def is_unknown(self) -> bool:
        return self.answer is None


class Clients:
    """One client a node. ``start``, let time and faults pass, ``stop``, then ``check`` once the world has converged."""

    def __init__(self, world: World, workload: Workload, per_s: float = 5.0) -> None:
        self._world, self.workload = world, workload
        self._pause = round(1e9 / per_s)
        self._running = False
        self._tasks: list[asyncio.Task[None]] = []
        self.requests: list[Request] = []
        self._delivery = SetFull()

    def start(self) -> None:
        self._running = True
        world = self._world  # which raises what they raise, at the moment they raise it
        self._tasks = [world.start(self._client(each)) for each in world.nodes]

    def stop(self) -> None:
        self._running = False

    async def _client(self, node: SimNode) -> None:
        rng = self._world.seed.stream(f"client/{node.name}")
        count = 0
        while self._running:
            await asyncio.sleep(exponential(rng, self._pause) / 1e9)
            if self._running and node.answers:
                count += 1
                request = Request(node.name, self._draw(rng, f"{node.name}-{count}"))
                self.requests.append(request)
                self._tasks.append(self._world.start(self._ask(node, request, len(self.requests))))

    def _draw(self, rng: Random, element: str) -> Body:
        read = rng.random() < 0.3
        match self.workload:
            case "echo":
                return {"type": "echo", "echo": element}
            case "unique-ids":
                return {"type": "generate"}
            case _ if read:
                return {"type": "read"}
            case "broadcast":
                return {"type": "broadcast", "message": element}
            case "g-set":
                return {"type": "add", "element": element}
            case "g-counter":
                return {"type": "add", "delta": rng.randrange(1, 6)}
            case _:
                return {"type": "add", "delta": rng.randrange(-5, 6)}

    async def _ask(self, node: SimNode, request: Request, number: int) -> None:
        world, body, life = self._world, request.body, node.process
        element = body.get("message", body.get("element"))
        if element is not None:
            self._delivery.add(element, world.now)
        context = life.context.copy() if life is not None else None
        task = world.loop.create_task(serve(node.node, body, self.workload, number), context=context)
        answer = await task  # for ever, if its node dies: then nobody knows
        request.answer = answer
        if element is not None and request.is_ok:
            self._delivery.acknowledge(element, world.now)

    def check(self) -> Delivered | None:
        """Accept by Maelstrom's rules, on final reads of every node. Raises ``Violated``."""
        world, answered = self._world, [each for each in self.requests if each.is_ok]
        reads = [
            (each.name, world.run(serve(each.node, {"type": "read"}, self.workload)))
            for each in world.nodes
            if each.answers
        ]
        for task in self._tasks:
            task.cancel()
        if not answered:
            raise Violated("no request was answered")
        match self.workload:
            case "echo":
                for each in answered:
                    if each.answer != {"type": "echo_ok", "echo": each.body["echo"]}:
                        raise Violated(f"{each.node} answered {each.answer} to {each.body}")
                return None
            case "unique-ids":
                ids = [str(each.answer and each.answer["id"]) for each in answered]
                if len(set(ids)) < len(ids):
                    raise Violated(f"{len(ids) - len(set(ids))} ids were given twice")
                return None
            case "broadcast" | "g-set":
                delivered: Delivered | None = None
                for name, read in reads:
                    value = read["messages"] if self.workload == "broadcast" else read["value"]
                    if len(set(value)) < len(value):
                        raise Violated(f"{name} reads an element twice")
                    delivered = self._delivery.judge(value)
                    delivered.demand()
                return delivered
            case _:
                tally = Tally()
                for each in self.requests:
                    if each.body["type"] == "add":
                        if each.is_ok:
                            tally.add(each.body["delta"])
                        elif each.is_unknown:
                            tally.maybe(each.body["delta"])
                tally.demand(read["value"] for _, read in reads)
                return None


# -- the line protocol -----------------------------------------------------------------------------------------------


async def speak(
    workload: Workload, lines: asyncio.StreamReader, write: Callable[[str], None], make_node: Callable[..., Any]
) -> None:
    """Be a Maelstrom node: one JSON message a line, until the lines end."""
    made: Any = None
    tasks: set[asyncio.Task[None]] = set()
    name, number = "", 0

    async def answer(message: Body, number: int) -> None:
        body = message["body"]
        reply = await serve(made, body, workload, number)
        reply["in_reply_to"] = body.get("msg_id")
        write(json.dumps({"src": name, "dest": message["src"], "body": reply}) + "\n")

    try:
        async for line in lines:
            message: Body = json.loads(line)
            if message["body"]["type"] == "init":
                name = message["body"]["node_id"]
                made = make_node(name, message["body"]["node_ids"])
                await made.start()
            number += 1
            task = asyncio.create_task(answer(message, number))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)
    finally:
        if made is not None:
            await made.stop()


async def main(arguments: Sequence[str]) -> int:
    """``python -m sim.maelstrom WORKLOAD``. Nodes with one parent process are one mesh. Exit 2: usage."""
    if len(arguments) != 1 or arguments[0] not in WORKLOADS:
        print(f"usage: python -m sim.maelstrom {'|'.join(WORKLOADS)}", file=sys.stderr)
        return 2
    from mesh import Node

    def make_node(name: str, names: Sequence[str]) -> Any:
        return Node(name, mesh=f"maelstrom-{os.getppid()}")  # no secret: this machine's programs only

    def write(line: str) -> None:
        sys.stdout.write(line)
        sys.stdout.flush()

    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await speak(arguments[0], reader, write, make_node)
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
