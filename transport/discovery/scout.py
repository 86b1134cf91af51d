"""The scout's sockets: one question to the whole link, answers by unicast. What they mean is ``scoutcore``'s.

Per IP version two sockets: *ears*, bound to the group's port and joined on every usable interface (all nodes of one
host hear every question), and a *voice* on a port of its own, which asks, answers, and hears the answers. An interface
that fails is noted and hurts no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import struct
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from transport.base import MILLISECOND, SECOND, Announcement, Env, Hint, Timer
from transport.discovery.scoutcore import NONCE_BYTES, Answer, Found, ScoutCore
from transport.identity import NodeId
from transport.interfaces import Interface, Interfaces, system_interfaces

GROUP_V4 = "239.255.71.83"  # site-local scope, kept on the link by its ttl of 1; "GS" in ASCII
GROUP_V6 = "ff02::6753"  # link-local scope
PORT = 17471
GATHER_NS = 2 * MILLISECOND  # several addresses of one node, heard within this, are dialled in turn and not at once
REREAD_NS = 3 * SECOND  # guess: a new address is used this late at most; a reading costs 0.5 ms
_ERRORS_MAX = 64
# Linux: deliver only groups joined by this very socket, not by any on the host. Not in the socket module.
_IP_MULTICAST_ALL, _IPV6_MULTICAST_ALL = 49, 29


class Scout:
    """``transport.base.Discovery`` by signed multicast. ``start`` never raises: what fails is in ``explain``."""

    name = "scout"

    def __init__(self, env: Env, *, interfaces: Interfaces = system_interfaces, port: int = PORT) -> None:
        self._env = env
        self._read_interfaces = interfaces
        self._port = port
        self._core: ScoutCore | None = None
        self._on_hint: Callable[[Hint], None] = _ignore
        self._loopback_only = False
        self._sides: dict[int, _Side] = {}  # by IP version
        self._interfaces: list[Interface] = []
        self._errors: dict[str, str] = {}
        self._gathered: dict[NodeId, Hint] = {}  # for 0.1 s at most, so at most as many as the core verifies by then
        self._sent = 0
        self._timers: dict[str, Timer] = {}

    async def start(self, announcement: Announcement, on_hint: Callable[[Hint], None]) -> None:
        """Open the sockets and ask for the first time."""
        self._on_hint = on_hint
        self._loopback_only = announcement.loopback_only
        self._core = ScoutCore(
            announcement, self._env.entropy(NONCE_BYTES), self._env.rng("discovery/scout"), self._env.mono()
        )
        for version, make in ((4, _SideV4), (6, _SideV6)):
            side = make(self._port, self._on_datagram)
            try:
                await side.open()
            except OSError as failed:
                side.close()
                self._note(f"IPv{version}", failed)
            else:
                self._sides[version] = side
        self._reread()
        self._ask()

    def rescan(self) -> None:
        """Read the interfaces anew and ask as after a start."""
        if self._core is not None:
            self._refresh()
            self._core.restart(self._env.mono())
            self._arm("ask", self._core.next_ask_ns, self._ask)

    def explain(self) -> Mapping[str, Any]:
        """Interfaces used, datagrams sent, heard and refused by reason, and what the system last said no to."""
        return {
            "groups": [f"{GROUP_V4}:{self._port}", f"[{GROUP_V6}]:{self._port}"],
            "interfaces": [f"{each.host} ({each.name})" for each in self._interfaces],
            "sent": self._sent,
            "errors": dict(self._errors),
            **(self._core.counts if self._core is not None else {}),
        }

    async def stop(self) -> None:
        """Close everything; no hint comes after this."""
        self._on_hint = _ignore
        self._core = None
        for timer in self._timers.values():
            timer.cancel()
        for side in self._sides.values():
            side.close()
        self._sides.clear()

    def _on_datagram(self, side: _Side, raw: bytes, source: tuple[Any, ...]) -> None:
        if self._core is None:
            return
        for effect in self._core.on_datagram(self._env.mono(), raw, _host_of(source)):
            match effect:
                case Answer(datagram):
                    self._send(f"answer to {source[0]}", lambda: side.voice.sendto(datagram, source))
                case Found(hint, after_ns):
                    self._gather(hint, max(after_ns, GATHER_NS))

    def _gather(self, hint: Hint, after_ns: int) -> None:
        """Tell all addresses of one node as one hint: they come within a millisecond, by every interface."""
        assert hint.node is not None
        known = self._gathered.get(hint.node)
        if known is None:
            self._gathered[hint.node] = hint
            self._env.call_at(self._env.mono() + after_ns, partial(self._tell, hint.node))
        else:
            self._gathered[hint.node] = replace(known, addresses=(*known.addresses, *hint.addresses))

    def _tell(self, node: NodeId) -> None:
        self._on_hint(self._gathered.pop(node))

    def _ask(self) -> None:
        if self._core is None:
            return
        datagram = self._core.ask(self._env.mono())
        for each in self._interfaces:
            if side := self._sides.get(each.version):
                self._send(f"{each.host} ({each.name})", lambda: side.ask(each, datagram))  # noqa: B023
        self._arm("ask", self._core.next_ask_ns, self._ask)

    def _reread(self) -> None:
        if self._core is None:
            return
        if self._refresh():
            self._core.restart(self._env.mono())
            self._arm("ask", self._core.next_ask_ns, self._ask)
        self._arm("reread", self._env.mono() + REREAD_NS, self._reread)

    def _refresh(self) -> bool:
        """Join what is new, forget what is gone. Whether anything is new."""
        try:
            found = [each for each in self._read_interfaces() if self._is_used(each)]
        except OSError as failed:
            self._note("interfaces", failed)
            return False
        known, self._interfaces = self._interfaces, found
        fresh = [each for each in found if each not in known]
        for each in known:
            if each in found:
                continue
            self._errors.pop(f"{each.host} ({each.name})", None)
            if side := self._sides.get(each.version):
                side.leave(each)
        for each in fresh:
            if side := self._sides.get(each.version):
                try:
                    side.join(each)
                except OSError as failed:
                    if failed.errno != errno.EADDRINUSE:  # joined already, by another address of that interface
                        self._note(f"join {each.host} ({each.name})", failed)
        return bool(fresh)

    def _is_used(self, each: Interface) -> bool:
        if each.is_loopback:
            return each.version == 4  # Linux routes no ff02:: over lo; IPv4 reaches every node of this host
        return not self._loopback_only

    def _send(self, what: str, send: Callable[[], object]) -> None:
        try:
            send()
        except OSError as failed:
            self._note(what, failed)
        else:
            self._sent += 1
            self._errors.pop(what, None)

    def _note(self, what: str, failed: OSError) -> None:
        self._errors.pop(what, None)
        self._errors[what] = failed.strerror or str(failed)
        if len(self._errors) > _ERRORS_MAX:
            del self._errors[next(iter(self._errors))]

    def _arm(self, name: str, when_ns: int, ring: Callable[[], None]) -> None:
        if (old := self._timers.get(name)) is not None:
            old.cancel()
        self._timers[name] = self._env.call_at(when_ns, ring)


class _Side:
    """The two sockets of one IP version."""

    family: socket.AddressFamily
    ears: socket.socket
    voice: socket.socket

    def __init__(self, port: int, on_datagram: Callable[[_Side, bytes, tuple[Any, ...]], None]) -> None:
        self.port = port
        self._on_datagram = on_datagram
        self._transports: list[asyncio.DatagramTransport] = []
        self._sockets: list[socket.socket] = []

    async def open(self) -> None:
        """Make, bind and read both. Raises ``OSError``; ``close`` is due all the same."""
        self.ears, self.voice = self._socket(), self._socket()
        self._tune()
        _share_port(self.ears)
        self.ears.bind(self._ears_address())
        self.voice.bind(("", 0))
        loop = asyncio.get_running_loop()
        for each in (self.ears, self.voice):
            transport, _ = await loop.create_datagram_endpoint(lambda: _Ears(self), sock=each)
            self._transports.append(transport)

    def heard(self, raw: bytes, source: tuple[Any, ...]) -> None:
        self._on_datagram(self, raw, source)

    def close(self) -> None:
        for transport in self._transports:
            transport.abort()
        for each in self._sockets[len(self._transports) :]:  # what no transport owns is ours to close
            each.close()

    def ask(self, interface: Interface, datagram: bytes) -> None:
        """To the group, out of ``interface``. Raises ``OSError``."""
        raise NotImplementedError

    def join(self, interface: Interface) -> None:
        """Hear the group on ``interface``. Raises ``OSError``."""
        raise NotImplementedError

    def leave(self, interface: Interface) -> None:
        """Undo ``join``; the system may have done so already."""
        raise NotImplementedError

    def _ears_address(self) -> tuple[str, int]:
        raise NotImplementedError

    def _tune(self) -> None:
        raise NotImplementedError

    def _socket(self) -> socket.socket:
        made = socket.socket(self.family, socket.SOCK_DGRAM)
        self._sockets.append(made)
        made.setblocking(False)
        return made


class _SideV4(_Side):
    family = socket.AF_INET

    def ask(self, interface: Interface, datagram: bytes) -> None:
        # By address, not by index: then that address is the datagram's source, and what the other end dials.
        self.voice.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(interface.host))
        self.voice.sendto(datagram, (GROUP_V4, self.port))

    def join(self, interface: Interface) -> None:
        self.ears.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, self._membership(interface))

    def leave(self, interface: Interface) -> None:
        with contextlib.suppress(OSError):
            self.ears.setsockopt(socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP, self._membership(interface))

    def _membership(self, interface: Interface) -> bytes:
        return socket.inet_aton(GROUP_V4) + socket.inet_aton(interface.host)

    def _ears_address(self) -> tuple[str, int]:
        return ("" if os.name == "nt" else GROUP_V4, self.port)

    def _tune(self) -> None:
        self.voice.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
        self.voice.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
        if sys.platform == "linux":
            self.ears.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)


class _SideV6(_Side):
    family = socket.AF_INET6

    def ask(self, interface: Interface, datagram: bytes) -> None:
        self.voice.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, struct.pack("@I", interface.index))
        self.voice.sendto(datagram, (GROUP_V6, self.port, 0, interface.index))

    def join(self, interface: Interface) -> None:
        self.ears.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, self._membership(interface))

    def leave(self, interface: Interface) -> None:
        with contextlib.suppress(OSError):
            self.ears.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_LEAVE_GROUP, self._membership(interface))

    def _membership(self, interface: Interface) -> bytes:
        return socket.inet_pton(socket.AF_INET6, GROUP_V6) + struct.pack("@I", interface.index)

    def _ears_address(self) -> tuple[str, int]:
        return ("::", self.port)

    def _tune(self) -> None:
        for each in (self.ears, self.voice):
            each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        self.voice.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 1)
        self.voice.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 1)
        if sys.platform == "linux":
            with contextlib.suppress(OSError):  # since Linux 4.20
                self.ears.setsockopt(socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL, 0)


class _Ears(asyncio.DatagramProtocol):
    def __init__(self, side: _Side) -> None:
        self._side = side

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self._side.heard(data, addr)

    def error_received(self, exc: Exception) -> None:
        """ICMP's news of an earlier answer that met nobody: the asker left, and nothing is to be done."""


def _share_port(ears: socket.socket) -> None:
    """Let every node of this host bind it. Linux needs no REUSEPORT for that, which would bar other users' nodes."""
    ears.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sys.platform not in ("linux", "win32"):
        ears.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def _host_of(source: tuple[Any, ...]) -> str:
    """The host one would dial to reach whoever sent from ``source``."""
    host = str(source[0]).partition("%")[0]
    if len(source) == 4 and source[3]:
        try:
            return f"{host}%{socket.if_indextoname(source[3])}"
        except OSError:
            pass  # the interface is gone; so is the way to that address
    return host


def _ignore(_: Hint) -> None:
    """Where hints go after the end."""
