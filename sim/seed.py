"""One number, and every random stream of a run drawn from it by name.

Streams are independent: ``Random(blake2b(name, key=seed))``. Removing one fault takes away the draws of its own
stream only, so all before it stays as it was; that is what makes a run shrinkable. Nothing here depends on
``PYTHONHASHSEED``, on identity, or on the order in which streams are first asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from random import Random


class Seed:
    """The root of all chance in one world."""

    __slots__ = ("_key", "_streams", "value")

    def __init__(self, value: int) -> None:
        if not 0 <= value < 1 << 64:
            raise ValueError(f"a seed is 0 to 2**64-1, got {value}")
        self.value = value
        self._key = value.to_bytes(8, "big")
        self._streams: dict[str, Random] = {}

    def digest(self, name: str, size: int = 32) -> bytes:
        """``size`` (at most 64) bytes that belong to ``name`` in this world."""
        return hashlib.blake2b(name.encode(), key=self._key, digest_size=size).digest()

    def stream(self, name: str) -> Random:
        """The generator called ``name``: the same object, further along, each time it is asked for."""
        found = self._streams.get(name)
        if found is None:
            found = self._streams[name] = Random(int.from_bytes(self.digest(name), "big"))
        return found

    def unseed(self) -> str:
        """What every stream would draw next, in one number: two runs that agree on it drew alike. Draws nothing."""
        total = hashlib.blake2b(key=self._key, digest_size=8)
        for name, stream in sorted(self._streams.items()):
            ahead = Random(0)
            ahead.setstate(stream.getstate())
            total.update(f"{name} {ahead.getrandbits(64)}\n".encode())
        return total.hexdigest()

    def source(self, name: str) -> Source:
        """A fresh breaker of ties for what ``name`` causes."""
        return Source(int.from_bytes(self.digest("tie/" + name, 8), "big"))


class Source:
    """Numbers what one cause brings about, so that ties in time are broken by (cause, number) and by nothing else.

    How often asyncio steps a task, or in which order two causes acted, does not change another cause's numbers.
    ``tie()`` gives 64 bits for the next event of this source.
    """

    __slots__ = ("tie",)

    def __init__(self, salt: int) -> None:
        self.tie: Callable[[], int] = partial(Random(salt).getrandbits, 64)


def _exponential_table() -> tuple[int, ...]:
    """-ln(1-u) at u = i/1024, times 2**20; rounded, so that libm's last bit does not matter."""
    import math

    return (*(round(-math.log(1 - i / 1024) * (1 << 20)) for i in range(1024)), round(math.log(4096) * (1 << 20)))


_EXPONENTIAL = _exponential_table()


def exponential(rng: Random, mean: int) -> int:
    """A draw of mean about ``mean``, cut off at 8.3 times that; integers throughout, so equal on every platform."""
    bits = rng.getrandbits(20)
    low, part = _EXPONENTIAL[bits >> 10], bits & 1023
    high = _EXPONENTIAL[(bits >> 10) + 1]
    return (mean * (low + ((high - low) * part >> 10))) >> 20


def chance(rng: Random, probability: float) -> bool:
    """True with this probability. Always one draw, so a changed probability shifts nothing else."""
    return rng.random() < probability
