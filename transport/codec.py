"""Application values as canonical MessagePack: one value, one encoding, and nothing that another node would refuse.

Values are None, bool, int (64 bits, signed), float (no NaN), str, bytes, list, dict with str keys. Canonical is: every
number and header in its shortest form, floats as 64 bits, keys sorted by their encoded bytes and each once. The bounds
are constants of the protocol, since nodes must agree on what is valid.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, Union, cast

import msgpack

from transport.errors import ValueRefused

VALUE_BYTES_MAX = 256 << 10
DEPTH_MAX = 32  # lists and dicts inside each other; a plain number has depth 0
# An empty dict is one byte on the wire and 72 in memory: this, not the size, bounds what a bomb can cost.
CONTAINERS_MAX = 16_384
INT_MIN, INT_MAX = -(1 << 63), (1 << 63) - 1

Value: TypeAlias = Union[bool, int, float, str, bytes, "Sequence[Value]", "Mapping[str, Value]", None]

_PLAIN = frozenset((bool, type(None), bytes))
_CONTAINER_HEADS = bytes((*range(0x80, 0xA0), *range(0xDC, 0xE0)))
_unpackb = msgpack.unpackb


def encode_value(value: Value) -> bytes:
    """The canonical bytes of ``value``; tuples count as lists. Raises ``ValueRefused``, naming rule and place."""
    raw = _pack(_normal(value, 0, [CONTAINERS_MAX], ""))
    if len(raw) > VALUE_BYTES_MAX:
        raise ValueRefused(f"a value has at most {VALUE_BYTES_MAX} bytes, this one {len(raw)}")
    return raw


def decode_value(raw: bytes) -> Value:
    """The value whose canonical encoding ``raw`` is. Raises ``ValueRefused`` for all other bytes.

    Hostile bytes cost at most a scan of 256 KiB and some 10 MB for a moment, whatever they claim.
    """
    if not 0 < len(raw) <= VALUE_BYTES_MAX:
        raise ValueRefused(f"a value has 1 to {VALUE_BYTES_MAX} bytes, this one {len(raw)}")
    # Bytes that look like a container's head are at least as many as containers: nearly always few, so no scan.
    if len(raw) - len(raw.translate(None, _CONTAINER_HEADS)) > CONTAINERS_MAX:
        _scan(raw)
    try:
        value = _unpackb(raw, strict_map_key=True, ext_hook=_no_extension, max_ext_len=0)
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError, MemoryError) as wrong:
        raise ValueRefused(f"bytes that are no value ({type(wrong).__name__})") from None
    if encode_value(value) != raw:
        raise ValueRefused("an encoding that is not the canonical one")
    return cast(Value, value)


def _pack(value: Value) -> bytes:
    try:
        return cast(bytes, msgpack.packb(value, use_bin_type=True))
    except UnicodeEncodeError:
        raise ValueRefused("text that is no valid Unicode (a lone surrogate)") from None


def _normal(value: Any, depth: int, containers: list[int], path: str) -> Value:
    """``value`` with its dicts sorted and its tuples as lists, if nothing in it is against the rules."""
    kind = type(value)
    if kind is str or kind in _PLAIN:
        return cast(Value, value)
    if kind is int:
        if not INT_MIN <= value <= INT_MAX:
            raise ValueRefused("an int has at most 64 bits, sign included", path)
        return cast(int, value)
    if kind is float:
        if math.isnan(value):
            raise ValueRefused("NaN equals nothing, so it is no value", path)
        return cast(float, value)
    containers[0] -= 1
    if containers[0] < 0:
        raise ValueRefused(f"a value has at most {CONTAINERS_MAX} lists and dicts in all")
    if depth >= DEPTH_MAX:
        raise ValueRefused(f"lists and dicts nest at most {DEPTH_MAX} deep")
    if kind is list or kind is tuple:
        inner = depth + 1
        return [
            each if type(each) in _PLAIN else _normal(each, inner, containers, f"{path}[{at}]" if depth < 3 else path)
            for at, each in enumerate(value)
        ]
    if kind is dict:
        return _normal_dict(value, depth, containers, path)
    raise ValueRefused(f"{kind.__name__} is no value; use None, bool, int, float, str, bytes, list or dict", path)


def _normal_dict(value: dict[Any, Any], depth: int, containers: list[int], path: str) -> Value:
    for key in value:
        if type(key) is not str:
            raise ValueRefused(f"a dict's keys are str, not {type(key).__name__}", path)
    keys = sorted(value, key=_pack) if len(value) > 1 else value
    return {
        key: _normal(value[key], depth + 1, containers, f"{path}.{key[:40]}" if depth < 3 else path) for key in keys
    }


def _no_extension(code: int, data: bytes) -> Value:
    raise ValueRefused(f"a MessagePack extension (type {code})")


def _scan(raw: bytes) -> None:
    """Walk over the heads, building nothing; raise when there are too many containers or the bytes end too early.

    MessagePack is a prefix code, so heads can be walked without knowing how they nest.
    """
    at, end, containers = 0, len(raw), 0
    while at < end:
        head = raw[at]
        at += 1
        if head < 0x80 or head >= 0xE0:
            continue
        if head < 0xA0:
            containers += 1
        elif head < 0xC0:
            at += head & 0x1F
        else:
            width, unit = _HEADS[head & 0x1F]
            if unit:  # a length follows, then that many bytes
                at += width + int.from_bytes(raw[at : at + width], "big") + unit - 1
            elif head >= 0xDC and head <= 0xDF:
                containers += 1
                at += width
            else:
                at += width
        if containers > CONTAINERS_MAX:
            raise ValueRefused(f"a value has at most {CONTAINERS_MAX} lists and dicts in all")
    if at > end:
        raise ValueRefused("bytes that end too early")


# From 0xC0 on: width of what follows the head, and 1 (2 with a type byte) where that is a length of bytes to skip.
_HEADS = (
    (0, 0), (0, 0), (0, 0), (0, 0),  # nil, never used, false, true
    (1, 1), (2, 1), (4, 1), (1, 2), (2, 2), (4, 2),  # bin, ext
    (4, 0), (8, 0), (1, 0), (2, 0), (4, 0), (8, 0), (1, 0), (2, 0), (4, 0), (8, 0),  # floats, uints, ints
    (2, 0), (3, 0), (5, 0), (9, 0), (17, 0),  # fixext: type and data
    (1, 1), (2, 1), (4, 1),  # str
    (2, 0), (4, 0), (2, 0), (4, 0),  # array, map
)  # fmt: skip
