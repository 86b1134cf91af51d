"""Application values as canonical MessagePack: one value, one encoding, and nothing that another node would refuse.

Values are None, bool, int (-2**63 to 2**64 - 1), float (no NaN), str, bytes, list, dict with str keys. Canonical is:
every number and header in its shortest form, floats as 64 bits, keys sorted as text (UTF-8) and each once. The bounds
are constants of the protocol, since nodes must agree on what is valid.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, Union, cast

import msgpack
import msgspec

from transport.errors import ValueRefused

VALUE_BYTES_MAX = 256 << 10
DEPTH_MAX = 32  # lists and dicts inside each other; a plain number has depth 0
# An empty dict is one byte on the wire and 72 in memory: this, not the size, bounds what a bomb can cost.
CONTAINERS_MAX = 16_384

Value: TypeAlias = Union[bool, int, float, str, bytes, "Sequence[Value]", "Mapping[str, Value]", None]

_PLAIN = frozenset((bool, type(None), bytes, str, int))  # nothing to check that the encoder does not
_TEXT = frozenset((str,))
_CONTAINER_HEADS = bytes((*range(0x80, 0xA0), *range(0xDC, 0xE0)))
# Of what msgpack and the encoder let pass: what may be a byte string (as a key it is no value), or a NaN's first bytes.
_NEEDS_A_LOOK = re.compile(rb"[\xc4-\xc6]|\xcb[\x7f\xff]")
_decode = msgspec.msgpack.Decoder().decode
_encode = msgspec.msgpack.Encoder(order="deterministic").encode  # the same bytes as ``crdt.value``


def encode_value(value: Value) -> bytes:
    """The canonical bytes of ``value``; tuples count as lists. Raises ``ValueRefused``, naming rule and place."""
    if type(value) not in _PLAIN:
        _check(value, 0, CONTAINERS_MAX, "")
    try:
        raw = _encode(value)
    except UnicodeEncodeError:
        raise ValueRefused("text that is no valid Unicode (a lone surrogate)") from None
    except OverflowError:
        raise ValueRefused("an int has at most 64 bits") from None
    if len(raw) > VALUE_BYTES_MAX:
        raise ValueRefused(f"a value has at most {VALUE_BYTES_MAX} bytes, this one {len(raw)}")
    return raw


def decode_value(raw: bytes) -> Value:
    """The value whose canonical encoding ``raw`` is. Raises ``ValueRefused`` for all other bytes.

    Hostile bytes cost at most a scan of 256 KiB and some 10 MB for a moment, whatever they claim.
    """
    if not 0 < len(raw) <= VALUE_BYTES_MAX:
        raise ValueRefused(f"a value has 1 to {VALUE_BYTES_MAX} bytes, this one {len(raw)}")
    if raw[0] not in _CONTAINER_HEADS:
        return _decode_plain(raw)
    # Bytes that look like a container's head are at least as many as containers: nearly always few, so no scan.
    heads = len(raw) - len(raw.translate(None, _CONTAINER_HEADS))
    if heads > CONTAINERS_MAX:
        _scan(raw)
    try:
        value = msgpack.unpackb(raw, strict_map_key=True, ext_hook=_no_extension, max_ext_len=0)
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError, MemoryError) as wrong:
        raise ValueRefused(f"bytes that are no value ({type(wrong).__name__})") from None
    # So few heads cannot nest too deep, and without such bytes there is no NaN and no key that is bytes.
    if heads > DEPTH_MAX or _NEEDS_A_LOOK.search(raw):
        _check(value, 0, CONTAINERS_MAX, "")
    if _encode(value) != raw:
        raise ValueRefused("an encoding that is not the canonical one")
    return cast(Value, value)


def _decode_plain(raw: bytes) -> Value:
    """The same for what is no list and no dict: nothing can nest, so the faster decoder is as safe."""
    try:
        value: Value = _decode(raw)
    except (msgspec.MsgspecError, ValueError) as wrong:
        raise ValueRefused(f"bytes that are no value ({type(wrong).__name__})") from None
    kind = type(value)
    if kind is bytes:  # its length says which header is the shortest, without a copy
        size = len(value)  # type: ignore[arg-type]
        is_canonical = len(raw) == size + (2 if size < 1 << 8 else 3 if size < 1 << 16 else 5)
    else:  # what is not plain is a float, or no value here at all (an extension, a date): ``encode_value`` knows
        is_canonical = (_encode(value) if kind in _PLAIN else encode_value(value)) == raw
    if not is_canonical:
        raise ValueRefused("an encoding that is not the canonical one")
    return value


def _check(value: Any, depth: int, containers: int, path: str) -> int:
    """Raise unless ``value`` obeys the rules that the encoder does not know; how many containers are left."""
    kind = type(value)
    if kind is not list and kind is not dict and kind is not tuple:
        _check_one(value, path)
        return containers
    if not containers:
        raise ValueRefused(f"a value has at most {CONTAINERS_MAX} lists and dicts in all")
    if depth >= DEPTH_MAX:
        raise ValueRefused(f"lists and dicts nest at most {DEPTH_MAX} deep")
    containers -= 1
    if kind is dict and not _TEXT.issuperset(map(type, value)):
        raise ValueRefused("a dict's keys are str", path)
    members = value.values() if kind is dict else value
    if _PLAIN.issuperset(map(type, members)):
        return containers
    for at, each in value.items() if kind is dict else enumerate(value):
        kind_of_each = type(each)
        if kind_of_each in _PLAIN or (kind_of_each is float and each == each):
            continue
        place = f".{str(at)[:40]}" if kind is dict else f"[{at}]"
        containers = _check(each, depth + 1, containers, path + place if depth < 3 else path)
    return containers


def _check_one(value: Any, path: str) -> None:
    kind = type(value)
    if kind is float:
        if math.isnan(value):
            raise ValueRefused("NaN equals nothing, so it is no value", path)
    elif kind not in _PLAIN:
        raise ValueRefused(f"{kind.__name__} is no value; use None, bool, int, float, str, bytes, list or dict", path)


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
