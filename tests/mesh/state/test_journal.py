"""The journal: order, company, and what happens when the disk refuses."""

from __future__ import annotations

from collections.abc import Sequence

from mesh.state.config import StateConfig
from mesh.state.journal import Journal
from mesh.state.storage import MemoryStorage
from tests.fake_env import FakeEnv
from transport.base import Cut, Put, StorageFault


class Disk(MemoryStorage):
    """Counts commits, and refuses while told to."""

    __slots__ = ("commits", "full")

    def __init__(self) -> None:
        super().__init__()
        self.full = False
        self.commits: list[list[bytes]] = []

    def commit(self, puts: Sequence[Put], cuts: Sequence[Cut] = ()) -> None:
        if self.full:
            raise StorageFault("no space left on device")
        super().commit(puts, cuts)
        self.commits.append([key for _, key, _ in puts])


class Bench:
    def __init__(self) -> None:
        self.env, self.disk = FakeEnv(), Disk()
        self.journal = Journal(self.env, self.disk, StateConfig())
        self.saved: list[bytes] = []
        self.lost: list[bytes] = []

    def put(self, key: bytes, keep: bool = False, cuts: Sequence[Cut] = (), value: bytes = b"") -> None:
        self.journal.append(
            [("frames", key, value)], cuts, saved=lambda: self.saved.append(key),
            lost=None if keep else lambda fault: self.lost.append(key),
        )  # fmt: skip


def test_what_arrives_during_a_commit_joins_the_next_one_in_order() -> None:
    bench = Bench()
    for key in (b"a", b"b", b"c", b"d"):
        bench.put(key)
    bench.env.run_for(1.0)
    assert bench.disk.commits == [[b"a"], [b"b", b"c", b"d"]]
    assert bench.saved == [b"a", b"b", b"c", b"d"]
    assert bench.journal.backlog == 0


def test_a_commit_takes_so_many_bytes_and_leaves_the_rest_to_the_next() -> None:
    bench = Bench()
    for key in (b"a", b"b", b"c", b"d"):
        bench.put(key, value=bytes(5 << 20))
    assert bench.journal.has_room
    assert bench.journal.backlog > 20 << 20
    bench.env.run_for(1.0)
    assert bench.disk.commits == [[b"a"], [b"b"], [b"c"], [b"d"]]


def test_a_cut_hits_what_was_put_before_it_and_nothing_after() -> None:
    bench = Bench()
    bench.put(b"first")  # under way, so that the others share a commit if they may
    bench.put(b"a")
    bench.put(b"b", cuts=[("frames", b"a", b"b")])
    bench.env.run_for(1.0)
    assert bench.disk.get("frames", b"a") is None
    assert bench.disk.get("frames", b"b") == b""
    assert bench.saved == [b"first", b"a", b"b"]


def test_a_refused_commit_loses_ours_and_keeps_what_peers_wrote() -> None:
    bench = Bench()
    bench.disk.full = True
    bench.put(b"ours 1")
    bench.put(b"theirs", keep=True)
    bench.put(b"ours 2")
    bench.env.run_for(0.1)
    assert (bench.saved, bench.lost) == ([], [b"ours 1", b"ours 2"])
    bench.put(b"ours 3")
    assert bench.lost[-1] == b"ours 3"  # at once: the journal is broken
    recovered: list[bool] = []
    bench.journal.on_recovered.append(lambda: recovered.append(True))
    bench.env.run_for(60.0)
    assert not recovered
    bench.disk.full = False
    bench.env.run_until(lambda: bool(recovered), within=16.0)
    bench.put(b"ours 4")
    bench.env.run_for(0.1)
    assert bench.saved == [b"theirs", b"ours 4"]
    assert bench.journal.backlog == 0


def test_room_is_called_out_once_it_is_there_again() -> None:
    bench = Bench()
    calls: list[int] = []
    bench.journal.on_room.append(lambda: calls.append(bench.journal.backlog))
    for number in range(70):
        bench.put(bytes((number,)), value=bytes(1 << 20))
    assert not bench.journal.has_room
    bench.env.run_for(1.0)
    assert len(calls) == 1
    assert bench.journal.has_room


def test_a_closed_journal_stops_trying() -> None:
    bench = Bench()
    bench.disk.full = True
    bench.put(b"a")
    bench.env.run_for(0.1)
    bench.journal.close()
    bench.disk.full = False
    bench.env.run_for(60.0)
    assert bench.disk.commits == []


def test_a_closed_journal_takes_nothing_more() -> None:
    """Found by a node that ended while a fold was under way: its outcome went to a disk that was closed already."""
    bench = Bench()
    bench.put(b"a")
    bench.env.run_for(1.0)
    bench.journal.close()
    bench.put(b"b")
    bench.env.run_for(1.0)
    assert bench.disk.commits == [[b"a"]]
    assert bench.journal.is_idle


def test_together_is_one_commit_behind_whatever_is_under_way() -> None:
    bench = Bench()
    bench.put(b"before")
    with bench.journal.together():
        bench.put(b"a", value=bytes(5 << 20))
        bench.put(b"b", value=bytes(5 << 20))  # past the bytes of one commit: together all the same
    bench.put(b"after")
    bench.env.run_for(1.0)
    assert bench.disk.commits == [[b"before"], [b"a", b"b"], [b"after"]]
    with bench.journal.together():
        bench.put(b"c")
        bench.put(b"d")
    bench.env.run_for(1.0)
    assert bench.disk.commits[3:] == [[b"c", b"d"]]


def test_together_is_lost_together() -> None:
    bench = Bench()
    bench.disk.full = True
    with bench.journal.together():
        bench.put(b"a")
        bench.put(b"b")
    bench.env.run_for(0.1)
    assert bench.lost == [b"a", b"b"] and bench.saved == []
