"""The control socket against a fake node: every request, every way to misuse it."""

from __future__ import annotations

import asyncio
import socket
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesh.cli import requests
from mesh.cli.control import LENGTH, REQUEST_BYTES_MAX, Client, pack, unpack
from mesh.cli.errors import ControlError, NoNode, Refused, Unanswered
from mesh.cli.places import SOCKET
from tests.mesh.cli.fake import ME, OTHER, FakeNode, eventually, served


async def ask(data: Path, do: str, **fields: Any) -> Any:
    """What a command does, off the loop that serves it."""

    def work() -> Any:
        with Client(data, timeout=5) as client:
            return client.ask(do, **fields)

    return await asyncio.to_thread(work)


async def test_the_socket_is_the_owners_alone_and_goes_with_the_node(tmp_path: Path) -> None:
    async with served(tmp_path):
        mode = (tmp_path / SOCKET).stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600
    assert not (tmp_path / SOCKET).exists()
    with pytest.raises(NoNode) as failed:
        Client(tmp_path)
    assert failed.value.exit_code == 3


async def test_a_path_too_long_for_a_socket_works_all_the_same(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    async with served(deep):
        assert (await ask(deep, "status"))["id"] == str(ME)
        elsewhere = (deep / SOCKET).readlink()
    assert not elsewhere.parent.exists()
    assert not (deep / SOCKET).is_symlink()


async def test_a_socket_left_over_from_a_crash_is_replaced(tmp_path: Path) -> None:
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / SOCKET))
    left.close()
    async with served(tmp_path):
        assert (await ask(tmp_path, "status"))["name"] == "ann"


async def test_writes_are_flushed_before_they_are_answered(tmp_path: Path) -> None:
    async with served(tmp_path) as node:
        await ask(tmp_path, "put", key="k", value={"a": b"\x00", "b": [1, None, 2.5]})
        assert node.space("main").flushed == 1
        assert await ask(tmp_path, "get", key="k") == {"a": b"\x00", "b": [1, None, 2.5]}
        assert await ask(tmp_path, "incr", key="n", amount=5) == 5
        assert await ask(tmp_path, "incr", key="n", amount=-7) == -2
        await ask(tmp_path, "add", key="s", value="x")
        await ask(tmp_path, "add", key="s", value="y")
        await ask(tmp_path, "remove", key="s", value="x")
        dump = await ask(tmp_path, "dump")
        assert dump == {"space": "main", "clock": {"a": 1}, "digest": "d1", "value": node.space("main").value}
        await ask(tmp_path, "delete", key="s")
        assert "s" not in (await ask(tmp_path, "dump"))["value"]
        assert node.space("main").flushed == 7


async def test_confirmation_is_asked_for_and_its_failure_told(tmp_path: Path) -> None:
    async with served(tmp_path) as node:
        await ask(tmp_path, "incr", key="n", amount=1, confirm="quorum", timeout=1.0)
        with pytest.raises(Refused, match="held by 1 of 3"):
            await ask(tmp_path, "incr", key="n", amount=1, confirm="all", timeout=1.0)
        assert node.space("main").confirmed == ["quorum", "all"]


async def test_what_is_not_there_and_what_is_of_another_type_is_refused(tmp_path: Path) -> None:
    async with served(tmp_path):
        with pytest.raises(Refused, match="nothing is there under 'k'"):
            await ask(tmp_path, "get", key="k")
        await ask(tmp_path, "put", key="k", value=1)
        with pytest.raises(Refused, match="k is a register, not a counter") as failed:
            await ask(tmp_path, "incr", key="k", amount=1)
        assert failed.value.kind == "Clash"


async def test_a_subscription_tells_what_did_not_arrive(tmp_path: Path) -> None:
    async with served(tmp_path) as node:
        node.sent = [("orders.eu", [1]), ("orders.us", 2)]

        def subscribe() -> list[Any]:
            with Client(tmp_path, timeout=5) as client:
                return list(client.stream("subscribe", pattern="orders.*"))

        sender = str(OTHER)
        assert await asyncio.to_thread(subscribe) == [
            {"topic": "orders.eu", "body": [1], "sender": sender, "id": "x/0"},
            {"dropped": 2},
            {"topic": "orders.us", "body": 2, "sender": sender, "id": "x/1"},
        ]


async def test_a_watch_begins_before_it_is_answered_and_ends_with_its_client(tmp_path: Path) -> None:
    async with served(tmp_path) as node:

        def watch() -> list[Any]:
            with Client(tmp_path, timeout=5) as client, Client(tmp_path, timeout=5) as writer:
                events = client.stream("watch", key="k")
                writer.ask("put", key="other", value=0)
                writer.ask("put", key="k", value=1)
                writer.ask("put", key="k", value=2)
                return [next(events), next(events)]

        seen = await asyncio.to_thread(watch)
        assert [(each["key"], each["value"], each["local"]) for each in seen] == [("k", 1, True), ("k", 2, True)]
        await eventually(lambda: not node.space("main").watchers)


async def test_chaos_is_only_for_nodes_started_for_it(tmp_path: Path) -> None:
    async with served(tmp_path / "tame") as node:
        with pytest.raises(Refused, match="--chaos"):
            await ask(tmp_path / "tame", "cut", nodes=[str(OTHER)])
        assert node.cut is None
    async with served(tmp_path / "wild", chaos=True) as node:
        await ask(tmp_path / "wild", "cut", nodes=[str(OTHER)])
        assert node.cut == [OTHER]
        await ask(tmp_path / "wild", "heal")
        assert node.cut is None


async def test_messages_go_to_names_and_to_ids(tmp_path: Path) -> None:
    async with served(tmp_path) as node:
        await ask(tmp_path, "send", to="bob", body=[1])
        await ask(tmp_path, "send", to=str(OTHER), body=None)
        assert node.sent == [("bob", [1]), (OTHER, None)]
        assert await ask(tmp_path, "request", to="bob", name="sum", body=[1, 2]) == ["bob", "sum", [1, 2]]


async def test_leave_is_answered_then_the_socket_goes(tmp_path: Path) -> None:
    async with served(tmp_path):

        def leave() -> None:
            with Client(tmp_path, timeout=5) as client:
                assert client.ask("leave") is True
                client.wait_closed(5)

        await asyncio.to_thread(leave)
        await eventually(lambda: not (tmp_path / SOCKET).exists())


async def test_a_bug_is_told_to_the_client_and_not_swallowed(tmp_path: Path) -> None:
    surfaced: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: surfaced.append(context.get("exception")))
    bug = RuntimeError("secret detail")
    async with served(tmp_path, FakeNode(bug=bug)):
        with pytest.raises(Refused, match="the node failed at it") as failed:
            await ask(tmp_path, "members")
        assert "secret detail" not in str(failed.value)
    assert surfaced == [bug]


@pytest.mark.parametrize(
    "fields",
    [
        {"do": "nothing"}, {"do": "get"}, {"do": "get", "key": ""}, {"do": "get", "key": "k" * 513},
        {"do": "get", "key": 3},
        {"do": "incr", "key": "k", "amount": 1 << 63}, {"do": "put", "key": "k", "value": 1, "confirm": "some"}, [], 3,
        {"do": "put", "key": "k", "value": 1, "timeout": -1.0}, {"do": "cut", "nodes": ["x"] * 1025},
    ],
)  # fmt: skip
async def test_requests_out_of_bounds_are_refused_and_the_conversation_goes_on(tmp_path: Path, fields: Any) -> None:
    async with served(tmp_path):
        reader, writer = await asyncio.open_unix_connection(tmp_path / SOCKET)
        for message in (fields, {"do": "digest"}):
            writer.write(pack(message, REQUEST_BYTES_MAX))
        refused, answered = [
            unpack(await reader.readexactly(LENGTH.unpack(await reader.readexactly(4))[0])) for _ in "12"
        ]
        assert refused["error"] == "Malformed"
        assert answered == {"ok": "d1"}
        writer.close()


async def test_a_giant_is_refused_before_it_is_read(tmp_path: Path) -> None:
    async with served(tmp_path):
        reader, writer = await asyncio.open_unix_connection(tmp_path / SOCKET)
        writer.write(LENGTH.pack(REQUEST_BYTES_MAX + 1))
        answer = unpack((await reader.read())[4:])
        assert answer["error"] == "TooLarge"
        writer.close()


async def test_beyond_the_bound_a_client_is_told_to_come_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.cli.server.CLIENTS_MAX", 2)
    async with served(tmp_path):
        held = [await asyncio.open_unix_connection(tmp_path / SOCKET) for _ in range(2)]
        await ask_until_refused(tmp_path)
        for _, writer in held:
            writer.close()
        async with asyncio.timeout(5):
            while True:
                try:
                    assert await ask(tmp_path, "digest") == "d1"
                    break
                except Refused:
                    await asyncio.sleep(0.005)


async def ask_until_refused(data: Path) -> None:
    with pytest.raises((Refused, Unanswered), match=r"at work|went away"):
        await ask(data, "digest")


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.binary(max_size=64))
def test_any_bytes_are_a_request_or_one_typed_error(raw: bytes) -> None:
    import msgspec

    try:
        requests.decode(raw)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, ValueError):
        return


def test_what_is_no_messagepack_is_refused_before_it_is_sent() -> None:
    with pytest.raises(ControlError, match="cannot be sent"):
        pack({"do": "put", "value": 1 << 70}, REQUEST_BYTES_MAX)
    with pytest.raises(ControlError, match="too large"):
        pack({"do": "put", "value": "x" * REQUEST_BYTES_MAX}, REQUEST_BYTES_MAX)
