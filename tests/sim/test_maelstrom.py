"""Maelstrom's rules, over the simulator; and its line protocol, spoken by two real processes."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import pytest

from sim import World
from sim.checkers import Violated
from sim.maelstrom import MALFORMED, NOT_SUPPORTED, Clients, Request, serve

INIT = {"type": "init", "msg_id": 1, "node_id": "n1", "node_ids": ["n1", "n2"]}


def test_requests_that_make_no_sense_are_refused_by_code() -> None:
    with World(1) as world:
        (a,) = world.spawn(1)
        ask = lambda body, workload="g-counter": world.run(serve(a.node, body, workload))  # noqa: E731
        assert ask({"type": "fly"})["code"] == NOT_SUPPORTED
        assert ask({"type": "add"})["code"] == ask({"type": "add", "delta": "x"})["code"] == MALFORMED
        assert ask({"type": "add", "delta": -1})["code"] == MALFORMED  # it only grows
        assert ask({"type": "add", "delta": 3}) == {"type": "add_ok"}
        assert ask({"type": "add", "delta": -1}, "pn-counter") == {"type": "add_ok"}
        assert ask({"type": "read"}) == {"type": "read_ok", "value": 2}
        assert ask({"type": "echo", "echo": [1, None]}) == {"type": "echo_ok", "echo": [1, None]}


@pytest.mark.parametrize(
    ("workload", "body", "answer"),
    [
        ("echo", {"type": "echo", "echo": 1}, {"type": "echo_ok", "echo": 2}),
        ("g-counter", {"type": "add", "delta": 7}, {"type": "add_ok"}),
    ],
)
def test_a_wrong_history_is_not_accepted(workload: Any, body: Any, answer: Any) -> None:
    with World(1) as world:
        world.spawn(1)
        clients = Clients(world, workload)
        clients.requests.append(Request("n1", body, answer))
        with pytest.raises(Violated):
            clients.check()


def test_ids_given_twice_and_an_element_nobody_has_are_not_accepted() -> None:
    with World(1) as world:
        world.spawn(1)
        twice = Clients(world, "unique-ids")
        twice.requests += [Request("n1", {"type": "generate"}, {"type": "generate_ok", "id": 1}) for _ in range(2)]
        with pytest.raises(Violated, match="twice"):
            twice.check()
        lost = Clients(world, "g-set")
        lost.requests.append(Request("n1", {"type": "add", "element": "a"}, {"type": "add_ok"}))
        lost._delivery.add("a", 0.0)
        lost._delivery.acknowledge("a", 0.0)
        with pytest.raises(Violated, match="lost"):
            lost.check()


async def _talk() -> None:
    nodes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "sim.maelstrom", "broadcast",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )
        for _ in range(2)
    ]  # fmt: skip

    async def ask(number: int, body: dict[str, Any]) -> dict[str, Any]:
        stdin, stdout = nodes[number].stdin, nodes[number].stdout
        assert stdin is not None and stdout is not None
        stdin.write(json.dumps({"src": "c1", "dest": f"n{number + 1}", "body": body}).encode() + b"\n")
        line = await asyncio.wait_for(stdout.readline(), 20.0)
        reply: dict[str, Any] = json.loads(line)
        assert reply["dest"] == "c1" and reply["src"] == f"n{number + 1}"
        assert reply["body"]["in_reply_to"] == body["msg_id"]
        return dict(reply["body"])

    try:
        for number in range(2):
            assert (await ask(number, INIT | {"node_id": f"n{number + 1}"}))["type"] == "init_ok"
        assert (await ask(0, {"type": "broadcast", "message": 42, "msg_id": 2}))["type"] == "broadcast_ok"
        async with asyncio.timeout(20.0):
            while (await ask(1, {"type": "read", "msg_id": 3}))["messages"] != [42]:  # noqa: ASYNC110 - a client polls
                await asyncio.sleep(0.05)
        for each in nodes:
            assert each.stdin is not None
            each.stdin.close()
            assert await asyncio.wait_for(each.wait(), 10.0) == 0
    finally:
        for each in nodes:
            if each.returncode is None:
                each.kill()
                await each.wait()


def test_two_processes_speak_the_line_protocol_and_are_one_mesh() -> None:
    asyncio.run(_talk())
