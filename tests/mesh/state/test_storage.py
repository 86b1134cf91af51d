"""Both storages keep the same promise: the laws run on the two of them, beside a plain dict."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.state.sqlite import FILE, SqliteStorage
from mesh.state.storage import MemoryStorage, open_storage
from transport.base import Cut, Put, Storage, StorageFault, StorageInUse

KEYS = st.binary(min_size=1, max_size=3)
TABLES = st.sampled_from(["frames", "base"])
PUTS = st.lists(st.tuples(TABLES, KEYS, st.binary(max_size=20)), max_size=8)
CUTS = st.lists(st.tuples(TABLES, KEYS, KEYS), max_size=2)


@pytest.fixture
def directory(tmp_path: Path) -> str:
    return str(tmp_path / "data")


def rows(storage: Storage, table: str) -> list[tuple[bytes, bytes]]:
    return list(storage.scan(table, b""))


@pytest.mark.parametrize("make", [lambda path: MemoryStorage(), SqliteStorage], ids=["memory", "sqlite"])
@settings(max_examples=25, deadline=None)
@given(batches=st.lists(st.tuples(PUTS, CUTS), max_size=5), bound=st.tuples(KEYS, KEYS))
def test_a_storage_is_a_sorted_dict(
    make: Callable[[str], Storage], batches: list[tuple[list[Put], list[Cut]]], bound: tuple[bytes, bytes]
) -> None:
    oracle: dict[tuple[str, bytes], bytes] = {}
    with tempfile.TemporaryDirectory() as path:
        storage = make(path)
        for puts, cuts in batches:
            storage.commit(puts, cuts)
            for table, first, after in cuts:
                oracle = {at: v for at, v in oracle.items() if at[0] != table or not first <= at[1] < after}
            oracle.update({(table, key): value for table, key, value in puts})
        low, high = sorted(bound)
        for table in ("frames", "base"):
            expected = sorted((key, value) for (its, key), value in oracle.items() if its == table)
            assert rows(storage, table) == expected
            assert list(storage.scan(table, low, high)) == [row for row in expected if low <= row[0] < high]
            for key, value in expected:
                assert storage.get(table, key) == value
            assert storage.get(table, b"absent key") is None
        storage.close()


def test_what_was_committed_is_there_after_a_restart(directory: str) -> None:
    storage = SqliteStorage(directory)
    storage.commit([("frames", b"k", b"v")])
    storage.close()
    again = SqliteStorage(directory)
    assert again.get("frames", b"k") == b"v"
    again.close()


def test_the_directory_and_the_file_are_nobody_elses(directory: str) -> None:
    SqliteStorage(directory).close()
    assert Path(directory).stat().st_mode & 0o777 == 0o700
    assert (Path(directory) / FILE).stat().st_mode & 0o777 == 0o600


def test_a_second_node_on_the_directory_is_refused_at_once(directory: str) -> None:
    first = SqliteStorage(directory)
    with pytest.raises(StorageInUse, match="another node holds"):
        SqliteStorage(directory)
    first.close()
    SqliteStorage(directory).close()


def flip(path: Path, needle: bytes) -> None:
    """Turn one bit of the first place where ``needle`` is in the file."""
    raw = bytearray(path.read_bytes())
    at = raw.index(needle)
    raw[at] ^= 1
    path.write_bytes(raw)


def test_a_flipped_bit_costs_its_own_record_and_is_named(directory: str) -> None:
    storage = SqliteStorage(directory)
    storage.commit([("frames", b"a", b"first value"), ("frames", b"b", b"second value"), ("frames", b"c", b"third")])
    storage.close()
    flip(Path(directory) / FILE, b"second value")
    again = SqliteStorage(directory)
    assert rows(again, "frames") == [(b"a", b"first value"), (b"c", b"third")]
    assert again.get("frames", b"b") is None
    assert list(again.damaged()) == [("frames", b"b")]
    again.close()


def test_a_record_that_moved_to_another_key_is_not_believed(directory: str) -> None:
    storage = SqliteStorage(directory)
    storage.commit([("frames", b"a", b"value")])
    storage.close()
    with sqlite3.connect(Path(directory) / FILE) as raw:
        raw.execute("UPDATE frames SET key = ?", (b"z",))
    raw.close()
    again = SqliteStorage(directory)
    assert rows(again, "frames") == []
    assert list(again.damaged()) == [("frames", b"z")]
    again.close()


def test_a_file_that_is_no_database_names_itself_and_the_remedy(directory: str) -> None:
    Path(directory).mkdir()
    (Path(directory) / FILE).write_bytes(b"not a database, by any means" * 100)
    with pytest.raises(StorageFault, match=r"state\.db is broken.*move it aside"):
        SqliteStorage(directory)
    (Path(directory) / FILE).unlink()
    SqliteStorage(directory).close()  # the refused attempt did not keep the lock


def test_a_file_with_broken_pages_is_salvaged_and_kept_aside(directory: str) -> None:
    storage = SqliteStorage(directory)
    everything = {bytes((number >> 8, number & 255)): bytes((number & 255,)) * 200 for number in range(2000)}
    storage.commit([("frames", key, value) for key, value in everything.items()])
    storage.close()
    path = Path(directory) / FILE
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(bytes(3 * 4096))
    again = SqliteStorage(directory)
    found = dict(again.scan("frames", b""))
    assert 500 < len(found) < 2000
    assert all(everything[key] == value for key, value in found.items())
    assert ("frames", b"") in again.damaged()
    assert (Path(directory) / f"{FILE}.broken-1").exists()
    again.commit([("frames", b"new", b"works")])
    again.close()
    third = SqliteStorage(directory)
    assert third.get("frames", b"new") == b"works"
    assert not third.damaged()
    third.close()


def test_a_full_disk_is_a_fault_and_nothing_of_the_batch_is_there(directory: str) -> None:
    storage = SqliteStorage(directory)
    storage.commit([("frames", b"a", b"kept")])
    storage._writer.execute("PRAGMA max_page_count = 10")
    with pytest.raises(StorageFault, match=r"cannot write .*full"):
        storage.commit([("frames", b"b", b"small"), ("frames", b"c", bytes(1 << 20))])
    assert rows(storage, "frames") == [(b"a", b"kept")]
    storage._writer.execute("PRAGMA max_page_count = 100000")
    storage.commit([("frames", b"b", b"later ones may work")])
    assert storage.get("frames", b"b") == b"later ones may work"
    storage.close()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_nobody_may_write_is_a_fault(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(StorageFault, match="cannot be used"):
            SqliteStorage(str(tmp_path / "data"))
    finally:
        tmp_path.chmod(0o700)


def test_a_file_in_the_place_of_the_directory_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(StorageFault, match="cannot be used"):
        open_storage(str(tmp_path / "data"))


def test_no_directory_means_memory() -> None:
    assert isinstance(open_storage(None), MemoryStorage)


def test_a_scan_goes_on_when_a_commit_comes_between() -> None:
    storage = MemoryStorage()
    storage.commit([("frames", bytes((each,)), b"") for each in range(0, 10, 2)])
    scan: Iterator[tuple[bytes, bytes]] = storage.scan("frames", b"")
    assert next(scan)[0] == b"\0"
    storage.commit([("frames", b"\1", b"")], [("frames", b"\0", b"\3")])
    assert [key[0] for key, _ in scan] == [1, 4, 6, 8]
