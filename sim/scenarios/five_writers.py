"""One page, five carets: what each types stays in one piece, whoever is cut off meanwhile."""

from __future__ import annotations

from crdt import Cursor
from sim.checkers.convergence import check_clocks, check_values, converged
from sim.scenario import scenario
from sim.scenarios.split import everybody_sees_everybody
from sim.world import World

LETTERS = 24  # each writer types so many, one at a time
CHORES = ["milk", "bread", "salt", "tea", "soap"]


class Caret:
    """A writer who begins at the top of the page and types on behind their own last letter, wherever that got."""

    def __init__(self, world: World, number: int) -> None:
        self._node, self._letter = world.nodes[number], chr(ord("a") + number)
        self._last: Cursor | None = None

    def type(self) -> None:
        page = self._node.node.text("page")
        at = 0 if self._last is None else self._last.index + 1
        page.insert(at, self._letter)
        self._last = page.cursor(at)


@scenario(nodes=5, seeds=range(10))
def five_writers(world: World) -> None:
    """Five type on one page through a split, all from its top: each one's words are whole, a chore that all move is
    there once, and one that somebody did is gone."""
    world.run_until(everybody_sees_everybody, within=10.0)
    world.nodes[0].node.list("chores").extend(CHORES)
    world.run_until(converged, within=10.0)
    carets = [Caret(world, number) for number in range(5)]
    with world.latency(0.03):
        with world.partition(world.nodes[:2], world.nodes[2:]):
            for letter in range(LETTERS // 2):
                for caret in carets:
                    caret.type()
                world.run_for(0.1)
                check_clocks(world)
                if letter < len(world.nodes):
                    world.nodes[letter].node.list("chores").move(0, 4)
            world.run_for(1.0)
            assert not converged(world)  # the split did bite
            left, right = world.nodes[0].node, world.nodes[4].node
            done = left.list("chores").value[2]
            left.list("chores").pop(2)
            right.list("chores").move(right.list("chores").value.index(done), 0)
        for _ in range(LETTERS // 2):
            for caret in carets:
                caret.type()
            world.run_for(0.05)
    world.run_until(converged, within=20.0)
    check_values(world)
    page = str(world.nodes[0].node.text("page"))
    assert len(page) == 5 * LETTERS
    for number in range(5):
        assert chr(ord("a") + number) * LETTERS in page, f"mixed: {page}"
    chores = world.nodes[3].node.list("chores").value
    assert sorted(chores) == sorted(each for each in CHORES if each != done), chores
