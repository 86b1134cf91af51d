"""Where records are kept: in memory here, in SQLite next door (``sqlite.py``). Both stand behind ``base.Storage``."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence

from transport.base import Cut, Put, Storage


class MemoryStorage:
    """Records that live as long as the process. The twin of ``SqliteStorage``, and what ``data=None`` means.

    ``commit`` is durable only in the sense of the seam: until the process ends. Never fails, never damaged.
    """

    __slots__ = ("_keys", "_values")

    def __init__(self) -> None:
        self._keys: dict[str, list[bytes]] = {}
        self._values: dict[str, dict[bytes, bytes]] = {}

    def commit(self, puts: Sequence[Put], cuts: Sequence[Cut] = ()) -> None:
        for table, first, after in cuts:
            keys, values = self._keys.get(table, []), self._values.get(table, {})
            low, high = bisect.bisect_left(keys, first), bisect.bisect_left(keys, after)
            for key in keys[low:high]:
                del values[key]
            del keys[low:high]
        for table, key, value in puts:
            values = self._values.setdefault(table, {})
            if key not in values:
                bisect.insort(self._keys.setdefault(table, []), key)
            values[key] = value

    def get(self, table: str, key: bytes) -> bytes | None:
        return self._values.get(table, {}).get(key)

    def scan(self, table: str, first: bytes, after: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        keys, values = self._keys.get(table, []), self._values.get(table, {})
        at = bisect.bisect_left(keys, first)
        while at < len(keys) and (after is None or keys[at] < after):
            key = keys[at]
            yield key, values[key]
            # a commit may have come between: go on after the key that was served, wherever it is now
            at = at + 1 if at < len(keys) and keys[at] == key else bisect.bisect_right(keys, key)

    def damaged(self) -> Sequence[tuple[str, bytes]]:
        return ()

    def close(self) -> None:
        """Nothing to do: the records go with the object."""


def open_storage(data: str | None) -> Storage:
    """The records under directory ``data`` for this process alone, or in memory for ``None``.

    Raises ``StorageInUse`` when another node holds the directory, ``StorageFault`` when it cannot be used.
    """
    if data is None:
        return MemoryStorage()
    from mesh.state.sqlite import SqliteStorage  # late: a node without a disk does not load SQLite

    return SqliteStorage(data)
