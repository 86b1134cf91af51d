"""The network interfaces of this host, as far as a node can use them.

Read anew each time: addresses come and go with cables, Wi-Fi, VPNs and sleep. About 0.2 ms a reading.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

# A host may carry hundreds of container bridges; what is past this neither gets a scout nor is announced.
INTERFACES_MAX = 32
# Interfaces that mostly lead to containers of this very host, where every host has the same address.
_VIRTUAL = ("docker", "br-", "veth", "virbr", "vmnet", "vboxnet", "cni", "flannel", "podman", "lxc", "lxd")


@dataclass(frozen=True, slots=True)
class Interface:
    """One address of one interface. ``host`` as one dials it: a link-local IPv6 address ends in ``%NAME``."""

    name: str
    index: int  # the operating system's number; 0: it has none
    host: str
    version: int  # 4 or 6

    @property
    def bare(self) -> str:
        """The address without its scope."""
        return self.host.partition("%")[0]

    @property
    def is_loopback(self) -> bool:
        return ipaddress.ip_address(self.bare).is_loopback

    @property
    def is_link_local(self) -> bool:
        return ipaddress.ip_address(self.bare).is_link_local


Interfaces: TypeAlias = Callable[[], Sequence[Interface]]


def system_interfaces() -> list[Interface]:
    """Every usable address of this host, most useful first, at most ``INTERFACES_MAX``.

    IPv4 before IPv6 and wide before link-local; container bridges late, loopback last. Raises ``OSError`` when the
    system does not say.
    """
    import ifaddr  # here, not above: ctypes costs 10 ms that a mere import of this package should not

    found: list[Interface] = []
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            text = ip.ip if isinstance(ip.ip, str) else ip.ip[0]
            try:
                parsed = ipaddress.ip_address(text.partition("%")[0])
            except ValueError:
                continue
            if parsed.is_unspecified or parsed.is_multicast:
                continue
            scoped = parsed.version == 6 and parsed.is_link_local
            host = f"{parsed}%{adapter.name}" if scoped else str(parsed)
            found.append(Interface(adapter.name, adapter.index or 0, host, parsed.version))
    return usable(found)


def usable(found: Iterable[Interface]) -> list[Interface]:
    """``found`` without repeats, most useful first, bounded. Loopback survives the bound: it is always needed."""
    ranked = sorted(dict.fromkeys(found), key=_rank)
    loopback = [each for each in ranked if each.is_loopback]
    others = [each for each in ranked if not each.is_loopback]
    return others[: INTERFACES_MAX - min(len(loopback), 2)] + loopback[:2]


def _rank(each: Interface) -> tuple[bool, bool, bool, int, int]:
    virtual = each.name.startswith(_VIRTUAL)
    return each.is_loopback, virtual, each.is_link_local, each.version, each.index


def reachable_hosts(interfaces: Sequence[Interface], version: int) -> list[str]:
    """Addresses of IP ``version`` that another host may dial.

    Without link-local IPv6: its scope names an interface of *this* host; who shares the link learns it by scout.
    """
    return [each.host for each in interfaces if each.version == version and "%" not in each.host]
