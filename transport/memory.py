"""Nodes in one process, linked without a socket: for tests and examples. The same handshake and lanes run over it.

A ``MemoryNetwork`` knows hosts by name; each node gets a ``MemoryTransport(network, host)``. Messages arrive in order
on a later loop turn (after ``delay_ns()``), at most ``wire_bytes`` a turn and direction. ``cut`` makes a pair of hosts
silent, as a pulled cable does: what was sent waits, and arrives after ``heal`` unless an end gave up; ``reset`` ends
conduits.
"""

from __future__ import annotations

import errno
import hashlib
from collections import deque
from collections.abc import Callable

from transport.base import Conduit, DialFailed, DialFault, Env, Listener, Timer

WIRE_BYTES = 256 << 10  # a turn's worth, about what a socket's buffer takes
FIRST_PORT = 40_000


def _split(address: str) -> tuple[str, int] | None:
    host, colon, port = address.rpartition(":")
    return (host, int(port)) if host and colon and port.isdigit() and int(port) < 65536 else None


def _nothing(*_: object) -> None:
    pass


class MemoryConduit:
    """One end of a pair. See ``transport.base.Conduit``."""

    def __init__(self, network: MemoryNetwork, host: str, remote: str, binding: bytes) -> None:
        self.remote, self.binding = remote, binding
        self.on_message: Callable[[bytes], None] = _nothing
        self.on_drained: Callable[[], None] = _nothing
        self.on_close: Callable[[str], None] = _nothing
        self.host, self.other = host, self  # the pair is joined by the network
        self._network, self._queue = network, deque[bytes | None]()  # None: the end
        self._backlog, self._is_open, self._is_pumping = 0, True, False

    @property
    def backlog(self) -> int:
        return self._backlog

    def send(self, message: bytes) -> None:
        if self._is_open:
            self._queue.append(message)
            self._backlog += len(message)
            self.pump_soon()

    def close(self, reason: str = "closed") -> None:
        if self._is_open:
            self._is_open = False
            self._queue.append(None)
            self.pump_soon()
            self._network.soon(lambda: self._closed(reason))

    def reset(self, reason: str = "reset") -> None:
        """The path broke: both ends see it on the next turn, and what was in flight is gone."""
        for end in (self, self.other):
            end._queue.clear()
            end._backlog = 0
            if end._is_open:
                end._is_open = False
                self._network.soon(lambda end=end: end._closed(reason))  # type: ignore[misc]

    def pump_soon(self) -> None:
        if not self._is_pumping and self._queue:
            self._is_pumping = True
            self._network.soon(self._pump)

    def _pump(self) -> None:
        self._is_pumping = False
        if self._network.is_cut(self.host, self.other.host):
            return  # ``heal`` starts it again
        room, had = self._network.wire_bytes, self._backlog
        while self._queue and room > 0:
            message = self._queue.popleft()
            if message is None:
                if self.other._is_open:
                    self.other._is_open = False
                    self.other._closed("closed by the other end")
                self._network.forget(self)
                return
            room -= len(message)
            self._backlog -= len(message)
            if self.other._is_open:
                self.other.on_message(message)
        if had and not self._queue and self._is_open:
            self.on_drained()
        self.pump_soon()

    def _closed(self, reason: str) -> None:
        on_close, self.on_close = self.on_close, _nothing
        self.on_message = self.on_drained = _nothing
        on_close(reason)


class MemoryNetwork:
    """Hosts by name, and which pairs of them are cut apart."""

    def __init__(self, env: Env, *, wire_bytes: int = WIRE_BYTES, delay_ns: Callable[[], int] = lambda: 0) -> None:
        self.wire_bytes, self._delay_ns = wire_bytes, delay_ns
        self.env = env
        self._listeners: dict[tuple[str, int], _MemoryListener] = {}
        self._hosts: dict[str, None] = {}
        self._cut: dict[frozenset[str], None] = {}
        self._conduits: dict[MemoryConduit, None] = {}
        self._made = 0
        self._port = FIRST_PORT

    def soon(self, callback: Callable[[], None]) -> Timer:
        """On a later turn, after the delay drawn."""
        return self.env.call_at(self.env.mono() + self._delay_ns(), callback)

    def is_cut(self, one: str, other: str) -> bool:
        return frozenset((one, other)) in self._cut

    def cut(self, one: str, other: str) -> None:
        """Nothing passes between these two hosts any more, and nobody is told."""
        self._cut[frozenset((one, other))] = None

    def heal(self, one: str, other: str) -> None:
        """They hear each other again; what was held back arrives."""
        self._cut.pop(frozenset((one, other)), None)
        for conduit in list(self._conduits):
            if {conduit.host, conduit.other.host} == {one, other}:
                conduit.pump_soon()

    def reset(self, one: str, other: str) -> None:
        """Break every conduit between these two hosts, in the sight of both."""
        for conduit in list(self._conduits):
            if {conduit.host, conduit.other.host} == {one, other}:
                conduit.reset()
                self.forget(conduit)

    def kill(self, host: str) -> None:
        """The process on ``host`` is gone: its doors refuse, its conduits end, as ``kill -9`` does it."""
        self._listeners = {at: each for at, each in self._listeners.items() if at[0] != host}
        for conduit in [each for each in self._conduits if host in (each.host, each.other.host)]:
            conduit.reset()
            self.forget(conduit)

    def forget(self, conduit: MemoryConduit) -> None:
        self._conduits.pop(conduit, None)
        self._conduits.pop(conduit.other, None)

    def add_host(self, host: str) -> None:
        self._hosts[host] = None

    def bind(self, host: str, port: int, on_conduit: Callable[[Conduit], None]) -> Listener:
        if port == 0:
            self._port += 1
            port = self._port
        if (host, port) in self._listeners:
            raise OSError(errno.EADDRINUSE, f"{host}:{port} is taken")
        listener = self._listeners[host, port] = _MemoryListener(self, host, port, on_conduit)
        return listener

    def unbind(self, listener: _MemoryListener) -> None:
        if self._listeners.get((listener.host, listener.port)) is listener:
            del self._listeners[listener.host, listener.port]

    def connect(self, host: str, address: str) -> Conduit | DialFailed | None:
        """A conduit from ``host``, or why not; ``None`` while nothing passes, as long as that may take."""
        target = _split(address)
        if target is None:
            return DialFailed(address, DialFault.INVALID)
        if self.is_cut(host, target[0]):
            return None
        listener = self._listeners.get(target)
        if listener is None:
            known = target[0] in self._hosts
            return DialFailed(address, DialFault.REFUSED if known else DialFault.UNREACHABLE)
        self._made += 1
        binding = hashlib.blake2b(f"{address}#{self._made}".encode(), digest_size=32).digest()
        dialled = MemoryConduit(self, host, address, binding)
        accepted = MemoryConduit(self, target[0], f"{host}:{50_000 + self._made % 10_000}", binding)
        dialled.other, accepted.other = accepted, dialled
        self._conduits[dialled] = self._conduits[accepted] = None
        listener.on_conduit(accepted)
        return dialled


class _MemoryListener:
    def __init__(self, network: MemoryNetwork, host: str, port: int, on_conduit: Callable[[Conduit], None]) -> None:
        self.host, self.port, self.on_conduit, self._network = host, port, on_conduit, network

    @property
    def addresses(self) -> tuple[str, ...]:
        return (f"{self.host}:{self.port}",)

    async def close(self) -> None:
        self._network.unbind(self)


class _Dial:
    """One try; over when answered, cancelled or out of time."""

    def __init__(
        self, network: MemoryNetwork, env: Env, host: str, address: str,
        on_done: Callable[[Conduit | DialFailed], None], timeout_ns: int,
    ) -> None:  # fmt: skip
        self._network, self._env, self._host, self._address, self._on_done = network, env, host, address, on_done
        self._ends_ns = env.mono() + timeout_ns
        self._timer = network.soon(self._try)

    def _try(self) -> None:
        outcome = self._network.connect(self._host, self._address)
        if outcome is not None:
            self._on_done(outcome)
        elif self._env.mono() >= self._ends_ns:
            self._on_done(DialFailed(self._address, DialFault.TIMEOUT))
        else:  # a lost SYN is sent again after a second
            self._timer = self._env.call_at(min(self._ends_ns, self._env.mono() + 1_000_000_000), self._try)

    def cancel(self) -> None:
        self._timer.cancel()


class MemoryTransport:
    """``transport.base.Transport`` for the node on ``host``, a name that means something in ``network`` only."""

    def __init__(self, network: MemoryNetwork, host: str) -> None:
        self._network, self._host = network, host
        network.add_host(host)

    async def listen(self, address: str, on_conduit: Callable[[Conduit], None]) -> Listener:
        """See ``base.Transport``. The host of ``address`` must be this one's, or empty."""
        host, port = _split(address) or ("", 0)
        if host not in ("", self._host):
            raise OSError(errno.EADDRNOTAVAIL, f"{address} is not on {self._host}")
        return self._network.bind(self._host, port, on_conduit)

    def dial(self, address: str, on_done: Callable[[Conduit | DialFailed], None], timeout_ns: int) -> Timer:
        """See ``base.Transport``."""
        return _Dial(self._network, self._network.env, self._host, address, on_done, timeout_ns)
