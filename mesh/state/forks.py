"""Logs that have two histories: proof of it, and what follows from that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.messages import Evidence, Want
from mesh.protocol.effects import Forked
from mesh.protocol.facts import LogForked
from mesh.state import records
from mesh.state.journal import nothing
from mesh.state.log import Log
from mesh.state.room import Room
from transport.base import Lane
from transport.frame import SignedFrame, parse_stub
from transport.identity import NodeId, Origin

if TYPE_CHECKING:
    from mesh.state.replica import Replica


class Forks:
    """Which logs of a space forked, from which sequence on (``at``, by actor), and the proofs.

    A proof is two genuine frames after one predecessor: as stubs, so that it is small and whole whatever was folded.
    """

    def __init__(self, replica: Replica, room: Room) -> None:
        self._replica, self._room = replica, room
        self._asked: set[tuple[Origin, NodeId]] = set()  # once a link is enough
        self._proofs: dict[Origin, Evidence] = {}
        self.at: dict[str, int] = {}
        key = records.stream_key(replica.name)
        for found, raw in room.storage.scan(records.FORKS, key, records.after_prefix(key)):
            origin, size = records.read_origin(found), int.from_bytes(raw[:2], "big")
            self._proofs[origin] = Evidence(raw[2 : 2 + size], raw[2 + size :])
            self.at[str(origin)] = parse_stub(raw[2 : 2 + size]).first

    @property
    def proofs(self) -> list[Evidence]:
        """Of every log known to have forked."""
        return list(self._proofs.values())

    def on_conflict(self, log: Log, frame: SignedFrame, peer: NodeId | None) -> None:
        """``frame`` is genuine and not of the history held. Proof are two frames after one common predecessor."""
        held = log.frame_over(self._room.storage, frame.first)
        if held is not None and held.previous == frame.previous and held.first == frame.first:
            self.prove(log, frame.first, held.stub(), frame.stub())
        elif peer is not None and (log.slot.origin, peer) not in self._asked:
            # The branches parted earlier: let the peer serve its own, and they will meet at the fork.
            self._asked.add((log.slot.origin, peer))
            self._room.send(peer, Want(self._replica.name, log.slot.origin, log.floor.seq), Lane.CONTROL)

    def prove(self, log: Log, seq: int, one: bytes, other: bytes) -> None:
        """Keep the proof, drop the log's changes from ``seq`` on, accept no more of them, tell everyone.

        The lowest proven fork counts, so that all nodes end at the same one. Below the floor every member had agreed
        on one history already, and nothing is dropped.
        """
        if seq <= log.floor.seq or (log.fork and log.fork <= seq):
            return
        room, slot = self._room, log.slot
        cut = log.head_before(room.storage, seq)
        log.fork = self.at[log.actor] = seq
        one, other = sorted((one, other))
        proof = self._proofs[slot.origin] = Evidence(one, other)
        room.journal.append(
            [(records.FORKS, records.log_key(slot), len(one).to_bytes(2, "big") + one + other)],
            [records.cut_from(slot, cut.seq + 1)], saved=nothing,
        )  # fmt: skip
        self._replica.aside.drop(slot.origin, since=seq)
        if log is self._replica.writer.own:
            self._replica.writer.take_back("another signed with this node's key", "its history forked")
        if log.head.seq > cut.seq:
            log.head = cut
            log.saved = min(log.saved, cut)
            log.unsaved = {first: frame for first, frame in log.unsaved.items() if first <= cut.seq}
            self._replica.writer.rebuild()
        room.tell(LogForked(slot.origin, self._replica.name, seq))
        if log.head.seq == seq - 1:
            room.feed(Forked(slot.origin))
        room.spread(proof)
        self._replica.retry(self._replica.aside.unblock())

    def on_link_down(self, peer: NodeId) -> None:
        """The next link to ``peer`` may be asked again."""
        self._asked = {pair for pair in self._asked if pair[1] != peer}

    def seen(self, origin: Origin, seq: int, peer: NodeId) -> None:
        """A peer holds more of a forked log than is kept here. If it had folded that before the proof came, everyone
        had agreed on it: its snapshot will say so. Otherwise it sends frames, and they are ignored."""
        log = self._replica.logs.get(origin)
        if log is not None and log.fork and seq >= log.fork and (origin, peer) not in self._asked:
            self._asked.add((origin, peer))
            self._room.send(peer, Want(self._replica.name, origin, log.head.seq), Lane.CONTROL)
