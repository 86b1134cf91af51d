"""Everything at once: crashes, full disks, cuts, restored backups; nothing acknowledged is lost, and all agree."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.errors import SpaceReadOnly
from mesh.protocol.facts import LogForked
from tests.mesh.state.bench import Disk, Peer, Table

ACTS = st.sampled_from(["write", "write", "wait", "crash", "fill", "clear", "cut", "heal", "backup", "restore"])
STORM = st.lists(st.tuples(ACTS, st.integers(0, 2), st.integers(1, 12)), max_size=30)


class Node:
    """A peer through its crashes, and what it acknowledged."""

    def __init__(self, table: Table, name: str) -> None:
        self.table, self.name = table, name
        self.disk = Disk()
        self.backup: Disk | None = None
        self.start()

    def start(self) -> None:
        self.peer = Peer(self.table, self.name, disk=self.disk, seal_items=3, fold_frames=8)
        self.written: dict[int, str] = {}  # sequence in the current log -> key, not acknowledged yet
        self.actor = ""

    def write(self, key: str) -> None:
        space = self.peer.space()
        try:
            space.register(key).set(key)
        except SpaceReadOnly:
            return
        if space.actor != self.actor:  # a new log: what was open in the old one was taken back, and said so
            self.actor, self.written = space.actor, {}
        self.written[space.clock[space.actor]] = key

    def acknowledged(self) -> list[str]:
        own = self.peer.spaces._replicas["main"].writer.own if self.written else None
        if own is None or own.actor != self.actor:
            return []
        return [self.written.pop(seq) for seq in list(self.written) if seq <= own.saved.seq]


@settings(max_examples=60, deadline=None)
@given(storm=STORM, seed=st.integers(0, 100))
def test_what_was_acknowledged_is_never_lost(storm: list[tuple[str, int, int]], seed: int) -> None:
    table = Table(seed)
    table.delay_ms = 5
    nodes = [Node(table, name) for name in "abc"]
    table.link_all()
    safe: dict[str, int] = {}  # acknowledged key -> who
    number = 0
    for act, who, count in storm:
        node = nodes[who]
        match act:
            case "write":
                for _ in range(count):
                    number += 1
                    node.write(f"k{number}")
            case "wait":
                table.env.run_for(count / 10)
            case "crash":
                node.peer.crash()
                node.start()
                table.link_all()
            case "fill" | "clear":
                node.disk.full = act == "fill"
            case "cut":
                table.isolate(node.peer)
            case "heal":
                table.heal()
                table.link_all()
                table.repair(1)
            case "backup":
                node.backup = node.disk.copy()
                safe_then = dict(safe)
            case "restore" if node.backup is not None:
                node.peer.crash()
                node.disk, node.backup = node.backup, None
                # what only this disk had acknowledged since is gone with it: by the operator's hand, not by ours
                safe = {key: by for key, by in safe.items() if by != who or key in safe_then}
                node.start()
                table.heal()
                table.link_all()
                table.repair(1)  # it hears of its own log before it writes, or else it would fork it
        for index, each in enumerate(nodes):
            safe.update(dict.fromkeys(each.acknowledged(), index))
    table.heal()
    for node in nodes:
        node.disk.full = False
    table.link_all()
    table.env.run_for(40.0)
    table.repair()
    spaces = [node.peer.space() for node in nodes]
    assert len({space.digest() for space in spaces}) == 1
    lost = [key for key in safe if key not in spaces[0].value]
    assert not lost
    for node in nodes:
        assert not node.peer.faults
        assert not node.peer.told(LogForked)
        node.peer.crash()
        assert Peer(table, node.name, disk=node.disk).space().digest() == spaces[0].digest()
