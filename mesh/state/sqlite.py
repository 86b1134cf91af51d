"""Records on disk, in SQLite: WAL, ``synchronous=FULL``, every value under a checksum of its own.

Measured for this design (research/perf-primitives.md, section 7): 5 k commits/s of one row, 250 k rows/s in commits
of 100, so group commit is all the speed that is needed, and lmdb not worth a native dependency.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from transport.base import Cut, Put, StorageFault, StorageInUse

FILE = "state.db"
LOCK = "lock"
CHECK_BYTES = 8
DAMAGED_MAX = 65_536  # records named by ``damaged``; more are counted out of it, and still never served
_REMEDY = "move it aside and start again: the node fetches its state from its peers, and writes a new log"


def checksum(table: str, key: bytes, value: bytes) -> bytes:
    """What a value must carry to be believed: a record that moved to another key or table fails too."""
    digest = hashlib.blake2b(digest_size=CHECK_BYTES)
    digest.update(len(key).to_bytes(4, "big") + table.encode() + b"\0" + key)
    digest.update(value)
    return digest.digest()


def _lock(path: Path) -> IO[bytes]:
    """Hold the directory for this process, until the file is closed. Raises ``StorageInUse`` at once."""
    file = path.open("ab")
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined, unused-ignore]
        else:
            import fcntl

            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as refused:
        file.close()
        raise StorageInUse(
            f"another node holds {path.parent}; nothing was opened. Stop it, or give this one another data directory"
        ) from refused
    return file


def _is_whole(connection: sqlite3.Connection) -> bool:
    """Whether every page is where it should be. What is *in* the values is the checksums' to say."""
    try:
        return bool(connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",))
    except sqlite3.OperationalError:
        raise  # locked, no space, no permission: not broken
    except sqlite3.DatabaseError:
        return False


class SqliteStorage:
    """``base.Storage`` in ``directory``/state.db, for one process: a second one gets ``StorageInUse`` at once.

    One connection writes (``commit``, off the loop, one at a time), another reads (WAL lets both go on). Tables come
    into being when first written. A file whose pages are broken is salvaged into a new one, and kept beside it as
    ``state.db.broken-N``; ``damaged`` then names tables with the key ``b""``, as nobody knows what was lost. Raises
    ``StorageFault`` with the file's name and a remedy when even that is impossible.
    """

    def __init__(self, directory: str) -> None:
        self._path = Path(directory) / FILE
        try:
            Path(directory).mkdir(mode=0o700, parents=True, exist_ok=True)
            self._held = _lock(Path(directory) / LOCK)
        except OSError as refused:
            raise StorageFault(f"the data directory {directory} cannot be used: {refused}") from refused
        self._tables: set[str] = set()
        self._damaged: dict[tuple[str, bytes], None] = {}
        try:
            self._writer = self._connect()
            if not _is_whole(self._writer):
                self._writer.close()
                self._salvage()
                self._writer = self._connect()
            self._reader = self._connect()
            names = self._reader.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            self._tables.update(str(name) for (name,) in names)
        except sqlite3.Error as broken:
            self._held.close()
            raise self._fault("open", broken) from broken

    def _connect(self) -> sqlite3.Connection:
        # check_same_thread: SQLite itself is built serialized; commits come from whichever thread Env.offload has
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=5.0)
        if not self._tables:
            with contextlib.suppress(OSError):
                self._path.chmod(0o600)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA journal_size_limit = 8388608")
        connection.execute("PRAGMA cache_size = -4096")
        return connection

    def _salvage(self) -> None:
        """Move the broken file aside and copy into a new one whatever of it can be read and believed."""
        beside = (self._path.with_name(f"{FILE}.broken-{number}") for number in range(1, 1 << 16))
        broken = next(path for path in beside if not path.exists())
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                self._path.with_name(FILE + suffix).rename(broken.with_name(broken.name + suffix))
        fresh = self._writer = self._connect()
        with contextlib.closing(sqlite3.connect(broken, isolation_level=None)) as source:
            names = [str(name) for (name,) in source.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for table in filter(str.isidentifier, names):
                self._damaged[table, b""] = None
                self._create(table)
                insert = f'INSERT OR REPLACE INTO "{table}" (key, value) VALUES (?, ?)'
                fresh.execute("BEGIN IMMEDIATE")
                for order in ("ASC", "DESC"):  # from both ends, each up to the first page that cannot be read
                    with contextlib.suppress(sqlite3.DatabaseError):
                        for key, stored in source.execute(f'SELECT key, value FROM "{table}" ORDER BY rowid {order}'):
                            if isinstance(key, bytes) and isinstance(stored, bytes):
                                fresh.execute(insert, (key, stored))  # its checksum is looked at when it is read
                fresh.execute("COMMIT")
        fresh.close()

    def _fault(self, act: str, error: Exception) -> StorageFault:
        text = str(error)
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
            return StorageFault(f"{self._path} is broken ({text}); {_REMEDY}")
        return StorageFault(f"cannot {act} {self._path}: {text}; nothing was written. Check space and permissions")

    def commit(self, puts: Sequence[Put], cuts: Sequence[Cut] = ()) -> None:
        writer = self._writer
        try:
            for table in dict.fromkeys([put[0] for put in puts] + [cut[0] for cut in cuts]):
                self._create(table)
            writer.execute("BEGIN IMMEDIATE")
            try:
                for table, first, after in cuts:
                    writer.execute(f'DELETE FROM "{table}" WHERE key >= ? AND key < ?', (first, after))
                for table in dict.fromkeys(put[0] for put in puts):
                    writer.executemany(
                        f'INSERT OR REPLACE INTO "{table}" (key, value) VALUES (?, ?)',
                        ((key, checksum(t, key, value) + value) for t, key, value in puts if t == table),
                    )
                writer.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # SQLite has rolled back by itself on a full disk
                    writer.execute("ROLLBACK")
                raise
        except (sqlite3.Error, OSError) as refused:
            raise self._fault("write", refused) from refused

    def _create(self, table: str) -> None:
        if table in self._tables:
            return
        if not table.isidentifier():
            raise ValueError(f"a table's name is an identifier, got {table!r}")
        self._writer.execute(
            f'CREATE TABLE IF NOT EXISTS "{table}" (key BLOB NOT NULL PRIMARY KEY, value BLOB NOT NULL)'
        )
        self._tables.add(table)

    def get(self, table: str, key: bytes) -> bytes | None:
        if table not in self._tables:
            return None
        try:
            row = self._reader.execute(f'SELECT value FROM "{table}" WHERE key = ?', (key,)).fetchone()
        except sqlite3.Error as broken:
            raise self._fault("read", broken) from broken
        return None if row is None else self._checked(table, key, row[0])

    def scan(self, table: str, first: bytes, after: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        if table not in self._tables:
            return
        bound, values = ("", (first,)) if after is None else (" AND key < ?", (first, after))
        try:
            rows = self._reader.execute(f'SELECT key, value FROM "{table}" WHERE key >= ?{bound} ORDER BY key', values)
            with contextlib.closing(rows):
                for key, stored in rows:
                    value = self._checked(table, key, stored)
                    if value is not None:
                        yield key, value
        except sqlite3.Error as broken:
            raise self._fault("read", broken) from broken

    def _checked(self, table: str, key: bytes, stored: bytes) -> bytes | None:
        value = stored[CHECK_BYTES:]
        if stored[:CHECK_BYTES] == checksum(table, key, value):
            return value
        if len(self._damaged) < DAMAGED_MAX:
            self._damaged[table, key] = None
        return None

    def damaged(self) -> Sequence[tuple[str, bytes]]:
        return tuple(self._damaged)

    def close(self) -> None:
        self._reader.close()
        self._writer.close()
        self._held.close()
