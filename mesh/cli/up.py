"""``gossamer up``: a node in the foreground, until Ctrl-C, SIGTERM, or ``gossamer leave``."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from crdt.errors import CrdtError
from mesh import Message, Node
from mesh.cli import places
from mesh.cli.control import Client
from mesh.cli.errors import ControlError, Misused, NoNode
from mesh.cli.output import EventLines, complain
from mesh.cli.server import ControlServer
from mesh.cli.values import escape, show
from mesh.cli.version import own_version
from mesh.errors import MeshError
from mesh.protocol.facts import Fact, MemberDown, MemberSuspect, MemberUp, PeerRefused
from transport.base import StorageFault, StorageInUse
from transport.errors import KeyFileUnsafe, TransportError
from transport.identity import NodeId

SECRET_BYTES_MAX = 4096

ROOTS = (CrdtError, MeshError, TransportError, StorageFault)  # of what a node's packages raise

REACH_OTHERS = (
    "only this machine can reach this node. For others: gossamer secret > mesh.secret, copy that file to each "
    "machine, and start with --secret-file mesh.secret"
)
# Up to 0.22 a dial that was called off closed its file twice: the second time another's, perhaps the database's
# (github.com/MagicStack/uvloop/issues/738).
UVLOOP_LEAST = (0, 23)
OPEN_WARNING = "--open: anyone who can reach this node joins, reads and writes everything"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What ``up`` was asked for."""

    name: str | None
    mesh: str
    secret_file: Path | None
    open: bool
    listen: str | None
    join: tuple[str, ...]
    discovery: bool
    data: Path | None
    json: bool
    chaos: bool


def read_secret(path: Path | None) -> str | None:
    """The secret in ``path``, surrounding whitespace stripped. Raises ``ControlError``."""
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            raw = file.read(SECRET_BYTES_MAX + 1)
        secret = raw.decode().strip()
    except OSError as failed:
        raise ControlError(f"secret file {path}: {failed.strerror}", f"make one: gossamer secret > {path}") from None
    except UnicodeDecodeError:
        raise ControlError(f"secret file {path}: not text", f"make one: gossamer secret > {path}") from None
    if not secret:
        raise ControlError(f"secret file {path} is empty", f"make one: gossamer secret > {path}")
    if len(raw) > SECRET_BYTES_MAX:
        raise ControlError(f"secret file {path}: more than {SECRET_BYTES_MAX} bytes", "is it the right file?")
    return secret


def candidates(wish: Wish) -> Iterator[tuple[str, Path]]:
    """Names and data directories to try: the one that was named, else the host's name, -2, -3 …"""
    if wish.name is not None or wish.data is not None:
        name = wish.name or next(places.names_after(socket.gethostname()))
        yield name, wish.data or places.data_directory(wish.mesh, name)
        return
    for name in places.names_after(socket.gethostname()):
        yield name, places.data_directory(wish.mesh, name)


async def start_node(wish: Wish) -> tuple[Node, Path]:
    """A started node, and its data directory. Raises ``ControlError`` when all wished-for directories are taken."""
    secret = read_secret(wish.secret_file)
    taken = None
    for name, data in candidates(wish):
        taken = data
        if _runs(data):
            continue
        try:
            data.mkdir(parents=True, exist_ok=True, mode=0o700)
            node = Node(
                name, mesh=wish.mesh, secret=secret, open=wish.open, listen=wish.listen, bootstrap=wish.join,
                discovery=wish.discovery, data=str(data),
            )  # fmt: skip
            await node.start()
        except StorageInUse:
            continue
        except KeyFileUnsafe as failed:
            raise ControlError(f"{failed.path}: {failed.trouble}", failed.remedy) from failed
        except StorageFault as failed:
            raise ControlError(
                f"data directory {data}: {failed}", "make room, fix its owner, or use --data"
            ) from failed
        except ValueError as failed:
            raise Misused(str(failed), "see gossamer up --help") from failed
        except OSError as failed:
            raise ControlError(*_os_words(failed, wish, data)) from failed
        return node, data
    raise ControlError(f"a node runs already with the data directory {taken}", "give another NAME, or --data")


def _os_words(failed: OSError, wish: Wish, data: Path) -> tuple[str, str]:
    """What the system refused, and what to do."""
    if failed.errno in (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES) and failed.filename is None:
        what = "the port is taken" if failed.errno == errno.EADDRINUSE else failed.strerror or str(failed)
        return f"cannot listen at {wish.listen}: {what}", "choose another with --listen HOST:PORT (port 0: any)"
    return f"cannot start in {data}: {failed.strerror or failed}", "look at its owner and permissions, or use --data"


def _runs(data: Path) -> bool:
    try:
        Client(data).close()
    except NoNode:
        return False
    return True


def _end_by_signal(loop: asyncio.AbstractEventLoop, over: asyncio.Event) -> None:
    """SIGTERM, Ctrl-C and a closed terminal end the node politely; a second Ctrl-C ends it at once."""

    def interrupted() -> None:
        over.set()
        loop.remove_signal_handler(signal.SIGINT)

    with contextlib.suppress(NotImplementedError):
        loop.add_signal_handler(signal.SIGINT, interrupted)
        loop.add_signal_handler(signal.SIGTERM, over.set)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
            loop.add_signal_handler(signal.SIGHUP, over.set)


async def run(wish: Wish) -> None:
    """Run a node until it is told to end; then the others see it leave."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(surface)
    over = asyncio.Event()
    _end_by_signal(loop, over)
    if wish.open:
        complain(OPEN_WARNING, "use --secret-file to choose who joins")
    node, data = await start_node(wish)
    gc.freeze()
    gc.enable()
    lines = EventLines(loop, json=wish.json)

    @node.on_message
    async def show_message(message: Message[Any]) -> None:
        fields = {"event": "message", "from": str(message.sender), "body": message.body}
        lines.event(fields, f"message from {message.sender.short}: {show(message.body)}")

    server = ControlServer(node, data, leave=over.set, errors=ROOTS, version=own_version(), chaos=wish.chaos)
    link = None
    telling: asyncio.Task[None] | None = None
    try:
        facts = node.events()
        await server.start()
        link = places.announce(data)
        lines.event(
            {"event": "ready", "id": str(node.id), "name": node.name, "mesh": node.mesh_name,
             "addresses": list(node.addresses), "data": str(data)},
            f"ready: {escape(node.name)} ({node.id.short}) of the mesh {escape(node.mesh_name)}, "
            f"at {', '.join(node.addresses)}",
        )  # fmt: skip
        if wish.secret_file is None and not wish.open and wish.listen is None:
            complain(REACH_OTHERS)
        telling = asyncio.create_task(_tell(node, facts, lines, server))
        waiting = asyncio.create_task(over.wait())
        await asyncio.wait((telling, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if telling.done():
            telling.result()  # what went wrong there surfaces here
            await over.wait()
    finally:
        if link is not None:
            link.unlink(missing_ok=True)
        await server.stop()
        await node.stop()
        if telling is not None:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
        lines.close()


async def _tell(node: Node, facts: AsyncIterator[Fact], lines: EventLines, server: ControlServer) -> None:
    """Print what happens: first whom the node already knows, then each fact, nothing twice."""
    shown: dict[NodeId, tuple[str, int]] = {}
    for member in node.members():
        if member.id != node.id:
            shown[member.id] = str(member.state), member.incarnation
            lines.event(*_member(member.id, member.name, str(member.state), None))
    async for fact in facts:
        server.notice(fact)
        if isinstance(fact, MemberUp):
            if shown.get(fact.member) == ("alive", fact.incarnation):
                continue
            shown[fact.member] = "alive", fact.incarnation
        elif isinstance(fact, MemberDown | MemberSuspect):
            shown.pop(fact.member, None)
        lines.event(*described(fact, node))


def described(fact: Fact, node: Node) -> tuple[dict[str, Any], str | None]:
    """A fact as an event line: its fields, and the text for people (``None``: of no interest to them)."""
    match fact:
        case MemberUp():
            return _member(fact.member, fact.member_name, "alive", None)
        case MemberSuspect():
            name = next((each.name for each in node.members() if each.id == fact.member), "")
            return _member(fact.member, name, "suspect", None)
        case MemberDown():
            return _member(fact.member, fact.member_name, "left" if fact.cause == "left" else "down", fact.cause)
        case PeerRefused():
            peer = None if fact.peer is None else str(fact.peer)
            fields = {"event": "refused", "address": fact.address, "reason": fact.reason, "peer": peer}
            return fields, f"refused: {escape(fact.address)}: {escape(fact.reason)}"
        case _:
            fields = {"event": fact.name, **{key: _textual(value) for key, value in fact.fields().items()}}
            words = ", ".join(f"{key} {_brief(value)}" for key, value in fact.fields().items())
            return fields, None if fact.name.startswith("link.") else f"{fact.name}: {words}"


def _member(member: NodeId, name: str, state: str, cause: str | None) -> tuple[dict[str, Any], str]:
    fields = {"event": "member", "id": str(member), "name": name, "state": state, "cause": cause}
    why = f" ({cause})" if cause and cause != state else ""
    return fields, f"{state}: {escape(name)} ({member.short}){why}"


def _textual(value: Any) -> Any:
    if isinstance(value, NodeId):
        return str(value)
    return [_textual(each) for each in value] if isinstance(value, tuple | list) else value


def _brief(value: Any) -> str:
    if isinstance(value, tuple | list):
        return " ".join(_brief(each) for each in value)
    return value.short if isinstance(value, NodeId) else escape(str(value))


def surface(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Show what no task caught, but for one slip of uvloop (seen with 0.23) that is nobody's loss.

    A dial that is called off in the turn in which its TLS handshake ends is closed, and then uvloop writes the last
    words of that handshake all the same, and calls it fatal. Whoever called the
    dial off knows; one start in four showed it.
    """
    if context.get("message") == "Fatal error on SSL protocol":
        slip = context.get("exception")
        if isinstance(slip, RuntimeError) and str(slip).endswith("the handler is closed"):
            return
    loop.default_exception_handler(context)


def main(wish: Wish) -> None:
    """Run the loop until the node has left: uvloop's where ``gossamer[speed]`` is installed, else asyncio's."""
    run_loop: Callable[[Coroutine[Any, Any, None]], None] = asyncio.run
    with contextlib.suppress(ImportError):
        import uvloop

        if tuple(int(part) for part in version("uvloop").split(".")[:2]) >= UVLOOP_LEAST:
            run_loop = uvloop.run
    try:
        run_loop(run(wish))
    except KeyboardInterrupt:
        pass  # before the handler was set, or where the platform has none
