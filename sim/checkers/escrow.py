"""Rights of a bounded counter, accounted over all nodes at one moment: none overdrawn, wherever its parts are known.

Each node by itself shows a value that is not negative even when two sides of a cut spend the same rights: that shows
only when they meet. The oracle looks into all nodes at once and takes each actor's latest row, so it sees it at once.

Source  Balegas et al. 2015 (bounded counter CRDT).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sim.checkers.verdict import Violated

if TYPE_CHECKING:
    from sim.world import World

Row = tuple[int, int, dict[str, int]]  # sequence of the latest operation; granted less spent; handed over, by receiver


def _rows(node: Any, space: str, key: str) -> dict[str, Row]:
    """Each actor's row in one node's bounded counter, by the actor's name."""
    from crdt.bounded import BoundedStore  # late, as the mesh is: ``sim`` is imported by programs that have neither

    doc = node.space(space)._doc
    store, names = doc.find((key,), BoundedStore), doc.actors.names
    if store is None:
        return {}
    return {
        names[index]: (seq, own, {names[to]: total for to, total in sent.items()})
        for index, (seq, own, sent) in store.entries.items()
    }


def check_rights(world: World, key: str, space: str = "main") -> int:
    """Raise ``Violated`` when an actor spent rights it never held, as all nodes together know it; else the counter's
    true value. For a counter that is never removed."""
    latest: dict[str, Row] = {}
    for each in world.nodes:
        if each.answers:
            for actor, row in _rows(each.node, space, key).items():
                if actor not in latest or row[0] > latest[actor][0]:
                    latest[actor] = row
    rights = {actor: own - sum(sent.values()) for actor, (_, own, sent) in latest.items()}
    for _, _, sent in latest.values():
        for to, total in sent.items():
            rights[to] = rights.get(to, 0) + total
    overdrawn = {actor[:8]: held for actor, held in sorted(rights.items()) if held < 0}
    if overdrawn:
        raise Violated(f"rights of {space}/{key} are overdrawn: {overdrawn}, where all together are worth "
                       f"{sum(rights.values())}")  # fmt: skip
    return sum(rights.values())
