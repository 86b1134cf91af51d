"""The facade: a node of the mesh that lives inside your program.

async with Node("kitchen", secret="…") as node:
    await node.wait_for_members(2)
    node.counter("visits").increment()
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import Iterable
from functools import partial
from types import TracebackType
from typing import Any

from mesh.config import PORTS_TRIED, NodeConfig
from mesh.errors import Closed
from mesh.handles import MainSpace
from mesh.messenger import Messenger
from mesh.outlook import Outlook
from mesh.runtime import Runtime
from mesh.state.space import Space
from mesh.state.storage import open_storage
from transport.address import ALL_INTERFACES, split_address
from transport.admission import admission
from transport.base import SECOND, Announcement, Env, Listener
from transport.discovery.bootstrap import Bootstrap
from transport.identity import Identity, Mesh, NodeId, verify

SCOUT = b"scout"  # the purpose under which discovery's datagrams are signed
LOOPBACK = "127.0.0.1"
META, KNOWN = "node", "known"  # tables: what a node remembers of itself, and of others
SLEPT_NS = 5 * SECOND  # wall time that passed beside monotonic time: the machine slept, or its clock was set
KNOWN_MAX = 256  # peers remembered for the next start


class Node(MainSpace, Messenger, Outlook):
    """One node of a mesh: finds the others, proves who it is, keeps shared state with them.

    ``name``: what people call it (this host's name if None). ``secret`` (str or bytes) admits; ``open=True`` admits
    anyone; neither: this machine's nodes only. ``listen``: "HOST:PORT", default all interfaces if secret or open, else
    loopback, on a fixed port or the next free one. ``bootstrap``: addresses of others. ``discovery``: whether to look
    for others on the LAN. ``data``: a directory for key and state; None keeps everything in memory. ``env`` is the
    world it lives in: the system's, or the simulator's.

    Raises ``ValueError`` for contradictory arguments; starting it raises ``StorageFault`` (``StorageInUse`` when
    another node holds ``data``) and ``OSError`` when it cannot listen. Nothing is left behind then.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        mesh: str = "default",
        secret: str | bytes | None = None,
        open: bool = False,
        listen: str | None = None,
        bootstrap: Iterable[str] = (),
        discovery: bool = True,
        data: Any = None,
        config: NodeConfig | None = None,
        env: Env | None = None,
    ) -> None:
        if secret is not None and open:
            raise ValueError("a mesh is either open or has a secret, not both")
        if isinstance(secret, str):
            secret = secret.encode()
        if secret is not None and not (secret := secret.strip()):
            raise ValueError("the secret is empty: make one with 'gossamer secret > FILE'")
        if listen is not None and split_address(listen) and secret is None and not open and not _is_loopback(listen):
            raise ValueError(f"listening at {listen} without a secret admits anyone: give secret=…, or say open=True")
        self._given_name = name
        self._mesh_name, self._secret, self._open = mesh, secret, open
        self._listen_at = listen
        self._bootstrap = tuple(bootstrap)
        self._discover = discovery
        self._data = None if data is None else str(data)
        self._config = config or NodeConfig()
        Messenger.__init__(self)
        Outlook.__init__(self, self._config.events_max)
        self._given_env = env
        self._opened = contextlib.AsyncExitStack()  # what stop() closes, in reverse order
        self._runtime: Runtime | None = None
        self._listener: Listener | None = None
        self._id: NodeId | None = None

    # -- life ------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Node:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, wrong: BaseException | None,
                        trace: TracebackType | None) -> None:  # fmt: skip
        await self.stop()

    async def start(self) -> None:
        """Open the data directory, listen, and begin to look for others. ``async with`` does this."""
        if self._runtime is not None:
            raise RuntimeError("this node runs already")
        async with contextlib.AsyncExitStack() as opened:
            await self._start(opened)
            self._opened = opened.pop_all()

    async def _start(self, opened: contextlib.AsyncExitStack) -> None:
        """Open one thing after another; what was opened closes in the reverse order, also when a later one fails."""
        env = self._given_env
        if env is None:
            env = _system_env()
            opened.push_async_callback(env.close)
        mesh = await _offloaded(
            env, partial(admission, self._mesh_name, secret=self._secret, open=self._secret is None)
        )
        storage = env.open_storage(self._data)
        opened.callback(storage.close)
        identity = Identity(env.load_seed(self._data), env.suite)
        self._id = identity.id
        incarnation = int.from_bytes(storage.get(META, b"incarnation") or b"\0", "big") + 1
        storage.commit([(META, b"incarnation", incarnation.to_bytes(8, "big"))])
        runtime = Runtime(
            env, identity, mesh, storage, self._config, name=self.name, incarnation=incarnation,
            durable=self._data is not None, tell=self._tell, dropped=self._dropped,
            handlers=self._handlers,
        )  # fmt: skip
        opened.push_async_callback(runtime.close, leave=False)
        runtime.handlers.on_send = self._message_handler
        await runtime.open()
        listener = self._listener = await self._listen(env, runtime)
        opened.push_async_callback(listener.close)
        runtime.start(_told(listener.addresses))
        known = [(NodeId(key), value.decode().split("\n")) for key, value in storage.scan(KNOWN, b"")]
        await self._find(opened, env, mesh, identity, runtime, known)
        opened.push_async_callback(runtime.close)  # says goodbye, before the slow farewells of discovery
        if runtime.spaces.has_own_log and (known or self._bootstrap):
            # A restored backup that wrote at once would sign a second history of its log, and lose both.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._config.compare_s):
                    await runtime.compared.wait()
        opened.callback(env.spawn(self._watch_addresses(env, listener, runtime), "addresses").cancel)
        opened.callback(self._end, runtime)
        self._runtime = runtime

    def _end(self, runtime: Runtime) -> None:
        """From here on nobody may use the node; those who wait on it are told."""
        self._remember(runtime)
        self._runtime = self._listener = None
        self._end_readers()

    async def stop(self) -> None:
        """Leave: others see ``left``; what was written is durable; links, port and directory are free again."""
        opened, self._opened = self._opened, contextlib.AsyncExitStack()
        await opened.aclose()

    async def _listen(self, env: Env, runtime: Runtime) -> Listener:
        accept = runtime.dialer.accept
        if self._listen_at is not None:
            return await env.transport.listen(self._listen_at, accept)
        host = LOOPBACK if self.is_loopback_only else ALL_INTERFACES
        port = self._config.port
        for each in range(port, min(port + PORTS_TRIED, 65536)):
            try:
                return await env.transport.listen(f"{host}:{each}", accept)
            except OSError as wrong:
                if wrong.errno != errno.EADDRINUSE:
                    raise
        return await env.transport.listen(f"{host}:0", accept)

    async def _find(
        self, opened: contextlib.AsyncExitStack, env: Env, mesh: Mesh, identity: Identity, runtime: Runtime,
        known: list[tuple[NodeId, list[str]]],
    ) -> None:  # fmt: skip
        self._sources = [Bootstrap(self._bootstrap, known)]
        if self._discover:
            self._sources += env.discoveries()
        announcement = Announcement(
            mesh_tag=mesh.tag,
            node=identity.id,
            port=int(self.addresses[0].rpartition(":")[2]),
            sign=partial(identity.sign, SCOUT, mesh.id),
            verify=lambda node, datagram, signature: verify(env.suite, node, SCOUT, mesh.id, datagram, signature),
            loopback_only=self.is_loopback_only,
        )
        for source in self._sources:
            await source.start(announcement, runtime.hint)
            opened.push_async_callback(source.stop)

    async def _watch_addresses(self, env: Env, listener: Listener, runtime: Runtime) -> None:
        """Tell the others when this host's addresses change, and look around again: another Wi-Fi, sleep, resume."""
        seen, ahead = listener.addresses, env.now() - env.mono()
        while True:
            await env.sleep(self._config.addresses_interval_s)
            addresses, was_ahead = listener.addresses, ahead
            ahead = env.now() - env.mono()  # monotonic time stands still while the machine sleeps
            if addresses != seen or ahead - was_ahead > SLEPT_NS:
                seen = addresses
                runtime.start(_told(addresses))
                for source in self._sources:
                    source.rescan()

    def _remember(self, runtime: Runtime) -> None:
        """Keep where the members were reached, for the next start."""
        rows = [
            (KNOWN, bytes(each.id), "\n".join(each.addresses).encode())
            for each in runtime.stack.members()
            if each.id != self._id and each.state in ("alive", "suspect") and each.addresses
        ]
        if rows and self._data is not None:
            runtime.spaces.keep(rows[:KNOWN_MAX], [(KNOWN, b"", b"\xff" * 33)])

    def _running(self, what: str) -> Runtime:
        if self._runtime is None:
            raise Closed(what)
        return self._runtime

    # -- who it is ------------------------------------------------------------------------------------------------

    @property
    def id(self) -> NodeId:
        """This node's public key. ``str(node.id)`` is its text form."""
        if self._id is None:
            raise Closed("node.id")
        return self._id

    @property
    def name(self) -> str:
        """What people call it."""
        if self._given_name is None:
            self._given_name = _host_name()
        return self._given_name

    @property
    def mesh_name(self) -> str:
        return self._mesh_name

    @property
    def is_loopback_only(self) -> bool:
        """Whether only this machine's programs can reach it: no secret, not open, and no address asked for."""
        if self._listen_at is not None:
            return _is_loopback(self._listen_at)
        return self._secret is None and not self._open

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where it can be reached: another node's ``bootstrap`` takes them."""
        if self._listener is None:
            raise Closed("node.addresses")
        return self._listener.addresses

    # -- shared state ----------------------------------------------------------------------------------------------

    def space(self, name: str = "main") -> Space:
        """The shared state called ``name``: the same object each time; every member of the mesh keeps it."""
        return self._running("node.space()").spaces.space(name)

    def spaces(self) -> list[str]:
        """The spaces this node holds, by name: its own, and those that others told it of. Asking opens none."""
        return self._running("node.spaces()").spaces.names

    def retire(self, member: NodeId | str) -> None:
        """Close everything ``member`` (an id, or a name) wrote, in all spaces: it does not come back.

        What others keep only for its late return can then be forgotten. Should it come back, it goes on in new logs on
        what the others have, and gets back what it wrote alone and nobody had (``space.lost()``). Raises
        ``UnknownMember``, ``AmbiguousName``, ``ValueError`` for this node itself, and what a write raises.
        """
        runtime = self._running("node.retire()")
        node = self._resolve(runtime, member)
        if node == self.id:
            raise ValueError("a node does not retire itself: leave, and let another one say it")
        runtime.spaces.retire(node)

    # -- chaos -----------------------------------------------------------------------------------------------------

    def chaos_cut(self, nodes: Iterable[NodeId]) -> None:
        """For demonstrations and tests: drop the links to ``nodes`` and refuse new ones, until ``chaos_heal``."""
        self._running("node.chaos_cut()").dialer.deny(set(nodes))

    def chaos_heal(self) -> None:
        """Let everybody in again."""
        self._running("node.chaos_heal()").dialer.deny(set())


async def _offloaded(env: Env, work: Any) -> Any:
    """The result of ``work``, run off the loop."""
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def done(result: Any) -> None:
        if future.done():
            return
        if isinstance(result, BaseException):
            future.set_exception(result)
        else:
            future.set_result(result)

    env.offload(work, done)
    return await future


def _is_loopback(address: str) -> bool:
    return address.rpartition(":")[0] in ("127.0.0.1", "localhost", "[::1]")


def _told(addresses: tuple[str, ...]) -> tuple[str, ...]:
    """What the others are told: loopback only when there is nothing else, since there it is *they* who live at it."""
    return tuple(each for each in addresses if not each.startswith(("127.", "[::1]"))) or addresses


def _system_env() -> Env:
    """The real world, imported when first used: it brings aiohttp."""
    from transport.system import SystemEnv

    return SystemEnv(open_storage)


def _host_name() -> str:
    from transport.system import host_name

    return host_name()
