"""Values: None, bool, int (64 bits), float (no NaN), str, bytes, list, dict with str keys.

Inside, a value *is* its canonical MessagePack bytes (shortest integers and lengths, floats as 64 bits, dict keys
sorted): so 1, 1.0 and True are three, equality is equality of bytes, and order is theirs.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from crdt.errors import InvalidBytes, InvalidValue

Value: TypeAlias = Any  # None | bool | int | float | str | bytes | list[Value] | dict[str, Value]

VALUE_BYTES_MAX = 256 << 10
KEY_BYTES_MAX = 512
DEPTH_MAX = 32  # of nested containers in a value, and of nested maps
INT_MIN, INT_MAX = -(1 << 63), (1 << 64) - 1  # what MessagePack's integers hold

_encode = msgspec.msgpack.Encoder(order="deterministic").encode
_decode = msgspec.msgpack.Decoder().decode

unpack = _decode  # of bytes that ``pack`` made or ``check_packed`` let pass


def pack(value: Value) -> bytes:
    """The canonical bytes of ``value``. Raises ``InvalidValue`` for anything that is no value, or too large."""
    raw = canonical(value)
    if len(raw) > VALUE_BYTES_MAX:
        raise InvalidValue(f"a value of {len(raw)} bytes, at most {VALUE_BYTES_MAX} are allowed")
    return raw


def canonical(value: Value) -> bytes:
    """``pack`` without its bound."""
    if type(value) is not str:
        _check(value, DEPTH_MAX)
    try:
        return _encode(value)
    except UnicodeEncodeError:
        _check_texts(value)
        raise


def check_packed(raw: bytes) -> None:
    """Raise ``InvalidBytes`` unless ``raw`` is what ``pack`` makes. Time and memory bounded by ``VALUE_BYTES_MAX``."""
    size = len(raw)
    if 1 < size <= 32 and raw[0] == 0x9F + size:
        if raw[1:].isascii():
            return
    elif size == 1:
        first = raw[0]
        if first < 0x80 or first > 0xDF or first in (0xC0, 0xC2, 0xC3):
            return
    elif size == 3 and raw[0] == 0xCD and raw[1]:
        return
    elif not 0 < size <= VALUE_BYTES_MAX:
        raise InvalidBytes(f"a value of {size} bytes")
    try:
        if pack(_decode(raw)) == raw:
            return
    except (InvalidValue, msgspec.MsgspecError, RecursionError, ValueError) as wrong:
        raise InvalidBytes(f"bytes that are no value: {wrong}") from None
    raise InvalidBytes("a value that is not in canonical form")


def check_key(key: object) -> str:
    """``key`` if a map may have it. Raises ``InvalidValue``."""
    if type(key) is not str:
        raise InvalidValue(f"a key is a str, got {type(key).__name__}")
    if len(key) * 4 > KEY_BYTES_MAX or not key.isascii():
        try:
            size = len(key.encode())
        except UnicodeEncodeError as wrong:
            raise InvalidValue(f"a key with a lone surrogate: {wrong}") from None
        if size > KEY_BYTES_MAX:
            raise InvalidValue(f"a key of {size} bytes, at most {KEY_BYTES_MAX} are allowed")
    return key


def sorted_keys(keys: Any) -> list[str]:
    """Keys in the order of their canonical bytes."""
    return sorted(keys, key=_encode)


def _check(value: Value, depth: int) -> None:
    kind = type(value)
    if kind is str or kind is bytes or kind is bool or value is None:
        return
    if kind is int:
        if not INT_MIN <= value <= INT_MAX:
            raise InvalidValue("an integer of more than 64 bits")
    elif kind is float:
        if value != value:
            raise InvalidValue("NaN equals nothing, not even itself, so replicas could not agree on it")
    elif kind is list or kind is dict:
        if not depth:
            raise InvalidValue(f"a value nested deeper than {DEPTH_MAX}")
        if kind is dict:
            for key in value:
                if type(key) is not str:
                    raise InvalidValue(f"keys inside a value are str, got {type(key).__name__}")
        place: Any = None
        try:
            for at, each in value.items() if kind is dict else enumerate(value):
                place = at
                _check(each, depth - 1)
        except InvalidValue as wrong:
            wrong.below(place)
            raise
    else:
        raise InvalidValue(
            f"{kind.__name__} is no value: use None, bool, int, float, str, bytes, list or dict with str keys"
        )


def _check_texts(value: Value) -> None:
    """Find the text in ``value`` that cannot be encoded, and say where it is."""
    if type(value) is str:
        try:
            value.encode()
        except UnicodeEncodeError as wrong:
            raise InvalidValue(f"text with a lone surrogate: {wrong}") from None
    elif type(value) is list or type(value) is dict:
        for at, each in value.items() if type(value) is dict else enumerate(value):
            if type(at) is str:
                _check_texts(at)
            try:
                _check_texts(each)
            except InvalidValue as wrong:
                wrong.below(at)
                raise
