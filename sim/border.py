"""The border of a world: what of an event loop leads out of it (threads, sockets, processes) raises at the call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NoReturn

from sim.errors import NotSimulated


class Border(asyncio.BaseEventLoop):
    """An event loop without its ways out. The run loop is its heir's."""


_LEAVES_THE_WORLD = {
    "run_in_executor": "a thread", "set_default_executor": "threads", "shutdown_default_executor": "threads",
    "getaddrinfo": "the resolver", "getnameinfo": "the resolver",
    "create_connection": "a socket", "create_server": "a socket", "create_datagram_endpoint": "a socket",
    "create_unix_connection": "a socket", "create_unix_server": "a socket", "connect_accepted_socket": "a socket",
    "start_tls": "a socket", "sendfile": "a socket", "sock_recv": "a socket", "sock_recv_into": "a socket",
    "sock_recvfrom": "a socket", "sock_recvfrom_into": "a socket", "sock_sendall": "a socket",
    "sock_sendto": "a socket", "sock_connect": "a socket", "sock_accept": "a socket", "sock_sendfile": "a socket",
    "add_reader": "a file descriptor", "remove_reader": "a file descriptor", "add_writer": "a file descriptor",
    "remove_writer": "a file descriptor", "connect_read_pipe": "a pipe", "connect_write_pipe": "a pipe",
    "subprocess_shell": "a process", "subprocess_exec": "a process",
    "add_signal_handler": "a signal", "remove_signal_handler": "a signal",
}  # fmt: skip


def _refusal(method: str, what: str) -> Callable[..., NoReturn]:
    def refuse(self: Border, *args: object, **options: object) -> NoReturn:
        raise NotSimulated(f"loop.{method} needs {what}, and a world has none: go through the node's Env instead")

    refuse.__name__ = method
    return refuse


for _method, _what in _LEAVES_THE_WORLD.items():
    setattr(Border, _method, _refusal(_method, _what))
