"""A disk that loses what was not synced: the simulated twin of ``mesh.state.storage``.

A batch is durable when its ``commit`` has returned. The simulated ``Env`` runs an offloaded commit at the end of its
drawn delay; a power cut before that draws whether the batch was lost, kept (it was on the platter, and nobody was
told) or torn: one of its records fails its checksum from then on, is left out of ``scan`` and named by ``damaged``.
A lying disk says "durable" and keeps the batch in its cache until the next honest sync, or loses it with the power.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from random import Random

from transport.base import Cut, Put, StorageFault, StorageInUse


class Fate(Enum):
    """What a power cut did to a batch that was being written."""

    LOST = "lost"
    KEPT = "kept"
    TORN = "torn"


class Table:
    """Records by key; a broken one stays in its place, as ``None``."""

    __slots__ = ("_keys", "records")

    def __init__(self) -> None:
        self.records: dict[bytes, bytes | None] = {}
        self._keys: list[bytes] | None = []

    def put(self, key: bytes, value: bytes | None) -> None:
        if key not in self.records:
            if self._keys and key > self._keys[-1]:
                self._keys.append(key)  # logs grow at their end
            else:
                self._keys = None
        self.records[key] = value

    def drop(self, key: bytes) -> None:
        if self.records.pop(key, self) is not self:
            self._keys = None

    def ordered(self) -> list[bytes]:
        if self._keys is None:
            self._keys = sorted(self.records)
        return self._keys


Undo = list[tuple[str, bytes, bytes | None, bool]]  # table, key, record before, whether there was one


class Disk:
    """The disk of one simulated machine: directories of tables. It outlives the processes that use it."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._directories: dict[str, dict[str, Table]] = {}
        self._open: dict[str, SimStorage] = {}
        self._unsynced: list[tuple[str, Undo]] = []  # batches a lying disk only says it has
        self.lying = False
        self.on_lie: Callable[[], None] = lambda: None
        self.refusal: Callable[[], str | None] = lambda: None  # why the next commit fails, if it does
        self.on_commit: Callable[[str, str], None] = lambda directory, text: None
        self.fate: Fate | None = None  # set while a power cut decides over a batch
        self.commits = 0
        self.keys: dict[str, bytes] = {}  # key files, by directory: written once, so never torn

    def open(self, directory: str | None) -> SimStorage:
        """The records under ``directory``, alone; ``None``: some that vanish with the process."""
        if directory is None:
            return SimStorage(self, "", {}, keeps=False)
        if directory in self._open:
            raise StorageInUse(f"another node of this machine holds {directory}")
        storage = SimStorage(self, directory, self._directories.setdefault(directory, {}), keeps=True)
        self._open[directory] = storage
        return storage

    def release(self, storage: SimStorage) -> None:
        """``storage`` is closed: its directory can be opened again."""
        if self._open.get(storage.directory) is storage:
            del self._open[storage.directory]

    def commit(self, storage: SimStorage, puts: Sequence[Put], cuts: Sequence[Cut]) -> None:
        """All or nothing; durable at return, unless the disk lies."""
        refused = self.refusal() if self.fate is None else None
        if refused is not None:
            raise StorageFault(refused)
        broken = self._rng.randrange(len(puts)) if self.fate is Fate.TORN and puts else -1
        if self.fate is Fate.LOST or (self.fate is Fate.TORN and _takes_away(storage, puts, cuts)):
            return
        undo: Undo = []
        for name, first, after in cuts:
            table = storage.tables.setdefault(name, Table())
            keys = table.ordered()
            for key in keys[bisect_left(keys, first) : bisect_left(keys, after)]:
                undo.append((name, key, table.records[key], True))
                table.drop(key)
        for index, (name, key, value) in enumerate(puts):
            table = storage.tables.setdefault(name, Table())
            undo.append((name, key, table.records.get(key), key in table.records))
            table.put(key, None if index == broken else bytes(value))
        self.commits += 1
        if not storage.keeps:
            return
        if self.lying and self.fate is None:
            self._unsynced.append((storage.directory, undo))
        elif self.fate is None:
            self._unsynced.clear()
        digest = hashlib.blake2b(digest_size=8)
        for name, first, after in cuts:
            digest.update(b"cut" + name.encode() + first + b"\0" + after)
        for name, key, value in puts:
            digest.update(b"put" + name.encode() + key + b"\0" + value)
        self.on_commit(storage.directory, f"commit {len(puts)} {digest.hexdigest()}")

    def power_cut(self) -> None:
        """All storages are closed; what the disk lied about is gone, newest first."""
        for directory, undo in reversed(self._unsynced):
            self.on_lie()
            tables = self._directories[directory]
            for name, key, before, there in reversed(undo):
                if there:
                    tables[name].put(key, before)
                else:
                    tables[name].drop(key)
        self._unsynced.clear()
        self.close_all()

    def close_all(self) -> None:
        """The process that held them ended."""
        for storage in list(self._open.values()):
            storage.close()

    def wipe(self, keep_keys: bool) -> None:
        """All records are gone, and the key files too unless kept."""
        self.close_all()
        if not keep_keys:
            self.keys.clear()
        self._directories.clear()
        self._unsynced.clear()

    def rot(self, records: int, spare: Callable[[str, bytes], bool] = lambda table, key: False) -> int:
        """Break up to ``records`` records, drawn over all of them, but none that ``spare`` says yes to; how many."""
        places = [
            (name, table, key)
            for _, tables in sorted(self._directories.items())
            for name, table in sorted(tables.items())
            for key in table.ordered()
            if table.records[key] is not None
        ]
        drawn = self._rng.sample(places, min(records, len(places)))
        chosen = [(table, key) for name, table, key in drawn if not spare(name, key)]
        for table, key in chosen:
            table.records[key] = None
        return len(chosen)

    def copy(self) -> dict[str, dict[str, dict[bytes, bytes | None]]]:
        """A backup of everything on it, for ``restore``."""
        return {
            directory: {name: dict(table.records) for name, table in tables.items()}
            for directory, tables in self._directories.items()
        }

    def restore(self, backup: dict[str, dict[str, dict[bytes, bytes | None]]]) -> None:
        """Put the content of ``backup`` back, in place of what is there."""
        self.wipe(keep_keys=True)
        for directory, tables in backup.items():
            for name, records in tables.items():
                table = self._directories.setdefault(directory, {}).setdefault(name, Table())
                for key, value in records.items():
                    table.put(key, value)


class SimStorage:
    """``transport.base.Storage`` on a simulated disk."""

    def __init__(self, disk: Disk, directory: str, tables: dict[str, Table], keeps: bool) -> None:
        self._disk = disk
        self.directory = directory
        self.tables = tables
        self.keeps = keeps
        self._closed = False

    def commit(self, puts: Sequence[Put], cuts: Sequence[Cut] = ()) -> None:
        if self._closed:
            raise StorageFault("the storage is closed")
        self._disk.commit(self, puts, cuts)

    def get(self, table: str, key: bytes) -> bytes | None:
        found = self.tables.get(table)
        return None if found is None else found.records.get(key)

    def scan(self, table: str, first: bytes, after: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        found = self.tables.get(table)
        if found is None:
            return
        keys = found.ordered()
        end = len(keys) if after is None else bisect_left(keys, after)
        for key in keys[bisect_left(keys, first) : end]:
            value = found.records.get(key)
            if value is not None:
                yield key, value

    def damaged(self) -> Sequence[tuple[str, bytes]]:
        return [
            (name, key)
            for name, table in sorted(self.tables.items())
            for key in table.ordered()
            if table.records[key] is None
        ]

    def close(self) -> None:
        self._closed = True
        self._disk.release(self)


def _takes_away(storage: SimStorage, puts: Sequence[Put], cuts: Sequence[Cut]) -> bool:
    """Whether a batch removes or replaces records: torn, it is found unfinished and undone, since what was durable
    before it stays so. (Found by crash-points, seed 14: a torn fold took its frames with it.)"""
    return bool(cuts) or any(key in storage.tables[name].records for name, key, _ in puts if name in storage.tables)
