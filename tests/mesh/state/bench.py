"""Several nodes' spaces on one table: virtual time, real frames, and wires that a test may cut, shuffle and repeat."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from random import Random
from typing import Any

from crdt import Document
from mesh.messages import (
    CHUNK_BYTES_MAX,
    ConfirmAsk,
    Durable,
    DurableAsk,
    Evidence,
    LinkMessage,
    SnapshotPart,
    Want,
    decode,
    encode,
)
from mesh.protocol.effects import Event, Held, Slot
from mesh.protocol.facts import Fact
from mesh.state.config import StateConfig
from mesh.state.space import Space
from mesh.state.spaces import Spaces
from mesh.state.storage import MemoryStorage
from tests.fake_env import FakeEnv, FastSuite
from transport.base import Cut, Lane, Put, Storage, StorageFault
from transport.frame import seal
from transport.identity import Identity, Mesh, NodeId, Origin

MESH = Mesh("test", b"test-tag", b"test-mesh-id-16.", None)


class Disk(MemoryStorage):
    """A disk that outlives its node, can be full, copied, and lose single records."""

    __slots__ = ("broken", "commits", "full", "gate", "unreadable")

    def __init__(self) -> None:
        super().__init__()
        self.full = False
        self.commits = 0
        self.broken: list[tuple[str, bytes]] = []
        self.unreadable = False
        self.gate: Callable[[int], None] = lambda commits: None  # may raise, to cut the power before a commit

    def commit(self, puts: Sequence[Put], cuts: Sequence[Cut] = ()) -> None:
        if self.full:
            raise StorageFault("no space left on device")
        self.gate(self.commits)
        super().commit(puts, cuts)
        self.commits += 1

    def get(self, table: str, key: bytes) -> bytes | None:
        if self.unreadable:
            raise StorageFault("input/output error")
        return super().get(table, key)

    def scan(self, table: str, first: bytes, after: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        if self.unreadable:
            raise StorageFault("input/output error")
        return super().scan(table, first, after)

    def damage(self, table: str, key: bytes) -> None:
        self.broken.append((table, key))
        super().commit([], [(table, key, key + b"\0")])

    def damaged(self) -> Sequence[tuple[str, bytes]]:
        return tuple(self.broken)

    def copy(self) -> Disk:
        twin = Disk()
        twin._keys = {table: list(keys) for table, keys in self._keys.items()}
        twin._values = {table: dict(values) for table, values in self._values.items()}
        return twin


class Peer:
    """One node: its spaces, what they told, and a stack that pushes everything to everyone it is linked to."""

    def __init__(self, table: Table, name: str, disk: Storage | None = None, seed: bytes | None = None,
                 **config: Any) -> None:  # fmt: skip
        self.table, self.name = table, name
        table.starts += 1
        self.env = table.env.node(f"{name}-{table.starts}")
        call_at = self.env.call_at
        self.env.call_at = lambda when, callback: call_at(when, partial(self._unless_dead, callback))  # type: ignore
        self.identity = Identity(seed or name.encode().ljust(32, b"."), self.env.suite)
        self.id = self.identity.id
        self.disk = disk if disk is not None else Disk()
        self.facts: list[Fact] = []
        self.events: list[Event] = []
        self.faults: list[tuple[NodeId, str]] = []
        self.credit = 0
        self.dead = False
        self.spaces = Spaces(
            self.env, self.identity, MESH, self.disk, config=StateConfig(**config), tell=self.facts.append,
            feed=self._feed, send=self._send, reach=self._reach,
            on_fault=lambda peer, rule: self.faults.append((peer, rule)),
        )  # fmt: skip
        coroutine = self.spaces.open()
        try:
            coroutine.send(None)
        except StopIteration:
            pass
        table.peers[self.id] = self

    def space(self, name: str = "main") -> Space:
        return self.spaces.space(name)

    def _feed(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Held) and event.first and self.table.pushes:
            raw = self.spaces.frame_at(event.slot, event.first)
            if raw is None:
                return  # withheld: the runtime feeds ``PushRefused``, and repair brings it later
            for peer in self.table.linked(self.id):
                if peer != event.source:
                    self.table.carry(self.id, peer, raw)

    def _send(self, peer: NodeId, message: LinkMessage, lane: Lane) -> bool:
        if peer not in self.table.linked(self.id):
            return False
        self.table.carry(self.id, peer, encode(message))
        return True

    def _reach(self, peer: NodeId, message: LinkMessage) -> bool:
        """Over the wire between the two, or as if sealed through a third that has wires to both."""
        if self._send(peer, message, Lane.CONTROL):
            return True
        if set(self.table.linked(self.id)) & set(self.table.linked(peer)):
            self.table.relay(self.id, peer, encode(message))
            return True
        return False

    def receive(self, peer: NodeId, raw: bytes) -> None:
        if self.dead:
            return
        if raw[:1] == b"\x01":
            self.credit -= 1
            self.spaces.receive(peer, raw, self._done)
            return
        message = decode(peer, raw)
        if isinstance(message, Durable | ConfirmAsk | DurableAsk | Evidence | SnapshotPart):
            self.spaces.on_message(peer, message)
        elif isinstance(message, Want):
            self.table.serve(self, peer, Slot(message.stream, Origin(message.origin)), message.after)

    def _done(self) -> None:
        self.credit += 1

    def _unless_dead(self, callback: Callable[[], None]) -> None:
        if not self.dead:
            callback()

    def crash(self) -> None:
        """The power goes: nothing of this object happens any more."""
        self.dead = True
        self.table.peers.pop(self.id, None)

    def told(self, kind: type[Fact]) -> list[Any]:
        return [fact for fact in self.facts if isinstance(fact, kind)]

    def fed(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


class Table:
    """The nodes and the wires between them. Wires lose nothing unless told; time is virtual."""

    def __init__(self, seed: int = 0) -> None:
        self.env = FakeEnv(seed, suite=FastSuite())
        self.rng = Random(seed)
        self.peers: dict[NodeId, Peer] = {}
        self.cut: set[tuple[NodeId, NodeId]] = set()
        self.loss = 0.0
        self.delay_ms = 0
        self.pushes = True
        self.starts = 0
        self.relayed = 0
        self.relay_loss = 0  # of the next relayed messages, so many are lost
        self.carried: list[bytes] = []

    def linked(self, node: NodeId) -> list[NodeId]:
        return [peer for peer in self.peers if peer != node and (node, peer) not in self.cut]

    def link_all(self) -> None:
        for peer in list(self.peers.values()):
            for other in self.linked(peer.id):
                peer.spaces.linked(other, True)
            peer.spaces.members([(each, "alive", True, self.env.mono()) for each in self.peers])

    def isolate(self, peer: Peer) -> None:
        self.cut |= {pair for other in self.peers for pair in ((peer.id, other), (other, peer.id))}

    def heal(self) -> None:
        self.cut.clear()

    def carry(self, source: NodeId, target: NodeId, raw: bytes) -> None:
        self.carried.append(raw)
        if self.rng.random() < self.loss:
            return
        delay = self.rng.randrange(self.delay_ms + 1) * 1_000_000
        self.env.call_at(self.env.mono() + delay, lambda: self._arrive(source, target, raw))

    def relay(self, source: NodeId, target: NodeId, raw: bytes) -> None:
        self.relayed += 1
        if self.relay_loss:
            self.relay_loss -= 1
        elif target in self.peers:
            self.env.call_at(self.env.mono(), lambda: self.peers[target].receive(source, raw))

    def _arrive(self, source: NodeId, target: NodeId, raw: bytes) -> None:
        peer = self.peers.get(target)
        if peer is not None and (source, target) not in self.cut:
            peer.receive(source, raw)

    def serve(self, peer: Peer, to: NodeId, slot: Slot, after: int) -> None:
        frames = peer.spaces.frames_after(slot, after, 1 << 40)
        if frames is None:
            whole = peer.spaces.snapshot(slot.stream)
            parts = -(-len(whole) // CHUNK_BYTES_MAX)
            for part in range(parts):
                data = whole[part * CHUNK_BYTES_MAX : (part + 1) * CHUNK_BYTES_MAX]
                message = SnapshotPart(slot.stream, self.starts, part, parts, data)
                self.env.call_at(self.env.mono(), partial(self._arrive, peer.id, to, encode(message)))
            return
        for raw in frames:
            self.env.call_at(self.env.mono(), partial(self._arrive, peer.id, to, raw))

    def repair(self, rounds: int = 4) -> None:
        """Everyone fetches from everyone what the other can serve and it lacks; nothing is lost meanwhile."""
        loss, delay = self.loss, self.delay_ms
        self.loss, self.delay_ms = 0.0, 0
        for _ in range(rounds):
            self.env.run_for(0.2)
            for peer in list(self.peers.values()):
                for other in [self.peers[node] for node in self.linked(peer.id)]:
                    for replica in list(other.spaces._replicas.values()):
                        for log in list(replica.logs.values()):
                            mine = peer.spaces._log_of(log.slot)
                            after = mine.head.seq if mine is not None else 0
                            peer.spaces.own_log_seen(log.slot, replica.servable(log), b"")
                            if after < replica.servable(log):
                                self.serve(other, peer.id, log.slot, after)
            self.env.run_for(0.2)
        self.loss, self.delay_ms = loss, delay


def slot_of(peer: Peer, name: str = "main") -> Slot:
    return peer.spaces._replicas[name].writer.own.slot


def frames_of(a: Peer, count: int) -> list[bytes]:
    """One frame an increment."""
    for _ in range(count):
        a.space().counter("n").increment()
        a.env.run_for(0.01)
    frames = a.spaces.frames_after(slot_of(a), 0, 1 << 30)
    assert frames is not None
    assert len(frames) == count
    return frames


def forged(peer: Peer, first: int, previous: bytes, amount: int) -> bytes:
    """A second history, signed by the real key."""
    items: list[bytes] = []
    doc = Document(str(slot_of(peer).origin), on_change=lambda change: items.append(change.item()))
    doc.counter("n").increment(amount)
    return sealed(peer, first, previous, items)


def sealed(peer: Peer, first: int, previous: bytes, items: list[bytes]) -> bytes:
    """A frame of one operation of ``peer``, with any body."""
    return seal(
        peer.identity, MESH, stream="main", log=slot_of(peer).origin.log, first=first, count=1, hlc=1,
        previous=previous, items=items,
    ).raw  # fmt: skip
