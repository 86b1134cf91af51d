"""Who counts: the members whose disks a confirmation asks for, and for whom folding waits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mesh.state import records
from mesh.state.journal import nothing
from mesh.state.room import Room
from transport.base import SECOND
from transport.identity import NodeId


@dataclass(frozen=True, slots=True)
class Standing:
    """A member, as far as counting goes. ``since_ns``: monotonic, when it came to this state."""

    node: NodeId
    state: str
    durable: bool
    since_ns: int


class Roll:
    """The other members, and which of them count: not left, not past their lease, and able to remember.

    Kept on disk: a node that starts again in a split has heard of nobody, and must neither fold nor confirm alone.
    """

    def __init__(self, room: Room) -> None:
        self._room = room
        self._members: dict[NodeId, Standing] = {}
        self._remembered: dict[NodeId, Standing] = {}  # from disk; a lease runs from the start of this process

    def __contains__(self, node: NodeId) -> bool:
        return node in self._members

    def load(self) -> None:
        """Who counted when this node last ran. Raises ``StorageFault``."""
        now = self._room.env.mono()
        for key, value in self._room.storage.scan(records.COUNTED, b""):
            self._remembered[NodeId(key)] = Standing(NodeId(key), "down", value == b"\1", now)
        self._members = dict(self._remembered)

    def members(self, standings: Iterable[tuple[NodeId, str, bool, int]]) -> list[NodeId]:
        """The members that are known now, this node or not. Answers who of them came (back)."""
        known = {
            node: Standing(node, str(state), durable, since)
            for node, state, durable, since in standings
            if node != self._room.identity.id
        }
        self._remember(known.values())
        before, self._members = self._members, self._remembered | known
        return [node for node in self._members if self.is_present(node) and not _is_present(before.get(node))]

    def _remember(self, standings: Iterable[Standing]) -> None:
        """Keep on disk who counts; forget who left, or whose lease ended before it was heard of again."""
        puts, cuts = [], []
        heard = {}
        for each in standings:
            heard[each.node] = each
            held = self._remembered.get(each.node)
            if each.state == "left":
                if held is not None:
                    del self._remembered[each.node]
                    cuts.append((records.COUNTED, bytes(each.node), bytes(each.node) + b"\0"))
            elif held is None or held.durable != each.durable:
                self._remembered[each.node] = Standing(each.node, "down", each.durable, self._room.env.mono())
                puts.append((records.COUNTED, bytes(each.node), b"\1" if each.durable else b"\0"))
        for node in [each for each in self._remembered if each not in heard]:
            if not self._counts(self._remembered[node]):
                del self._remembered[node]
                cuts.append((records.COUNTED, bytes(node), bytes(node) + b"\0"))
        if puts or cuts:
            self._room.journal.append(puts, cuts, saved=nothing)

    def _counts(self, each: Standing) -> bool:
        config = self._room.config
        lease_s = config.lease_s if each.durable else min(config.lease_s, config.diskless_lease_s)
        away = self._room.env.mono() - each.since_ns
        return each.state != "left" and (each.state == "alive" or away <= int(lease_s * SECOND))

    def counted(self) -> list[NodeId]:
        """The other members that count."""
        return [each.node for each in self._members.values() if self._counts(each)]

    def is_present(self, node: NodeId) -> bool:
        """Whether it is alive or suspect: worth asking."""
        return _is_present(self._members.get(node))


def _is_present(standing: Standing | None) -> bool:
    return standing is not None and standing.state in ("alive", "suspect")
