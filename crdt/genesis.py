"""A document from a plain value, the same at everybody who begins with the same one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from crdt.errors import InvalidValue
from crdt.value import VALUE_BYTES_MAX, Value, canonical, check_key, pack, sorted_keys

if TYPE_CHECKING:
    from crdt.change import Change
    from crdt.map import Objects


PREFIX = "genesis-"


def is_genesis(actor: str) -> bool:
    """Whether this is the author of a beginning, who writes nothing else."""
    return actor.startswith(PREFIX)


def changes(value: dict[str, Value]) -> list[Change]:
    """What puts ``value`` into an empty document: maps for dicts, lists for lists, registers for the rest (and for what
    is empty). Their author is named by a digest of ``value``, and all about them follows from it. Two replicas that
    begin with the same value have the same changes, so it is there once; those of another value are another author's,
    and are joined as any concurrent writes. Raises ``InvalidValue``."""
    from crdt.document import Document

    if type(value) is not dict:
        raise InvalidValue(f"a document is a dict, got {type(value).__name__}")
    for key in value:
        check_key(key)
    digest = hashlib.blake2b(digest_size=16)
    for key in sorted_keys(value):
        digest.update(pack(key))
        with _under(key):
            digest.update(canonical(value[key]))
    author = Document(f"{PREFIX}{digest.hexdigest()}")
    _fill(author, value)
    return author.changes_since({})


def _fill(place: Objects, value: dict[str, Value]) -> None:
    for key in sorted_keys(value):
        each = value[key]
        with _under(key):
            if type(each) is dict and each:
                _fill(place.map(key), each)
            elif type(each) is list and each:
                for part in _parts(each):
                    place.list(key).extend(part)
            else:
                place.register(key).set(each)


def _parts(values: list[Value]) -> Iterator[list[Value]]:
    """In order, as much at once as surely fits a change."""
    part: list[Value] = []
    size = 0
    for each in values:
        size += len(canonical(each))
        if part and size > VALUE_BYTES_MAX:
            yield part
            part, size = [], 0
        part.append(each)
    yield part


@contextmanager
def _under(key: str) -> Iterator[None]:
    """What is wrong in here is wrong under ``key``."""
    try:
        yield
    except InvalidValue as wrong:
        wrong.below(key)
        raise
