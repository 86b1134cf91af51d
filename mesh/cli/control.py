"""The control socket: how a command talks to the node that runs, and the bytes between them.

A unix socket in the data directory, for the owner alone. Each message is four bytes of length and MessagePack; a
connection carries any number of requests, one after the other:

    request  {"do": NAME, …}              the fields of a structure in ``requests``
    answer   {"ok": VALUE}
             {"error": KIND, "text": …}
             {"started": true}, {"item": VALUE}*, {"end": true}      a stream; closing the connection ends it
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import msgpack

from mesh.cli import places
from mesh.cli.errors import ControlError, NoNode, Refused, Unanswered

if TYPE_CHECKING:
    from typing import Self

REQUEST_BYTES_MAX = 2 << 20  # above the largest value that may be replicated
ANSWER_BYTES_MAX = 256 << 20  # a whole space, dumped
LENGTH = struct.Struct(">I")
ANSWER_WAIT_S = 30.0  # for a node that is busy; beyond it the node hangs, and the user is told


def pack(message: Any, bytes_max: int) -> bytes:
    """One message as it goes over the socket. Raises ``ControlError`` where it is no MessagePack or too large."""
    try:
        body: bytes = msgpack.packb(message, use_bin_type=True)
    except (TypeError, ValueError, OverflowError) as wrong:
        raise ControlError(f"cannot be sent: {wrong}", "values are JSON with integers of 64 bits") from None
    if len(body) > bytes_max:
        raise ControlError(f"too large: {len(body)} bytes, at most {bytes_max} fit")
    return LENGTH.pack(len(body)) + body


def unpack(body: bytes) -> Any:
    """The message in ``body``. Raises ``Unanswered`` where it is none."""
    try:
        return msgpack.unpackb(body, raw=False, strict_map_key=False)
    except (ValueError, TypeError, RecursionError) as wrong:
        raise Unanswered(f"the node's answer cannot be read ({wrong})", "is it of another version?") from None


def result(answer: Any) -> Any:
    """What was asked for. Raises ``Refused`` when the node said no."""
    match answer:
        case {"ok": value}:
            return value
        case {"error": str(kind), "text": str(text)}:
            raise Refused(kind, text)
        case _:
            raise Unanswered("the node's answer is none", "is it of another version?")


class Client:
    """A conversation with the node that has this data directory. Blocking: for commands, not for event loops.

    Raises ``NoNode`` when nobody listens there.
    """

    def __init__(self, data: Path, *, timeout: float = ANSWER_WAIT_S) -> None:
        self.data = data
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.connect(os.fspath(places.socket_of(data)))  # waits while the node's backlog is full
        except OSError as failed:
            self._socket.close()
            if failed.errno == errno.EACCES:
                raise NoNode(f"{data}: belongs to another user", "use that user's account") from None
            raise NoNode(f"no node runs with the data directory {data}", "start one: gossamer up") from None
        self._socket.settimeout(timeout)

    def ask(self, do: str, /, *, wait: float = ANSWER_WAIT_S, **fields: Any) -> Any:
        """Ask, and return the answer. Raises ``Refused``, ``Unanswered``; ``wait`` is how long, in seconds."""
        self._socket.settimeout(wait)
        self._send({"do": do, **fields})
        return result(self._receive())

    def stream(self, do: str, /, **fields: Any) -> Iterator[Any]:
        """Ask for a stream; returns once it has begun. Its items follow, however long they take."""
        self._send({"do": do, **fields})
        first = self._receive()
        if not (isinstance(first, dict) and first.get("started")):
            result(first)
        self._socket.settimeout(None)
        return self._items()

    def _items(self) -> Iterator[Any]:
        while True:
            match self._receive():
                case {"item": item}:
                    yield item
                case {"end": _}:
                    return
                case other:
                    result(other)

    def _send(self, message: Any) -> None:
        try:
            self._socket.sendall(pack(message, REQUEST_BYTES_MAX))
        except OSError as failed:
            # a node that is full answers before it reads; what it said may still be there
            if not isinstance(failed, BrokenPipeError | ConnectionResetError):
                raise Unanswered(f"the node does not listen ({failed})", "try gossamer doctor") from None

    def _receive(self) -> Any:
        size = LENGTH.unpack(self._exactly(LENGTH.size))[0]
        if size > ANSWER_BYTES_MAX:
            raise Unanswered("the node's answer is too large", "is it of another version?")
        return unpack(self._exactly(size))

    def _exactly(self, count: int) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            try:
                part = self._socket.recv(min(count - len(parts), 1 << 20))
            except TimeoutError:
                raise Unanswered("the node does not answer", "it hangs or is overloaded; try again") from None
            except OSError as failed:
                raise Unanswered(f"the node went away ({failed.strerror})", "start it again: gossamer up") from None
            if not part:
                raise Unanswered("the node went away while it was asked", "look at its output; gossamer up restarts it")
            parts += part
        return bytes(parts)

    def wait_closed(self, wait: float = ANSWER_WAIT_S) -> None:
        """Return when the node has ended the conversation, as it does when it leaves."""
        self._socket.settimeout(wait)
        try:
            while self._socket.recv(1 << 16):
                pass
        except TimeoutError:
            raise Unanswered(
                "the node has not ended yet", "it may still flush; look again with gossamer status"
            ) from None
        except OSError:
            pass  # ended, only less politely

    def close(self) -> None:
        """End the conversation; a stream with it."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def running(mesh: str | None = None) -> list[dict[str, Any]]:
    """Status of every node of this user that runs now and answers, of ``mesh`` only if given."""
    found = []
    for data in places.data_directories():
        try:
            with Client(data) as client:
                status = client.ask("status", wait=5.0)
        except ControlError:
            continue  # left over from a crash, or just ending
        if mesh is None or status["mesh"] == mesh:
            found.append(status)
    return found


def connect(data: Path | None, mesh: str | None = None) -> Client:
    """A conversation with the node at ``data``, else with the only one that runs. Raises ``NoNode``."""
    if data is not None:
        return Client(data)
    found = running(mesh)
    if len(found) == 1:
        return Client(Path(found[0]["data"]))
    if not found:
        of = f" of the mesh {mesh!r}" if mesh else ""
        raise NoNode(f"no node{of} runs here", "start one: gossamer up")
    each = ", ".join(f"{status['name']} (--data {status['data']})" for status in found)
    raise NoNode(f"{len(found)} nodes run here: {each}", "say which with --data")
