"""The facade: a node of the mesh that lives inside your program.

async with Node("kitchen", secret="…") as node:
    await node.wait_for_members(2)
    node.counter("visits").increment()
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import errno
import weakref
from collections import Counter as Tally
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

from mesh.config import PORTS_TRIED, NodeConfig
from mesh.errors import AmbiguousName, Closed, NotReached, UnknownMember
from mesh.handles import MainSpace
from mesh.messaging.direct import PRIORITIES, Priority
from mesh.messaging.group import SPACE as GROUPS
from mesh.messaging.group import Group, topic_of
from mesh.messaging.handler import Handler, MessageHandler, RequestHandler
from mesh.messaging.letter import DeadLetter
from mesh.messaging.publisher import ON_FULL, OnFull
from mesh.messaging.subscription import Subscription
from mesh.protocol.facts import Fact
from mesh.reader import FactReader
from mesh.runtime import Runtime
from mesh.state.space import Space
from mesh.state.storage import open_storage
from transport.address import ALL_INTERFACES, split_address
from transport.admission import admission
from transport.base import SECOND, Announcement, Discovery, Env, Listener
from transport.codec import encode_value
from transport.discovery.bootstrap import Bootstrap
from transport.identity import Identity, Mesh, NodeId, verify

MessageHandlerT = TypeVar("MessageHandlerT", bound=MessageHandler)
RequestHandlerT = TypeVar("RequestHandlerT", bound=RequestHandler)

SCOUT = b"scout"  # the purpose under which discovery's datagrams are signed
LOOPBACK = "127.0.0.1"
META, KNOWN = "node", "known"  # tables: what a node remembers of itself, and of others
SLEPT_NS = 5 * SECOND  # wall time that passed beside monotonic time: the machine slept, or its clock was set
KNOWN_MAX = 256  # peers remembered for the next start


@dataclass(frozen=True, slots=True)
class Member:
    """A node believed to exist. ``rtt_ms`` is None for those without a link, and 0.0 for this node itself."""

    id: NodeId
    name: str
    state: str  # "alive", "suspect", "down" or "left"
    addresses: tuple[str, ...]
    incarnation: int
    rtt_ms: float | None


class Node(MainSpace):
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
        self._given_env = env
        self._opened = contextlib.AsyncExitStack()  # what stop() closes, in reverse order
        self._runtime: Runtime | None = None
        self._listener: Listener | None = None
        self._sources: list[Discovery] = []
        self._readers: list[weakref.ref[FactReader]] = []  # who stopped reading is forgotten
        self._observers: list[Callable[[Fact], None]] = []
        self._early: deque[Fact] = deque(maxlen=self._config.events_max)  # noticed before anybody could read
        self._changed: asyncio.Event = asyncio.Event()
        self._message_handler: Handler | None = None
        self._handlers: dict[str, Handler] = {}
        self._dropped: Tally[str] = Tally()
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
        runtime.direct.on_send = self._message_handler
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
        for each in self._readers:
            if (reader := each()) is not None:
                reader.end()
        self._changed.set()

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

    # -- who is here -----------------------------------------------------------------------------------------------

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

    def members(self) -> list[Member]:
        """Everybody known, this node included; also those that are down or left."""
        return [
            Member(
                each.id,
                each.name,
                each.state,
                each.addresses,
                each.incarnation,
                each.rtt_ms,
            )
            for each in self._running("node.members()").stack.members()
        ]

    async def wait_for_members(self, count: int, timeout: float | None = None) -> list[Member]:
        """The members, once ``count`` of them are alive (this node counts). Raises ``TimeoutError``: who is here."""
        try:
            async with asyncio.timeout(timeout):
                while True:
                    self._changed.clear()
                    members = self.members()
                    if sum(each.state == "alive" for each in members) >= count:
                        return members
                    await self._changed.wait()
        except TimeoutError:
            here = ", ".join(each.name for each in self.members() if each.state == "alive")
            raise TimeoutError(
                f"waited {timeout} s for {count} members, alive are: {here}; node.explain() says why others are not"
            ) from None

    def events(self) -> AsyncIterator[Fact]:
        """What this node notices from now on: MemberUp, MemberDown, PartitionSuspected … Ends with the node. The first
        reader also gets what was noticed during the start: damaged records, a log that was renewed.

        A reader that lags by ``config.events_max`` facts loses the oldest, and a ``Dropped`` fact counts them.
        """
        self._running("node.events()")
        reader = FactReader(self._config.events_max)
        self._readers = [each for each in self._readers if each() is not None]
        self._readers.append(weakref.ref(reader))
        while self._early:
            reader.put(self._early.popleft())
        return reader

    def observe(self, look: Callable[[Fact], None]) -> None:
        """Call ``look`` with each fact at the moment it is told, from now on; for metrics and the simulator.

        It is called between two steps of the node: it must return at once, raise nothing, and write nothing.
        """
        self._observers.append(look)

    def explain(self) -> list[dict[str, Any]]:
        """Why peers are, or are not, reached: each source of discovery, each candidate with its last outcome."""
        runtime = self._running("node.explain()")
        sources = [{"kind": "source", "source": each.name, **each.explain()} for each in self._sources]
        candidates = [{"kind": "candidate", **each} for each in runtime.dialer.explain()]
        return sources + candidates

    def _tell(self, fact: Fact) -> None:
        self._changed.set()
        for look in self._observers:
            look(fact)
        if self._runtime is None:
            self._early.append(fact)
        for each in self._readers:
            if (reader := each()) is not None:
                reader.put(fact)

    # -- shared state ----------------------------------------------------------------------------------------------

    def space(self, name: str = "main") -> Space:
        """The shared state called ``name``: the same object each time; every member of the mesh keeps it."""
        return self._running("node.space()").spaces.space(name)

    def spaces(self) -> list[str]:
        """The spaces this node holds, by name: its own, and those that others told it of. Asking opens none."""
        return self._running("node.spaces()").spaces.names

    # -- messages --------------------------------------------------------------------------------------------------

    def on_message(self, handler: MessageHandlerT) -> MessageHandlerT:
        """Decorator: ``handler(message)`` gets what others ``send`` to this node, or broadcast.

        ``message: Message[Order]`` has bodies checked against ``Order`` (a dataclass, a ``TypedDict``, ``int`` …).
        """
        self._message_handler = Handler(handler)
        if self._runtime is not None:
            self._runtime.direct.on_send = self._message_handler
        return handler

    def on(self, name: str) -> Callable[[RequestHandlerT], RequestHandlerT]:
        """Decorator: the handler answers requests called ``name`` with what it returns (a MessagePack value); an async
        generator answers ``stream`` with what it yields. ``request: Request[Order]`` has bodies checked."""

        def register(handler: RequestHandlerT) -> RequestHandlerT:
            self._handlers[name] = Handler(handler)
            return handler

        return register

    async def send(
        self, to: NodeId | str, body: Any, *, durable: bool = False, ttl: float | None = None,
        priority: Priority = "normal",
    ) -> str:  # fmt: skip
        """Queue ``body`` for one node over the link to it; handled at most once. Waits only for room, for ``ttl`` s.
        "low" goes behind everything else. Raises ``UnknownMember``, ``AmbiguousName``, ``NotReached``, ``Expired`` and
        ``ValueRefused``; nothing was sent then.

        ``durable``: it is on this node's disk when this returns (its id), and is sent, in order and after restarts of
        either side too, until the handler there succeeded: at least once, and not again while the receiver remembers.
        After ``ttl`` s unsent, or when the handler failed five times, it is a dead letter. Raises ``UnknownMember``,
        ``AmbiguousName``, ``OutboxFull``, ``StorageFailed`` and ``ValueRefused``; it was not taken then.
        """
        runtime = self._running("node.send()")
        if priority not in PRIORITIES:
            raise ValueError(f"priority is one of {PRIORITIES}, not {priority!r}")
        peer = self._resolve(runtime, to)
        if not durable:
            await runtime.direct.send(peer, body, ttl, priority)
            return ""
        if peer == self._id:
            raise NotReached(peer, "it is this node itself")
        return await runtime.outbox.put(peer, encode_value(body), ttl)

    def dead_letters(self) -> builtins.list[DeadLetter]:
        """Durable messages of this node that were given up, the oldest first: id, to, body, reason, tries, made_ms."""
        return self._running("node.dead_letters()").outbox.dead_letters()

    async def redeliver(self, message_id: str) -> str:
        """Send a dead letter again as a new message; its new id. Raises ``NoSuchLetter`` and ``StorageFailed``."""
        return await self._running("node.redeliver()").outbox.redeliver(message_id)

    def stream(self, to: NodeId | str, name: str, body: Any = None) -> AsyncGenerator[Any, None]:
        """What the async generator ``name`` on one node yields, in order; it runs only as fast as this is read.

        Ending the iteration early closes the generator there. Raises what ``request`` raises, but no timeout.
        """
        runtime = self._running("node.stream()")
        return runtime.streams.read(self._resolve(runtime, to), name, encode_value(body))

    async def request(self, to: NodeId | str, name: str, body: Any = None, *, timeout: float = 10.0) -> Any:
        """The answer of the handler ``name`` on one node. Raises what ``send`` raises, ``AnswerLost``,
        ``RequestTimeout``, ``NoHandler``, ``BodyInvalid``, ``HandlerFailed`` or ``Busy``; each says what became of
        the question."""
        runtime = self._running("node.request()")
        return await runtime.direct.request(self._resolve(runtime, to), name, body, timeout)

    def subscribe(self, pattern: str) -> Subscription:
        """``async with node.subscribe("orders.*.new") as messages:`` then ``async for message in messages``.

        ``*`` stands for one level, ``**`` for any number. What this node itself publishes is read too. A reader that
        lags by 8 MiB loses the oldest; ``messages.dropped`` counts that, and what was lost on the way here.
        """
        return self._running("node.subscribe()").topics.subscribe(pattern)

    def publish(
        self, topic: str, body: Any, *, on_full: OnFull = "wait", priority: Priority = "normal"
    ) -> Coroutine[Any, Any, None]:
        """``await`` it: queue ``body`` for whoever subscribed, on every member. Each gets it at most once, in order, or
        counts what it missed.

        Returns once queued. ``on_full`` says what to do when this node publishes faster than the network takes it:
        "wait", "error" (raises ``PublishFull``) or "drop_oldest" (counted in ``node.dropped``). "high" is not held
        back for company. Raises ``ValueError`` (topic) and ``ValueRefused`` (body); nothing was queued then.
        """
        if (on_full != "wait" or priority != "normal") and (on_full not in ON_FULL or priority not in PRIORITIES):
            raise ValueError(f"on_full is one of {ON_FULL}, priority one of {PRIORITIES}: {on_full!r}, {priority!r}")
        if self._runtime is None:
            raise Closed("node.publish()")
        return self._runtime.topics.publish(topic, body, on_full, priority == "high")

    def group(self, name: str) -> Group:
        """``async with node.group("cooks") as group:`` belongs to it for the block, and reads what is said there.

        ``await group.send(body)``, ``group.members()``, ``group.join()``, ``group.leave()``. Raises ``ValueError``.
        """
        runtime = self._running("node.group()")
        return Group(
            name, me=self.id, space=self.space(GROUPS), messages=self.subscribe(topic_of(name)), publish=self.publish,
            is_present=runtime.stack.is_present,
        )  # fmt: skip

    async def broadcast(self, body: Any) -> None:
        """Queue ``body`` for the ``on_message`` handler of every other member. Handled at most once; waits for room."""
        await self._running("node.broadcast()").topics.broadcast(body)

    @property
    def dropped(self) -> dict[str, int]:
        """Everything that was not delivered and is known: reason -> count."""
        return dict(self._dropped)

    def _resolve(self, runtime: Runtime, to: NodeId | str) -> NodeId:
        if isinstance(to, NodeId):
            return to
        found: Sequence[NodeId] = runtime.stack.resolve(to)
        if not found:
            with contextlib.suppress(ValueError):
                return NodeId.parse(to)
            raise UnknownMember(to)
        if len(found) > 1:
            raise AmbiguousName(to, found)
        return found[0]

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
