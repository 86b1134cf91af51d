"""Where a node may be reached, as text: ``HOST:PORT``, IPv6 in brackets, a link-local scope after ``%``."""

from __future__ import annotations

from collections.abc import Iterable

ALL_INTERFACES = "*"  # the host of "every interface, IPv4 and IPv6 on one port"
_HOST_CHARS_MAX = 255  # a DNS name's limit; also keeps an address inside ``mesh.messages.Contact``


def split_address(address: str) -> tuple[str, int]:
    """Host and port of ``address``; the host without its brackets. Raises ``ValueError`` that says what is wrong."""
    host, colon, port = address.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError(f"{address!r} is no address: write HOST:PORT, IPv6 in brackets")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if ":" not in host:
            raise ValueError(f"{address!r} has brackets around what is no IPv6 address")
    elif ":" in host:
        raise ValueError(f"{address!r} is ambiguous: put the IPv6 address in brackets, as in [::1]:7946")
    if not host or len(host) > _HOST_CHARS_MAX or any(c.isspace() or c in "/?#@[]\\" for c in host):
        raise ValueError(f"{address!r} has no usable host")
    return host, int(port)


def join_address(host: str, port: int) -> str:
    """The text form; the inverse of ``split_address``."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def for_others(addresses: Iterable[str]) -> tuple[str, ...]:
    """The addresses that mean the same host wherever they are dialled: no loopback, unless there is nothing else.

    Dialled elsewhere, a loopback address leads to the dialler itself, or to a third node on its port; and a peer
    whose addresses do not all refuse is not known to be gone.
    """
    given = tuple(addresses)
    return tuple(each for each in given if not each.startswith(("127.", "[::1]", "localhost:"))) or given
