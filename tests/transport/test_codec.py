"""Application values: there and back, one encoding each, and bombs that do not go off."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transport.codec import CONTAINERS_MAX, DEPTH_MAX, VALUE_BYTES_MAX, decode_value, encode_value
from transport.errors import ValueRefused

PLAIN = (
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats(allow_nan=False)
    | st.text(max_size=9) | st.binary(max_size=9)
)  # fmt: skip
VALUES = st.recursive(
    PLAIN,
    lambda each: st.lists(each, max_size=5) | st.dictionaries(st.text(max_size=4), each, max_size=5),
    max_leaves=20,
)


def same(one: Any, other: Any) -> bool:
    """Equality that tells 1, 1.0, True and -0.0 apart."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, float):
        return one == other and math.copysign(1, one) == math.copysign(1, other)
    return bool(one == other)


@settings(max_examples=100, deadline=None)
@given(value=VALUES)
def test_there_and_back(value: Any) -> None:
    raw = encode_value(value)
    assert same(decode_value(raw), value)
    assert same(msgpack.unpackb(raw), value)  # it is plain MessagePack, to anybody


@settings(max_examples=50, deadline=None)
@given(items=st.dictionaries(st.text(max_size=4), PLAIN, max_size=8), seed=st.randoms())
def test_one_encoding_whatever_the_order_of_the_keys(items: dict[str, Any], seed: Any) -> None:
    shuffled = list(items.items())
    seed.shuffle(shuffled)
    assert encode_value(dict(shuffled)) == encode_value(items)


@settings(max_examples=100, deadline=None)
@given(raw=st.binary(max_size=60))
def test_any_bytes_are_the_encoding_of_what_they_decode_to_or_refused(raw: bytes) -> None:
    try:
        value = decode_value(raw)
    except ValueRefused:
        return
    assert encode_value(value) == raw


def slowly(raw: bytes) -> Any:
    """What ``decode_value`` should give, by looking at everything."""
    try:
        value = msgpack.unpackb(raw, strict_map_key=True, ext_hook=lambda code, data: object())
        return value if encode_value(value) == raw else ValueRefused
    except (ValueError, TypeError, msgpack.UnpackException):
        return ValueRefused


@settings(max_examples=200, deadline=None)
@given(
    value=VALUES, at=st.integers(0, 200), byte=st.sampled_from(b"\x00\x01\x61\x7f\x81\x91\xa1\xc4\xca\xcb\xd6\xf8\xff")
)
def test_the_short_way_decides_as_the_long_one_does(value: Any, at: int, byte: int) -> None:
    raw = bytearray(encode_value(value))
    raw[at % len(raw)] = byte
    try:
        found = decode_value(bytes(raw))
    except ValueRefused:
        found = ValueRefused
    assert same(found, slowly(bytes(raw)))


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        [math.nan],
        {"a": [math.nan]},
        1 << 64,
        -(1 << 63) - 1,
        [1 << 64],
        {1: 2},
        {b"a": 1},
        {None: 1},
        object(),
        {1, 2},
        1j,
        "\ud800",
        ["\ud800"],
        {"\ud800": 1},
        bytearray(b"x"),
        b"x" * VALUE_BYTES_MAX,
        [[]] * (CONTAINERS_MAX + 1),
    ],
)
def test_what_is_no_value_is_refused(value: Any) -> None:
    with pytest.raises(ValueRefused):
        encode_value(value)


def test_the_error_says_where() -> None:
    with pytest.raises(ValueRefused, match=r"\.users\[1\]\.age: NaN"):
        encode_value({"users": [{"age": 1}, {"age": math.nan}]})


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def test_depth() -> None:
    assert decode_value(encode_value(nested(DEPTH_MAX))) == nested(DEPTH_MAX)
    with pytest.raises(ValueRefused, match="deep"):
        encode_value(nested(DEPTH_MAX + 1))
    with pytest.raises(ValueRefused):
        decode_value(b"\x91" * (DEPTH_MAX + 1) + b"\x01")
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ValueRefused, match="deep"):
        encode_value(loop)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x01\x01",
        b"\xc1",
        b"\xcc\x01",
        b"\xcd\x00\x01",
        b"\xd0\x01",
        b"\xd9\x01a",
        b"\xdc\x00\x00",
        b"\xde\x00\x00",
        b"\xca\x3f\x80\x00\x00",
        b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00",
        b"\xc7\x01\x05x",
        b"\xd4\x01x",
        b"\xd6\xff\x00\x00\x00\x01",
        b"\x82\xa1b\x01\xa1a\x01",
        b"\x82\xa1a\x01\xa1a\x02",
        b"\x81\x01\x01",
        b"\x81\xc4\x01a\x01",
        b"\xa1\xff",
        b"\x92\x01",
        b"\xc6\xff\xff\xff\xff",
    ],
)
def test_what_is_not_canonical_or_not_whole_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueRefused):
        decode_value(raw)


def array(count: int) -> bytes:
    return b"\xdd" + count.to_bytes(4, "big")


ROOM = VALUE_BYTES_MAX - 5


@pytest.mark.parametrize(
    "bomb",
    [
        array(ROOM) + b"\x80" * ROOM,
        b"\x91" * VALUE_BYTES_MAX,
        b"\x81\xa0" * (VALUE_BYTES_MAX // 2),
        array(1 << 31),
        b"\xdd\x00\xff\xff\xff" * (VALUE_BYTES_MAX // 5),
        array(CONTAINERS_MAX - 1) + b"\x81\xa1a\x01" * (CONTAINERS_MAX - 1),
        array(ROOM // 3) + b"\xa2ab" * (ROOM // 3),
        array(ROOM // 2) + b"\xcc\x01" * (ROOM // 2),
        bytes(VALUE_BYTES_MAX + 1),
        b"\xdf\xff\xff\xff\xff" * 100,
        b"\xc4\xff" * 1000,
        array(ROOM) + b"\x01" * ROOM,
    ],
)
def test_a_bomb_costs_little(bomb: bytes) -> None:
    tracemalloc.start()
    try:
        decode_value(bomb)
    except ValueRefused:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 12 << 20
