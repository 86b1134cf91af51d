"""Logs that have two histories: proof of it, and what follows from that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.messages import Evidence, Want
from mesh.protocol.effects import Forked, Head, Held
from mesh.protocol.facts import LogForked
from mesh.state import records
from mesh.state.folding import Snapshot, changes_of
from mesh.state.journal import nothing
from mesh.state.log import Log
from mesh.state.room import Room
from transport.base import SECOND, Lane
from transport.frame import SignedFrame, parse, parse_stub
from transport.identity import NodeId, Origin

if TYPE_CHECKING:
    from mesh.state.replica import Replica

DOUBT_NS = 10 * SECOND  # a peer that holds another history of our log is asked for it, and serves it in far less


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
            if self._is_ours_alone(log):
                self._withdraw(log, frame.first)
                self._replica.offer(frame, peer)
            else:
                self.prove(log, frame.first, held.stub(), frame.stub())
        elif peer is not None and (log.slot.origin, peer) not in self._asked:
            # The branches parted earlier: let the peer serve its own, and they will meet at the fork.
            self._asked.add((log.slot.origin, peer))
            self._room.send(peer, Want(self._replica.name, log.slot.origin, log.floor.seq), Lane.CONTROL)

    # -- our own -------------------------------------------------------------------------------------------------------

    def doubt(self, log: Log, seq: int, head: bytes, peer: NodeId) -> None:
        """``peer`` holds one of our own logs up to ``seq``, with this chain head. When that is not our history of it,
        this disk is a backup that was written to where nobody could be reached: nothing of that log leaves this node
        until the peer has shown its frames, or ``DOUBT_NS`` is over (a member can say anything).

        Only until a peer's history agreed with what this disk brought: from then on, a second one is equivocation.
        """
        if not log.brought or log.fork or seq <= log.floor.seq or not self._is_ours_alone(log):
            return
        if seq <= log.saved.seq and self._is_history(log, Head(seq, head)):
            if seq >= log.brought:
                log.brought = 0
                self._replica.doubted.pop(log.slot.origin, None)
            return
        if log.slot.origin not in self._replica.doubted:
            self._replica.doubted[log.slot.origin] = None
            self._room.env.call_at(self._room.env.mono() + DOUBT_NS, lambda: self._believe(log))
        if seq <= log.saved.seq:
            self._room.send(peer, Want(self._replica.name, log.slot.origin, log.floor.seq), Lane.CONTROL)

    def _is_history(self, log: Log, head: Head) -> bool:
        if head.seq == log.saved.seq:
            return head.hash == log.saved.hash
        held = log.frame_over(self._room.storage, head.seq)
        return held is not None and (held.last, held.digest) == (head.seq, head.hash)

    def _believe(self, log: Log) -> None:
        """Nobody showed another history of it."""
        if log.slot.origin in self._replica.doubted:
            del self._replica.doubted[log.slot.origin]
            log.brought = 0
            self._room.feed(Held(log.slot, 0, log.head, None, 0))  # who asked meanwhile is told that there is some

    def _is_ours_alone(self, log: Log) -> bool:
        """Whether the history held here may be one that nobody else has seen. Once: if there is a third, one was."""
        origin = log.slot.origin
        return origin.node == self._room.identity.id and not self._replica.lost.has(origin)

    def give_way(self, snapshot: Snapshot) -> None:
        """``snapshot`` is about to be joined. Where it holds a log of our own that is in doubt, the frames that would
        show where the histories part were folded away: all that this disk has above its own cut is withdrawn, though
        some of it may be in the snapshot as well."""
        for origin in list(self._replica.doubted):
            log, stub = self._replica.logs[origin], snapshot.stubs.get(origin)
            if stub is not None and stub.last > log.floor.seq:
                known = stub.last <= log.saved.seq and self._is_history(log, Head(stub.last, stub.digest))
                if not known and log.saved.seq > log.floor.seq:
                    self._withdraw(log, log.floor.seq + 1, "; the others have folded this log, and may hold some of it")

    def _withdraw(self, log: Log, seq: int, words: str = "") -> None:
        """Others hold another history of our own log from ``seq`` on, and it is theirs that stays: ours was written to
        a restored backup. It is kept aside for the application, and writing goes on in a new log."""
        writer, storage = self._replica.writer, self._room.storage
        reason = f"this disk is an older copy, which was written to apart from the others{words}"
        if log is writer.own:
            writer.take_back("peers hold another history of this log", reason)
        cut = log.head_before(storage, seq)
        frames = [parse(raw) for raw in log.frames_after(storage, cut.seq, log.saved.seq)]
        log.fall(cut)
        log.brought = 0
        self._replica.doubted.pop(log.slot.origin, None)
        self._replica.lost.keep(log.slot, frames, reason)
        self._withdraw_what_rests_on(log, reason)
        self._replica.aside.drop(log.slot.origin, since=seq)
        writer.rebuild()
        self._room.feed(Held(log.slot, 0, log.head, None, 0))

    def _withdraw_what_rests_on(self, log: Log, reason: str) -> None:
        """The present log was begun in doubt: what it says may need what has just been taken back, and has not left."""
        writer = self._replica.writer
        own = writer.own
        if own is log or not own.head.seq:
            return
        frames = [parse(raw) for raw in own.frames_after(self._room.storage, own.floor.seq, own.saved.seq)]
        needs = [change.needs.get(log.actor, 0) for each in frames for change in changes_of(each, own.actor, self.at)]
        if max(needs, default=log.head.seq + 1) > log.head.seq:
            writer.take_back("it rests on a history that was taken back", reason)
            own.head = own.saved = own.floor
            self._replica.lost.keep(own.slot, frames, reason)
            self._room.feed(Held(own.slot, 0, own.head, None, 0))

    # -- proofs --------------------------------------------------------------------------------------------------------

    def prove(self, log: Log, seq: int, one: bytes, other: bytes) -> None:
        """Keep the proof, drop the log's changes from ``seq`` on, accept no more of them, tell everyone.

        The lowest proven fork counts, so that all nodes end at the same one. Below the floor every member had agreed
        on one history already, and nothing is dropped.
        """
        if seq <= log.floor.seq or (log.fork and log.fork <= seq):
            return
        room, slot = self._room, log.slot
        cut = log.head_before(room.storage, seq)
        if slot.origin.node == room.identity.id:
            ours = [parse(raw) for raw in log.frames_after(room.storage, cut.seq, log.saved.seq)]
            self._replica.lost.keep(slot, ours, "its log has two histories, and is dropped from there on by all")
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
            log.fall(cut)
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
