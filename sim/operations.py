"""What a client may write beside its element, one kind of value each: drawn, carried out, and checked by nobody alone.

Equal values at equal clocks (``check_values``) is what is demanded of them; those with a law of their own are written
by ``sim.workload`` and stand here by name.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

NAMES = "abcdefgh"


def _toggle_set(space: Any, rng: Random, element: str) -> None:
    name = rng.choice(NAMES)
    held = space.set("churn", remove_wins=False)
    if name in held:
        held.discard(name)
    else:
        held.add(name)


def _toggle_remove_wins(space: Any, rng: Random, element: str) -> None:
    name = rng.choice(NAMES)
    held = space.set("rw", remove_wins=True)
    if name in held:
        held.discard(name)
    else:
        held.add(name)


def _multi(space: Any, rng: Random, element: str) -> None:
    space.multi("multi").set(element)


def _flag(space: Any, rng: Random, element: str) -> None:
    flag = space.flag("flag")
    if rng.random() < 0.5:
        flag.enable()
    else:
        flag.disable()


def _map(space: Any, rng: Random, element: str) -> None:
    held, name = space.map("map"), rng.choice(NAMES)
    draw = rng.random()
    if draw < 0.3:
        held[name] = element
    elif draw < 0.5 and held.get(name) is not None:
        del held[name]
    elif draw < 0.8:
        held.map("child").counter(name).increment()
    else:
        held.map("child").set("tags").add(element)


def _list(space: Any, rng: Random, element: str) -> None:
    held, draw = space.list("list"), rng.random()
    count = len(held)
    if draw < 0.5 or not count:
        held.insert(rng.randrange(count + 1), element)
    elif draw < 0.7:
        del held[rng.randrange(count)]
    else:
        held.move(rng.randrange(count), rng.randrange(count))


def _text(space: Any, rng: Random, element: str) -> None:
    held = space.text("text")
    count = len(held)
    if count < 8 or rng.random() < 0.6:
        held.insert(rng.randrange(count + 1), element)
    else:
        at = rng.randrange(count - 4)
        held.delete(at, rng.randrange(1, 4))


def _delete(space: Any, rng: Random, element: str) -> None:
    space.delete(rng.choice(("churn", "map", "multi", "flag", "list", "text")))


OTHERS: tuple[Callable[[Any, Random, str], None] | str, ...] = (  # by name: those with checkers of their own
    _toggle_set, _toggle_remove_wins, "register", _multi, _flag, _map, _map, "bounded", _list, _list, _text, _delete,
)  # fmt: skip
