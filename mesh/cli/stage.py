"""A stage for real processes: nodes in a directory of their own, started, asked, killed, and always cleaned up."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import mesh
from mesh.cli.control import ANSWER_BYTES_MAX, LENGTH, REQUEST_BYTES_MAX, pack, result, unpack
from mesh.cli.errors import Unanswered
from mesh.cli.identity import new_secret
from mesh.cli.places import socket_of

if TYPE_CHECKING:
    from typing import Self

ANSWER_WAIT_S = 10.0
LEAVE_WAIT_S = 5.0
LINES_MAX = 20  # of a node's standard error that are shown when something did not hold


class Conversation:
    """One connection to a node's control socket, on the loop. A command uses ``control.Client`` instead."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._turn = asyncio.Lock()  # one question at a time; others wait for theirs

    async def ask(self, do: str, /, **fields: Any) -> Any:
        """Ask, and return the answer. Raises ``Refused``; ``Unanswered`` when the node went away meanwhile."""
        try:
            async with self._turn, asyncio.timeout(ANSWER_WAIT_S):
                self._writer.write(pack({"do": do, **fields}, REQUEST_BYTES_MAX))
                await self._writer.drain()
                size = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))[0]
                if size > ANSWER_BYTES_MAX:
                    raise Unanswered("the node's answer is too large")
                return result(unpack(await self._reader.readexactly(size)))
        except (ConnectionError, asyncio.IncompleteReadError):
            raise Unanswered("the node went away while it was asked") from None
        except TimeoutError:
            raise Unanswered(f"the node did not answer {do!r} within {ANSWER_WAIT_S} s") from None

    def close(self) -> None:
        """End it."""
        self._writer.close()


class Player:
    """One node: a process of its own, its data directory, and what it said."""

    def __init__(self, name: str, stage: Stage) -> None:
        self.name, self.data, self.id = name, stage.folder / name, ""
        self._stage = stage
        self._process: asyncio.subprocess.Process | None = None
        self._talk: Conversation | None = None
        self._reading: asyncio.Task[None] | None = None

    async def start(self) -> dict[str, Any]:
        """Start the process; its ready event, once it came. Raises ``Unanswered`` when the process ended instead."""
        with (self._stage.folder / f"{self.name}.err").open("ab") as errors:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "mesh.cli", "up", self.name, "--json", "--chaos", "--mesh", self._stage.mesh,
                "--secret-file", str(self._stage.secret_file), "--listen", "127.0.0.1:0", "--data", str(self.data),
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=errors,
                env=self._stage.environment, start_new_session=True,
            )  # fmt: skip
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(ANSWER_WAIT_S):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise Unanswered(f"{self.name} was not ready within {ANSWER_WAIT_S} s") from None
        if not line:
            raise Unanswered(f"{self.name} ended instead of getting ready", self.last_words())
        ready: dict[str, Any] = json.loads(line)
        self.id = ready["id"]
        self._reading = asyncio.create_task(_read_on(self._process.stdout))
        return ready

    async def ask(self, do: str, /, **fields: Any) -> Any:
        """Ask the node over a connection that is kept."""
        if self._talk is None:
            try:
                reader, writer = await asyncio.open_unix_connection(str(socket_of(self.data)))
            except OSError as failed:
                raise Unanswered(f"{self.name} does not listen ({failed.strerror})") from None
            self._talk = Conversation(reader, writer)
        try:
            return await self._talk.ask(do, **fields)
        except Unanswered:
            self._talk.close()
            self._talk = None
            raise

    async def states(self) -> dict[str, str]:
        """How this node sees the members: name -> state."""
        return {each["name"]: each["state"] for each in await self.ask("members")}

    async def kill(self) -> int:
        """``kill -9``. The return code: minus the signal that ended it."""
        assert self._process is not None
        self._process.kill()
        return await self._ended()

    async def leave(self) -> int:
        """End it politely, as SIGTERM does. The return code; -9 when it had to be forced."""
        if self._process is None:
            return 0
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(LEAVE_WAIT_S):
                return await self._ended()
        except TimeoutError:
            return await self.kill()

    async def _ended(self) -> int:
        assert self._process is not None
        code = await self._process.wait()
        if self._reading is not None:
            await self._reading
        if self._talk is not None:
            self._talk.close()
            self._talk = None
        return code

    def last_words(self) -> str:
        """The end of what it wrote to standard error."""
        path = self._stage.folder / f"{self.name}.err"
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        return "\n".join(lines[-LINES_MAX:])


async def _read_on(stream: asyncio.StreamReader) -> None:
    """Take what the process prints, so that it never waits for us."""
    while await stream.read(1 << 16):
        pass


class Stage:
    """A temporary directory with a secret file, a mesh of a name nobody else has, and the players on it.

    Leaving the block ends every process and removes every file, whatever happened.
    """

    def __init__(self) -> None:
        self.players: list[Player] = []

    async def __aenter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="gossamer-demo-"))
        secret = new_secret()
        self.secret_file = self.folder / "secret"
        self.secret_file.touch(mode=0o600)
        self.secret_file.write_text(secret + "\n")
        self.mesh = "demo-" + hashlib.blake2b(secret.encode(), digest_size=4).hexdigest()
        root = str(Path(mesh.__file__).parent.parent)
        path = os.pathsep.join(each for each in (root, os.environ.get("PYTHONPATH")) if each)
        # its own state folder: the user's commands do not see these nodes
        self.environment = {**os.environ, "PYTHONPATH": path, "XDG_STATE_HOME": str(self.folder / "state")}
        for name in ("GOSSAMER_DATA", "GOSSAMER_SECRET_FILE"):
            self.environment.pop(name, None)
        return self

    def player(self, name: str) -> Player:
        """A new node, not started yet."""
        player = Player(name, self)
        self.players.append(player)
        return player

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ending = asyncio.gather(*(each.leave() for each in self.players), return_exceptions=True)
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError:  # a second Ctrl-C: no more politeness
            for each in self.players:
                if each._process is not None and each._process.returncode is None:
                    each._process.kill()
            await ending
            raise
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)


async def eventually(holds: Callable[[], Any], within_s: float, step_s: float = 0.005) -> Any:
    """What the coroutine function ``holds`` returns as soon as it is true; ``None`` if not within ``within_s``."""
    loop = asyncio.get_running_loop()
    until = loop.time() + within_s
    while True:
        if found := await holds():
            return found
        if loop.time() >= until:
            return None
        await asyncio.sleep(step_s)
