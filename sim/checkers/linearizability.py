"""Linearizability of a history of one object: Wing and Gong's search with Lowe's memory, and a budget.

Says *unknown* rather than hang: the search is exponential in the number of operations that overlap (Gibbons, Korach
1997: NP-complete). Histories per key of up to about 300 operations take milliseconds.

Source  Wing, Gong 1993; Lowe 2017 (testing for linearizability); Horn, Kroening 2015.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

STEPS_MAX: Final = 200_000
NEVER: Final = 1 << 62  # an operation whose end nobody saw may take effect at any time after its call, or never


class Answer(Enum):
    """What the search found."""

    YES = "linearizable"
    NO = "not linearizable"
    UNKNOWN = "unknown: the budget is used up"


@dataclass(frozen=True, slots=True)
class Operation:
    """``call`` and ``end`` are times on one clock; without an ``end`` its result is unknown and not checked."""

    call: int
    what: Hashable
    result: Any = None
    end: int = NEVER


# (state, operation, its result, whether the result is known) -> the next state, or None if it cannot be so
Model = Callable[[Any, Any, Any, bool], "tuple[Any] | None"]


def register(state: Any, what: Any, result: Any, known: bool) -> tuple[Any] | None:
    """``("read",)``, ``("write", v)``, ``("cas", old, new)`` whose result is whether it was done."""
    match what:
        case ("read",):
            return (state,) if not known or result == state else None
        case ("write", value):
            return (value,)
        case ("cas", old, new):
            done = state == old
            return (new if done else state,) if not known or result == done else None
        case _:
            raise ValueError(f"a register has no operation {what!r}")


def linearizable(
    history: Sequence[Operation], model: Model = register, state: Hashable = None, steps_max: int = STEPS_MAX
) -> Answer:
    """Whether some order of the operations, each within its time, explains all results."""
    operations = sorted(history, key=lambda each: (each.call, each.end))
    count = len(operations)
    due = sum(1 << number for number, each in enumerate(operations) if each.end < NEVER)
    seen: set[tuple[int, Hashable]] = set()
    stack: list[tuple[int, Any]] = [(0, state)]
    steps = 0
    while stack:
        taken, now = stack.pop()
        if taken & due == due:
            return Answer.YES
        first_end = min(operations[n].end for n in range(count) if not taken >> n & 1)
        for number in range(count - 1, -1, -1):
            each = operations[number]
            if taken >> number & 1 or each.call > first_end:
                continue
            steps += 1
            if steps > steps_max:
                return Answer.UNKNOWN
            after = model(now, each.what, each.result, each.end < NEVER)
            if after is None:
                continue
            place = taken | 1 << number, after[0]
            if place not in seen:
                seen.add(place)
                stack.append(place)
    return Answer.NO
