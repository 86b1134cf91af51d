"""Discovery by zeroconf (mDNS, DNS-SD): for networks that carry it where they drop other multicast, and for the tools
that show it. Slow by its nature (1.2 s, ``research/mesh.md`` 4.2), so it is never the only source.

It runs in one task of its own. Whatever python-zeroconf does there, hang included, ends in a line of ``explain``.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from transport.address import join_address
from transport.base import Announcement, Env, Hint, Timer
from transport.identity import NodeId
from transport.interfaces import Interface, Interfaces, system_interfaces

if TYPE_CHECKING:
    from zeroconf import ServiceStateChange, Zeroconf
    from zeroconf.asyncio import AsyncServiceInfo

SERVICE = "_gossamer._tcp.local."
VERSION = b"1"
START_S = 0.5  # the scout goes first: importing and starting zeroconf would slow the very links it makes
STEP_S = 10.0  # registering takes 1.7 s; what takes this long hangs
CLOSE_S = 1.0  # for saying goodbye
RESOLVE_S = 3.0
REREAD_S = 5.0  # guess: how late a change of addresses is seen
RETRY_S = (1.0, 60.0)  # after a failure: first wait, and the longest
RESOLVING_MAX = 32  # names being asked for at once; more are asked for when they are announced again
_ERRORS_MAX = 8


class MulticastDns:
    """``transport.base.Discovery`` by zeroconf. ``start`` returns at once and never raises."""

    name = "mdns"

    def __init__(self, env: Env, *, interfaces: Interfaces = system_interfaces) -> None:
        self._env = env
        self._read_interfaces = interfaces
        self._announcement: Announcement | None = None
        self._on_hint: Callable[[Hint], None] = _ignore
        self._task: Timer | None = None
        self._ended = asyncio.Event()
        self._changed = asyncio.Event()
        self._resolving: dict[str, asyncio.Task[None]] = {}
        self._state = "not started"
        self._instance = ""
        self._interfaces: list[Interface] = []
        self._heard = self._hints = 0
        self._errors: list[str] = []

    async def start(self, announcement: Announcement, on_hint: Callable[[Hint], None]) -> None:
        """Begin in the background."""
        self._announcement, self._on_hint = announcement, on_hint
        self._task = self._env.spawn(self._run(announcement), "mdns")

    def rescan(self) -> None:
        """Look at the interfaces now. A browser asks by itself; asking more often is against RFC 6762."""
        self._changed.set()

    def explain(self) -> Mapping[str, Any]:
        """Where it stands, on which interfaces, and its last errors."""
        return {
            "state": self._state,
            "service": f"{self._instance}.{SERVICE}" if self._instance else SERVICE,
            "interfaces": [f"{each.host} ({each.name})" for each in self._interfaces],
            "services_heard": self._heard,
            "hints": self._hints,
            "errors": list(self._errors),
        }

    async def stop(self) -> None:
        """Say goodbye, for ``CLOSE_S`` at most; no hint comes after this."""
        self._on_hint = _ignore
        if self._task is not None:
            self._task.cancel()
        if self._state != "not started":  # else it was cancelled before its first step
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2 * CLOSE_S):
                    await self._ended.wait()
        self._state = "stopped"

    async def _run(self, announcement: Announcement) -> None:
        """One zeroconf after the other: each lives until the interfaces change or it fails."""
        wait_s = RETRY_S[0]
        try:
            self._state = "waiting"
            if START_S:
                await self._env.sleep(START_S)
            while True:
                self._interfaces = self._usable(announcement)
                if self._interfaces:
                    try:
                        await self._serve(announcement)
                        wait_s = RETRY_S[0]
                        continue
                    except Exception as failed:  # noqa: BLE001 - of a library we do not own; noted, and tried again
                        self._note(failed)
                    self._state = f"failed; next try in {wait_s:.0f} s"
                else:
                    self._state = "no interface"
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._changed.wait()
                self._changed.clear()
                wait_s = min(RETRY_S[1], wait_s * 2)
        finally:
            self._ended.set()

    async def _serve(self, announcement: Announcement) -> None:
        """Announce and browse until the interfaces are others."""
        self._state = "starting"
        await self._load()
        from zeroconf import InterfaceChoice, IPVersion
        from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

        has_v6 = any(each.version == 6 for each in self._interfaces)
        zeroconf = AsyncZeroconf(
            interfaces=[each.bare for each in self._interfaces] if announcement.loopback_only else InterfaceChoice.All,
            ip_version=IPVersion.All if has_v6 and not announcement.loopback_only else IPVersion.V4Only,
        )
        browser: AsyncServiceBrowser | None = None
        try:
            # Random, never the host's name: nothing to clash with, and nothing told to the network.
            raw = self._env.entropy(16)
            self._instance = base64.b32encode(raw).decode().rstrip("=").lower()
            info = AsyncServiceInfo(
                SERVICE,
                f"{self._instance}.{SERVICE}",
                port=announcement.port,
                server=f"{self._instance}.local.",
                parsed_addresses=[each.bare for each in self._interfaces],
                properties={b"v": VERSION, b"m": announcement.mesh_tag.hex(), b"n": str(announcement.node)},
            )
            browser = AsyncServiceBrowser(zeroconf.zeroconf, SERVICE, handlers=[self._on_change])
            async with asyncio.timeout(STEP_S):
                await (await zeroconf.async_register_service(info, allow_name_change=True))
            self._state = "announced"
            while self._usable(announcement) == self._interfaces:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(REREAD_S):
                        await self._changed.wait()
                self._changed.clear()
        finally:
            for task in self._resolving.values():
                task.cancel()
            with contextlib.suppress(Exception):  # what a half-made zeroconf says when it is closed helps nobody
                async with asyncio.timeout(CLOSE_S):
                    if browser is not None:
                        await browser.async_cancel()
                    await zeroconf.async_close()

    async def _load(self) -> None:
        """Import zeroconf on a thread: 70 ms that the loop has better use for just after a start."""
        loaded: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(outcome: object) -> None:
            if loaded.done():
                return
            if isinstance(outcome, BaseException):
                loaded.set_exception(outcome)
            else:
                loaded.set_result(None)

        self._env.offload(lambda: importlib.import_module("zeroconf.asyncio"), done)
        await loaded

    def _on_change(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        from zeroconf import ServiceStateChange

        if state_change is ServiceStateChange.Removed or name.startswith(self._instance):
            return
        self._heard += 1
        if name not in self._resolving and len(self._resolving) < RESOLVING_MAX:
            task = asyncio.get_running_loop().create_task(self._resolve(zeroconf, name), name="mdns resolve")
            self._resolving[name] = task
            task.add_done_callback(lambda _: self._resolving.pop(name, None))

    async def _resolve(self, zeroconf: Zeroconf, name: str) -> None:
        from zeroconf.asyncio import AsyncServiceInfo

        try:
            info = AsyncServiceInfo(SERVICE, name)
            if await info.async_request(zeroconf, RESOLVE_S * 1000):
                self._on_service(info)
        except Exception as failed:  # noqa: BLE001 - a stranger's records through a library we do not own; noted
            self._note(failed)

    def _on_service(self, info: AsyncServiceInfo) -> None:
        """A hint, if it is of this mesh. Everything in it is a stranger's word."""
        own = self._announcement
        told = info.properties
        if own is None or told.get(b"m") != own.mesh_tag.hex().encode() or told.get(b"v") != VERSION:
            return
        node = NodeId.parse((told.get(b"n") or b"").decode())
        if node == own.node or not info.port:
            return
        hosts = [host for host in info.parsed_scoped_addresses() if "%" in host or not host.startswith("fe80:")]
        if hosts:
            self._hints += 1
            self._on_hint(Hint(self.name, tuple(join_address(host, info.port) for host in hosts[:16]), node))

    def _usable(self, announcement: Announcement) -> list[Interface]:
        try:
            found = self._read_interfaces()
        except OSError as failed:
            self._note(failed)
            return self._interfaces
        return [each for each in found if each.is_loopback == announcement.loopback_only and not _is_v6_local(each)]

    def _note(self, failed: Exception) -> None:
        self._errors.append(f"{type(failed).__name__}: {failed}"[:200])
        del self._errors[:-_ERRORS_MAX]


def _is_v6_local(each: Interface) -> bool:
    return each.version == 6 and each.is_link_local


def _ignore(_: Hint) -> None:
    """Where hints go after the end."""
