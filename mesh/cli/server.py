"""The node's end of the control socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec

from crdt import TypeClash
from mesh import Member, Node, Space
from mesh.cli import requests as ask
from mesh.cli.control import ANSWER_BYTES_MAX, LENGTH, REQUEST_BYTES_MAX, pack
from mesh.cli.errors import ControlError
from mesh.cli.places import SOCKET, SOCKET_PATH_BYTES_MAX
from mesh.protocol.facts import ClockAhead, Fact, PeerMisbehaved, PeerRefused
from transport.identity import NodeId

KEYS_MAX = 1000  # offered to a shell that completes
NOTICED_MAX = 64  # of what doctor is told of the past; the oldest goes
CLIENTS_MAX = 512  # connections at once: a shell loop with & fits; beyond it the newest is told to come again

# What a request can rightly end in, beside the roots of the packages, which the caller names. Anything else is a bug
# of ours: the client is told, and it surfaces.
EXPECTED: tuple[type[Exception], ...] = (TimeoutError, OSError, ValueError, TypeError, LookupError)


_NOTHING = object()  # not a value: None is one


class NotSo(Exception):
    """The request is well formed, and this node will not do it."""


class ControlServer:
    """Answers the commands of this user for one node.

    ``leave`` is called when a command asks the node to end; ``chaos`` allows the requests that break things on
    purpose; ``errors`` are the roots of what the node's packages raise. Requests of one connection are answered in
    order, connections beside each other.
    """

    def __init__(
        self, node: Node, data: Path, *, leave: Callable[[], None], errors: tuple[type[Exception], ...], version: str,
        chaos: bool = False,
    ) -> None:  # fmt: skip
        self._node, self._data, self._leave, self._chaos, self._version = node, data, leave, chaos, version
        self._expected: tuple[type[Exception], ...] = (*EXPECTED, *errors, NotSo, ControlError)
        self._noticed: deque[dict[str, Any]] = deque(maxlen=NOTICED_MAX)
        self._server: asyncio.Server | None = None
        self._clients: dict[asyncio.Task[None], None] = {}
        self._elsewhere: Path | None = None  # where the socket really is, when the data directory's path is too long

    def notice(self, fact: Fact) -> None:
        """Remember what ``gossamer doctor`` will want to know: who was turned away, whose clock is off."""
        match fact:
            case PeerRefused():
                self._noticed.append({"kind": "refused", "address": fact.address, "reason": fact.reason})
            case ClockAhead():
                self._noticed.append({"kind": "clock", "member": fact.origin.node.short, "by_ms": fact.by_ms})
            case PeerMisbehaved():
                self._noticed.append({"kind": "misbehaved", "member": fact.peer.short, "rule": fact.rule})

    async def start(self) -> None:
        """Listen. The node must hold the data directory already: a socket found there is a left-over."""
        path = self._data / SOCKET
        path.unlink(missing_ok=True)
        real = path
        if len(os.fsencode(path)) > SOCKET_PATH_BYTES_MAX:
            self._elsewhere = Path(tempfile.mkdtemp(prefix="gossamer-"))
            real = self._elsewhere / SOCKET
        before = os.umask(0o177)  # so that nobody else can connect, not even for a moment
        try:
            self._server = await asyncio.start_unix_server(self._accept, path=real, backlog=CLIENTS_MAX)
        finally:
            os.umask(before)
        if real != path:
            path.symlink_to(real)

    async def stop(self) -> None:
        """Answer no more, and remove the socket."""
        if self._server is None:
            return
        self._server.close()
        for task in list(self._clients):
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        (self._data / SOCKET).unlink(missing_ok=True)
        if self._elsewhere is not None:
            (self._elsewhere / SOCKET).unlink(missing_ok=True)
            self._elsewhere.rmdir()
        self._server = None

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients[task] = None
        try:
            if len(self._clients) > CLIENTS_MAX:
                await self._tell(writer, _error("Busy", f"{CLIENTS_MAX} commands are at work; try again"))
                return
            while await self._serve_one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the command went away: its business
        except asyncio.CancelledError:
            pass  # the node ends; the client sees the connection close
        finally:
            del self._clients[task]
            writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Read a request and answer it. Whether another may follow."""
        size = LENGTH.unpack(await reader.readexactly(LENGTH.size))[0]
        if size > REQUEST_BYTES_MAX:
            await self._tell(writer, _error("TooLarge", f"a request has at most {REQUEST_BYTES_MAX} bytes, got {size}"))
            return False
        try:
            request = ask.decode(await reader.readexactly(size))
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, ValueError) as wrong:
            await self._tell(writer, _error("Malformed", f"the request is not valid: {wrong}"))
            return True
        try:
            if isinstance(request, ask.Watch | ask.Subscribe):
                items = self._watch(request) if isinstance(request, ask.Watch) else self._subscribe(request)
                await self._stream(items, reader, writer)
                return False
            await self._tell(writer, {"ok": await self._answer(request)})
        except self._expected as failed:
            await self._tell(writer, _error(type(failed).__name__, _words(failed)))
        except Exception as bug:
            await self._tell(writer, _error("Bug", f"the node failed at it ({type(bug).__name__}); see its output"))
            raise
        if isinstance(request, ask.Leave):
            self._leave()
            return False
        return True

    async def _tell(self, writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
        writer.write(pack(message, ANSWER_BYTES_MAX))
        await writer.drain()

    async def _stream(
        self, items: AsyncGenerator[Any, None], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Send items as they come, until they end or the client closes; it may not ask again meanwhile."""
        first = asyncio.ensure_future(anext(items))
        await asyncio.sleep(0)  # by now it listens: whatever happens after "started" is seen
        await self._tell(writer, {"started": True})
        closed = asyncio.ensure_future(reader.read(1))
        sending = asyncio.ensure_future(self._send_all(first, items, writer))
        try:
            await asyncio.wait((closed, sending), return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            for task in (closed, sending, first):
                task.cancel()
            await asyncio.gather(closed, sending, first, return_exceptions=True)
            await items.aclose()

    async def _send_all(
        self, first: asyncio.Future[Any], items: AsyncIterator[Any], writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(StopAsyncIteration):
            await self._tell(writer, {"item": await first})
        async for item in items:
            await self._tell(writer, {"item": item})
        await self._tell(writer, {"end": True})

    # -- the requests ------------------------------------------------------------------------------------------------

    async def _answer(self, request: ask.AnyRequest) -> Any:
        match request:
            case ask.Status():
                return self._status()
            case ask.Members():
                return [member_fields(each) for each in self._node.members()]
            case ask.Explain():
                return [*self._node.explain(), *self._noticed]
            case ask.Retire():
                self._node.retire(self._receiver(request.member))
                return True
            case ask.Leave():
                return True
            case ask.Get():
                value = self._node.space(request.space).get(request.key, _NOTHING)
                if value is _NOTHING:
                    raise NotSo(f"nothing is there under {request.key!r} in the space {request.space!r}")
                return value
            case ask.Keys():
                keys = self._node.space(request.space).live_keys()
                return sorted(key for key in keys if key.startswith(request.prefix))[:KEYS_MAX]
            case ask.Text():
                return self._node.space(request.space).text(request.key).value
            case ask.Write():
                return await self._write(request)
            case ask.Dump():
                space = self._node.space(request.space)
                return {
                    "space": request.space, "clock": dict(space.clock), "digest": space.digest(), "value": space.value
                }  # fmt: skip
            case ask.Digest():
                return self._node.space(request.space).digest()
            case ask.Send():
                to = self._receiver(request.to)
                return await self._node.send(
                    to, request.body, durable=request.durable, ttl=request.ttl, priority=request.priority,
                    key=request.key,
                )  # fmt: skip
            case ask.Publish():
                await self._node.publish(request.topic, request.body)
                return True
            case ask.DeadLetters():
                return [
                    {"id": each.id, "to": str(each.to), "body": each.body, "reason": each.reason, "tries": each.tries,
                     "made_ms": each.made_ms}
                    for each in self._node.dead_letters()
                ]  # fmt: skip
            case ask.Redeliver():
                return await self._node.redeliver(request.letter)
            case ask.Ask():
                to = self._receiver(request.to)
                return await self._node.request(
                    to, request.name, request.body, timeout=request.timeout, key=request.key
                )
            case ask.Cut():
                self._needs_chaos()
                self._node.chaos_cut([NodeId.parse(each) for each in request.nodes])
                return True
            case ask.Heal():
                self._needs_chaos()
                self._node.chaos_heal()
                return True
            case _:
                raise NotSo(f"{type(request).__name__} is a stream")

    async def _write(self, request: ask.Write) -> Any:
        space = self._node.space(request.space)
        answer: Any = None
        match request:
            case ask.Put(key=key, value=value):
                space.register(key).set(value)
            case ask.Increment(key=key, amount=amount):
                counter = space.counter(key)
                if amount >= 0:
                    counter.increment(amount)
                else:
                    counter.decrement(-amount)
                answer = counter.value
            case ask.Add(key=key, value=value):
                _set(space, key).add(value)
            case ask.Remove(key=key, value=value):
                _set(space, key).discard(value)
            case ask.Field(key=key, field=field, value=value):
                space.map(key)[field] = value
            case ask.Edit(key=key, base=base, new=new):
                space.text(key).edit(new, base)
            case ask.Delete(key=key):
                space.delete(key)
        await space.flush()
        if request.confirm is not None:
            await space.confirm(request.confirm, timeout=request.timeout)
        return answer

    async def _watch(self, request: ask.Watch) -> AsyncGenerator[Any, None]:
        async for event in self._node.space(request.space).watch(request.key):
            yield {
                "space": request.space, "key": event.key, "path": list(event.path), "type": event.type,
                "value": event.value, "origin": str(event.origin), "local": event.local,
            }  # fmt: skip

    async def _subscribe(self, request: ask.Subscribe) -> AsyncGenerator[Any, None]:
        told = 0
        async with self._node.subscribe(request.pattern) as messages:
            async for message in messages:
                if messages.dropped > told:
                    yield {"dropped": messages.dropped - told}
                    told = messages.dropped
                yield {
                    "topic": message.topic, "body": message.body, "sender": str(message.sender), "id": message.id
                }  # fmt: skip

    def _status(self) -> dict[str, Any]:
        node = self._node
        members = node.members()
        states = {state: sum(each.state == state for each in members) for state in ("alive", "suspect", "down", "left")}
        return {
            "id": str(node.id), "name": node.name, "mesh": node.mesh_name, "addresses": list(node.addresses),
            "data": str(self._data), "pid": os.getpid(), "version": self._version, "members": states,
            "loopback_only": node.is_loopback_only, "chaos": self._chaos,
        }  # fmt: skip

    def _receiver(self, text: str) -> NodeId | str:
        try:
            return NodeId.parse(text)
        except ValueError:
            return text  # a name

    def _needs_chaos(self) -> None:
        if not self._chaos:
            raise NotSo("this node breaks nothing on purpose; start it with: gossamer up --chaos")


def _set(space: Space, key: str) -> Any:
    """The set under ``key``, of whichever of the two kinds is there; a new one is add-wins."""
    try:
        return space.set(key)
    except TypeClash as clash:
        try:
            return space.set(key, remove_wins=True)
        except TypeClash:
            raise clash from None


def member_fields(member: Member) -> dict[str, Any]:
    """A member as ``members --json`` prints it."""
    return {
        "id": str(member.id), "name": member.name, "state": str(member.state), "addresses": list(member.addresses),
        "incarnation": member.incarnation, "rtt_ms": member.rtt_ms,
    }  # fmt: skip


def _error(kind: str, text: str) -> dict[str, str]:
    return {"error": kind, "text": text}


def _words(failed: BaseException) -> str:
    """What an exception says, in one line. A ``KeyError`` says its key's repr and a ``TimeoutError`` often nothing."""
    if isinstance(failed, KeyError) and len(failed.args) == 1:
        return f"not found: {failed.args[0]}"
    return " ".join(str(failed).split()) or type(failed).__name__
