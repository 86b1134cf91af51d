"""The dumb twin: values by definition, from the graph of operations alone. Slow, and shares no code with crdt."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgpack


@dataclass(frozen=True)
class Operation:
    """One operation and what its author had seen: ``clock`` counts operations by actor, its own earlier ones too."""

    actor: str
    seq: int
    kind: str  # name of the type; "" for a delete
    path: tuple[str, ...]
    verb: str
    argument: Any
    clock: Mapping[str, int]
    stamp: int
    forgets: bool = False  # its author had been told that what is removed may go

    def saw(self, other: Operation) -> bool:
        return other.seq <= self.clock.get(other.actor, 0)


def canonical(value: Any) -> bytes:
    return msgpack.packb(value)  # the tests' values need no more canonical form than this


def survive(operations: Iterable[Operation]) -> list[Operation]:
    """Those no delete had seen, of a key on the way to them."""
    every = list(operations)
    deletes = [each for each in every if not each.kind]
    return [
        each
        for each in every
        if each.kind and not any(d.saw(each) and each.path[: len(d.path)] == d.path for d in deletes)
    ]


def unseen(operations: list[Operation], by: list[Operation]) -> list[Operation]:
    return [each for each in operations if not any(other.saw(each) for other in by)]


def rights(alive: list[Operation]) -> dict[str, int]:
    held: dict[str, int] = {}
    for each in alive:
        if each.verb == "grant":
            held[each.actor] = held.get(each.actor, 0) + each.argument
        else:
            amount, to = each.argument
            held[each.actor] = held.get(each.actor, 0) - amount
            held[to] = held.get(to, 0) + amount
    return held


def counter(every: list[Operation], alive: list[Operation]) -> tuple[bool, Any]:
    return bool(alive), sum(each.argument for each in alive)


def bounded(every: list[Operation], alive: list[Operation]) -> tuple[bool, Any]:
    return bool(alive), sum(max(0, held) for held in rights(alive).values())


def ranked(every: list[Operation], alive: list[Operation]) -> list[Any]:
    """Values of the writes nobody saw past, each once, the winner first."""
    left = sorted(unseen(alive, every), key=lambda each: (each.stamp, each.actor.encode(), each.seq))
    return list({canonical(each.argument): each.argument for each in reversed(left)}.values())


def register(every: list[Operation], alive: list[Operation]) -> tuple[bool, Any]:
    left = ranked(every, alive)
    return bool(left), left[0] if left else None


def multi(every: list[Operation], alive: list[Operation]) -> tuple[bool, Any]:
    left = {canonical(each.argument): each.argument for each in unseen(alive, every)}
    return bool(left), [left[raw] for raw in sorted(left)]


def is_in(every: list[Operation], alive: list[Operation]) -> bool:
    """Add-wins: an addition nobody removed."""
    return bool(unseen([each for each in alive if each.verb == "add"], [each for each in every if each.verb != "add"]))


def is_in_strictly(every: list[Operation], alive: list[Operation]) -> bool:
    """Remove-wins: added, and every removal cancelled by an addition that saw it."""
    adds = [each for each in every if each.verb == "add"]
    removals = [each for each in alive if each.verb != "add"]
    return any(each.verb == "add" for each in alive) and not unseen(removals, adds)


def members(rule: Callable[[list[Operation], list[Operation]], bool]) -> Any:
    def value(every: list[Operation], alive: list[Operation]) -> tuple[bool, Any]:
        elements = {canonical(each.argument): each.argument for each in every}
        left = []
        for raw in sorted(elements):
            about = [each for each in every if canonical(each.argument) == raw]
            if rule(about, [each for each in alive if each in about]):
                left.append(elements[raw])
        return bool(left), left

    return value


def flag(rule: Callable[[list[Operation], list[Operation]], bool]) -> Any:
    def value(every: list[Operation], alive: list[Operation]) -> tuple[bool, Any]:
        on = rule(every, alive)
        return on, on

    return value


@dataclass
class Leaf:
    """One element of Fugue's tree (Weidner, Kleppmann 2023, Algorithm 1), by the paper: what hangs left and right."""

    name: tuple[bytes, int, int]
    by: Operation | None
    shown: Any = None
    left: list[Leaf] = field(default_factory=list)
    right: list[Leaf] = field(default_factory=list)

    def read(self) -> Iterator[Leaf]:
        for each in sorted(self.left, key=lambda leaf: leaf.name):
            yield from each.read()
        yield self
        for each in sorted(self.right, key=lambda leaf: leaf.name):
            yield from each.read()


Name = tuple[str, int, int]  # actor, sequence of the operation, offset in what it put in
Hooks = dict[tuple[str, int], tuple[Name, str]]


def tree(operations: list[Operation], hooks: Hooks) -> Leaf:
    """The tree of insertions and moves: the first element of each where ``hooks`` says, the others right of it."""
    root = Leaf((b"", 0, 0), None)
    leaves = {("", 0, 0): root}
    for each in operations:
        for offset, shown in enumerate(each.argument[1]):
            leaf = leaves[each.actor, each.seq, offset] = Leaf((each.actor.encode(), each.seq, offset), each, shown)
            host, side = hooks[each.actor, each.seq] if not offset else ((each.actor, each.seq, offset - 1), "right")
            getattr(leaves[host], side).append(leaf)
    return root


def grown(every: list[Operation]) -> Leaf:
    """The tree of all, each operation hung up by the paper's rule in the tree its author saw. If that one had been told
    to forget, then less the leaves of it that showed nothing, and what became a leaf so."""
    ordered = [each for each in every if each.verb in ("insert", "move")]
    ordered.sort(key=lambda each: sum(each.clock.values()))  # a causal order
    hooks: Hooks = {}
    for each in ordered:
        behind = each.argument[0]
        seen = [other for other in every if each.saw(other)]
        root = tree([other for other in ordered if each.saw(other)], hooks)
        if each.forgets:
            pruned(root, shown(seen, survive(seen)))
        read = list(root.read())
        at = next(i for i, leaf in enumerate(read) if leaf.name == (behind[0].encode(), *behind[1:]))
        if read[at].right:
            actor, seq, offset = read[at + 1].name
            hooks[each.actor, each.seq] = (actor.decode(), seq, offset), "left"
        else:
            hooks[each.actor, each.seq] = behind, "right"
    return tree(ordered, hooks)


def pruned(leaf: Leaf, places: dict[Name, Any]) -> bool:
    """Whether something under ``leaf`` shows; what does not is cut off."""
    leaf.left = [each for each in leaf.left if pruned(each, places)]
    leaf.right = [each for each in leaf.right if pruned(each, places)]
    return bool(leaf.left or leaf.right) or (leaf.name[0].decode(), *leaf.name[1:]) in places


def moved(every: list[Operation]) -> dict[Name, Name]:
    """Where an element is that was moved: what the move that counts put in."""
    moves: dict[Name, list[Operation]] = {}
    for each in every:
        if each.verb == "move":
            moves.setdefault(each.argument[1][0], []).append(each)

    def turn(move: Operation, of: list[Operation]) -> int:
        return 1 + max((turn(each, of) for each in of if move.saw(each)), default=0)

    places = {}
    for what, of in moves.items():
        last = max(of, key=lambda each: (turn(each, of), each.actor.encode(), each.seq))
        places[what] = last.actor, last.seq, 0
    return places


def shown(every: list[Operation], alive: list[Operation]) -> dict[Name, Any]:
    """Values nobody removed, by the place where they were put in or that the move that counts gave them."""
    erased = {name for each in every if each.verb == "erase" for name in each.argument}
    living = {(each.actor, each.seq) for each in alive}
    places = moved(every)
    return {
        places.get(what, what): value
        for each in every
        if each.verb == "insert" and (each.actor, each.seq) in living
        for offset, value in enumerate(each.argument[1])
        if (what := (each.actor, each.seq, offset)) not in erased
    }


def layout(every: list[Operation], alive: list[Operation]) -> list[tuple[Name, bool]]:
    """All elements in order, each once, where it is: its name, and whether it shows."""
    places, showing = moved(every), shown(every, alive)
    names = {
        places.get(what, what): what
        for each in every
        if each.verb == "insert"
        for offset in range(len(each.argument[1]))
        if (what := (each.actor, each.seq, offset))
    }
    read = [(leaf.name[0].decode(), *leaf.name[1:]) for leaf in grown(every).read()]
    return [(names[place], place in showing) for place in read if place in names]


def sequence(every: list[Operation], alive: list[Operation]) -> list[Any]:
    """What shows, in order."""
    places = shown(every, alive)
    names = [(leaf.name[0].decode(), *leaf.name[1:]) for leaf in grown(every).read()]
    return [places[name] for name in names if name in places]


def listed(every: list[Operation], alive: list[Operation]) -> tuple[bool, Any]:
    shown = sequence(every, alive)
    return bool(shown), shown


def text(every: list[Operation], alive: list[Operation]) -> tuple[bool, Any]:
    shown = "".join(sequence(every, alive))
    return bool(shown), shown


RULES: dict[str, Any] = {
    "bounded": bounded,
    "counter": counter,
    "flag": flag(is_in),
    "flag-disable-wins": flag(is_in_strictly),
    "list": listed,
    "multi": multi,
    "register": register,
    "set": members(is_in),
    "set-remove-wins": members(is_in_strictly),
    "text": text,
}


def about(operations: list[Operation], kind: str, path: tuple[str, ...]) -> list[Operation]:
    """Those on one object; for a text or list deletes too, since where something hangs depends on what showed."""
    every = [each for each in operations if each.kind == kind and each.path == path]
    if kind in ("list", "text"):
        every += [each for each in operations if not each.kind and path[: len(each.path)] == each.path]
    return every


def live(operations: list[Operation], path: tuple[str, ...]) -> list[tuple[str, Any]]:
    """Kinds and values of all that is live at ``path``, the one that shows first."""
    alive = survive(operations)
    found = []
    for kind, rule in RULES.items():
        every = about(operations, kind, path)
        there, value = rule(every, [each for each in alive if each in every])
        if there:
            found.append((kind, value))
    below = value_of(operations, path)
    if below:
        found.append(("map", below))
    return sorted(found, key=lambda each: each[0])


def value_of(operations: list[Operation], above: tuple[str, ...] = ()) -> dict[str, Any]:
    """What a document that has seen exactly ``operations`` shows."""
    depth = len(above)
    keys = {each.path[depth] for each in operations if len(each.path) > depth and each.path[:depth] == above}
    shown = {key: live(operations, (*above, key)) for key in sorted(keys)}
    return {key: kinds[0][1] for key, kinds in shown.items() if kinds}


def conflicts_of(operations: list[Operation], above: tuple[str, ...] = ()) -> list[tuple[Any, ...]]:
    """Path, types, what shows and what does not, wherever something does not: above before below, keys in order."""
    alive = survive(operations)
    found: list[tuple[Any, ...]] = []
    for key in sorted(value_of(operations, above), key=canonical):
        path = (*above, key)
        kinds = live(operations, path)
        others = []
        for at, (kind, value) in enumerate(kinds):
            every = about(operations, kind, path)
            losers = ranked(every, [each for each in alive if each in every])[1:] if kind == "register" else []
            others += losers if not at else [value, *losers]
        if others:
            found.append((path, tuple(kind for kind, _ in kinds), kinds[0][1], tuple(others)))
        if any(kind == "map" for kind, _ in kinds):
            found += conflicts_of(operations, path)
    return found
