"""Doors and dials: ``transport.base.Transport`` on a simulated network, as a kernel's listen and connect behave."""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial
from typing import Final

from sim.machine import Process
from sim.network import HELD, Network
from sim.stream import SimConduit
from transport.base import SECOND, Conduit, DialFailed, DialFault

SYN_AT_NS: Final = (0, 1 * SECOND, 3 * SECOND, 7 * SECOND)  # a dial is tried at these times
LOOPBACK_HOSTS: Final = ("127.0.0.1", "localhost", "::1")
ANY_HOSTS: Final = ("", "*", "0.0.0.0", "::")


def split(address: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``. Raises ``ValueError`` when it is none."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"an address is HOST:PORT, got {address!r}")
    return host.strip("[]"), int(port)


class Door:
    """A listening port: ``transport.base.Listener``."""

    def __init__(self, process: Process, port: int, loopback_only: bool, on_conduit: Callable[[Conduit], None]) -> None:
        self.process = process
        self.port = port
        self.loopback_only = loopback_only
        self.on_conduit = on_conduit
        process.machine.doors[port] = self

    @property
    def addresses(self) -> tuple[str, ...]:
        host = "127.0.0.1" if self.loopback_only else self.process.machine.address
        return (f"{host}:{self.port}",)

    async def close(self) -> None:
        if self.process.machine.doors.get(self.port) is self:
            del self.process.machine.doors[self.port]


class Dial:
    """One attempt to reach one address; its outcome comes once, unless cancelled."""

    def __init__(
        self,
        network: Network,
        process: Process,
        address: str,
        on_done: Callable[[Conduit | DialFailed], None],
        timeout_ns: int,
    ) -> None:
        self._network = network
        self._process = process
        self._address = address
        self._on_done: Callable[[Conduit | DialFailed], None] | None = on_done
        loop = network.loop
        try:
            host, self._port = split(address)
            target = process.machine if host in LOOPBACK_HOSTS else network.machines.get(host)
        except ValueError as wrong:
            process.soon(partial(self._fail, DialFault.INVALID, str(wrong)))
            return
        process.at(loop.now + timeout_ns, partial(self._fail, DialFault.TIMEOUT, "no answer"))
        if target is None:
            process.at(loop.now + 3 * SECOND, partial(self._fail, DialFault.UNREACHABLE, f"no host {host}"))
            return
        self._loopback = host in LOOPBACK_HOSTS or target is process.machine
        self._there = network.path(process.machine, target)
        self._back = network.path(target, process.machine)
        for wait in SYN_AT_NS:
            if wait < timeout_ns:
                loop.at(loop.now + wait, self._attempt, self._there.source)

    def cancel(self) -> None:
        self._on_done = None

    def _finish(self, outcome: Conduit | DialFailed) -> None:
        on_done, self._on_done = self._on_done, None
        if on_done is not None:
            on_done(outcome)

    def _fail(self, fault: DialFault, detail: str) -> None:
        self._finish(DialFailed(self._address, fault, detail))

    def _attempt(self) -> None:
        if self._on_done is None or not self._process.alive:
            return
        network = self._network
        delay = self._there.judge(60, network.frames)
        if delay == HELD:
            network.loop.at(network.loop.now + SECOND, self._attempt, self._there.source)
        elif delay >= 0:
            network.loop.at(network.loop.now + delay, self._arrive, self._there.source)

    def _arrive(self) -> None:
        if self._on_done is None or self._there.severed():
            return
        network, loop = self._network, self._network.loop
        delay = self._back.judge(60, network.frames)
        if delay < 0 or self._back.severed():
            return  # the answer is lost; the next attempt may do better
        door = self._there.receiver.doors.get(self._port)
        if door is None or not door.process.alive or (door.loopback_only and not self._loopback):
            detail = f"nobody listens at {self._address}"
            self._process.loop.at(
                loop.now + delay, partial(self._answer, DialFailed(self._address, DialFault.REFUSED, detail)),
                self._back.source,
            )  # fmt: skip
            return
        self._there.dials += 1
        label = f"{self._there.name}#{self._there.dials}"
        binding = network.seed.digest(f"binding/{label}")
        near = SimConduit(self._process, self._address, binding, self._there, label)
        port = self._process.machine.free_port()
        far = SimConduit(door.process, f"{self._process.machine.address}:{port}", binding, self._back, label)
        near.flow.far, far.flow.far = far, near
        network.trace.record(loop.now, self._there.name, f"open {label}")
        door.process.call(door.on_conduit, far)
        answer = partial(self._answer, near)
        arrives = loop.now + delay
        far.flow._last_arrival = arrives  # nothing the acceptor says overtakes its acceptance
        loop.at(arrives, answer, self._back.source)

    def _answer(self, outcome: SimConduit | DialFailed) -> None:
        if self._on_done is None:
            if isinstance(outcome, SimConduit):
                outcome.close("no longer wanted")
        else:
            self._process.call(self._finish, outcome)


class SimTransport:
    """``transport.base.Transport`` for one process."""

    def __init__(self, network: Network, process: Process) -> None:
        self._network = network
        self._process = process

    async def listen(self, address: str, on_conduit: Callable[[Conduit], None]) -> Door:
        host, port = split(address)
        machine = self._process.machine
        if host not in (*ANY_HOSTS, *LOOPBACK_HOSTS, machine.address):
            raise OSError(errno.EADDRNOTAVAIL, f"{machine.name} has no address {host}")
        if port == 0:
            port = machine.free_port()
        if port in machine.doors:
            raise OSError(errno.EADDRINUSE, f"port {port} of {machine.name} is taken")
        return Door(self._process, port, host in LOOPBACK_HOSTS, on_conduit)

    def dial(self, address: str, on_done: Callable[[Conduit | DialFailed], None], timeout_ns: int) -> Dial:
        return Dial(self._network, self._process, address, on_done, timeout_ns)
