"""Winner sanity: a write that another's author had seen never comes back as that register's value.

Whatever the stamps say: a clock that is years ahead decides among concurrent writes, and nothing else.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from sim.checkers.verdict import Violated


class Winners:
    """Tell it of each write with the value its author saw; values are unique. Memory: a set a write."""

    def __init__(self) -> None:
        self._beaten: dict[tuple[Hashable, Any], frozenset[Any]] = {}

    def wrote(self, register: Hashable, value: Any, saw: Any) -> None:
        """``value`` was written into ``register`` where ``saw`` was shown (``None``: nothing)."""
        beaten = frozenset() if saw is None else self._beaten.get((register, saw), frozenset()) | {saw}
        self._beaten[register, value] = beaten

    def demand(self, register: Hashable, shown: Any, counted: set[Any]) -> None:
        """``register`` shows ``shown`` where the writes ``counted`` arrived. Raises ``Violated``."""
        for (which, value), beaten in self._beaten.items():
            if which == register and value in counted and shown in beaten:
                raise Violated(f"register {register!r} shows {shown!r}, and the author of {value!r} had seen that")
