"""Honest bytes, bent where it hurts: MessagePack taken apart, changed in one place, put together again."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from typing import Any

import msgpack

NUMBERS = (0, 1, -1, 2, 127, 128, 255, 1 << 16, (1 << 20) - 1, 1 << 20, 1 << 31, 1 << 32, 1 << 41, 1 << 42, 1 << 62,
           (1 << 63) - 1, -(1 << 63), (1 << 64) - 1)  # fmt: skip
ODD: tuple[Any, ...] = (None, True, 0.5, "", "x", b"", b"\x01", [], [0], [[0, 1]], {}, {"k": 1})


def bent(raw: bytes, rng: random.Random) -> bytes:
    """``raw`` with one to three things in it otherwise; where it is no MessagePack, a few bytes."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        raw = _bent_once(raw, rng)
    return raw


def _bent_once(raw: bytes, rng: random.Random) -> bytes:
    try:
        whole = [msgpack.unpackb(raw, strict_map_key=False)]
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError):
        return _bent_bytes(raw, rng)
    places = list(_places(whole))
    at_most = max(rng.randrange(len(places)), rng.randrange(len(places)))  # rather deep inside than at the outside
    holder, at = places[at_most]
    inner = holder[at]
    if isinstance(inner, bytes) and len(inner) > 1 and rng.random() < 0.6:
        holder[at] = _bent_once(inner, rng)
    else:
        _bend(holder, at, places, rng)
    try:
        return bytes(msgpack.packb(whole[0], use_bin_type=True)) if whole else b""
    except (ValueError, TypeError, OverflowError):
        return _bent_bytes(raw, rng)


def _bend(holder: Any, at: Any, places: list[tuple[Any, Any]], rng: random.Random) -> None:
    inner = holder[at]
    match rng.randrange(8):
        case 0 | 1 if type(inner) is int:
            holder[at] = inner + rng.choice((-3, -2, -1, 1, 2, 3))
        case 2 if type(inner) is int:
            holder[at] = rng.choice(NUMBERS)
        case 3 if isinstance(holder, list):
            del holder[at]
        case 4 if isinstance(holder, list):
            holder.insert(at, inner)
        case 5:
            other, there = rng.choice(places)
            holder[at] = other[there]
        case 6 if isinstance(inner, str | bytes | list) and inner:
            holder[at] = inner[: rng.randrange(len(inner))] if rng.random() < 0.5 else inner * 2
        case 7:
            holder[at] = rng.choice(ODD)
        case _:
            holder[at] = rng.choice(NUMBERS) if rng.random() < 0.3 else inner


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each place, those outside first."""
    stack = deque((value,))
    while stack:
        holder = stack.popleft()
        for at in range(len(holder)) if isinstance(holder, list) else list(holder):
            yield holder, at
            if isinstance(holder[at], list | dict):
                stack.append(holder[at])


def _bent_bytes(raw: bytes, rng: random.Random) -> bytes:
    out = bytearray(raw or b"\x90")
    at = rng.randrange(len(out))
    match rng.randrange(4):
        case 0:
            out[at] ^= 1 << rng.randrange(8)
        case 1:
            out[at] = rng.randrange(256)
        case 2:
            del out[at:]
        case 3:
            out[at:at] = rng.randbytes(rng.randint(1, 6))
    return bytes(out)
