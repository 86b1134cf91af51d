"""The same box office without the race: a seat is taken before the bank is asked, and a count never passes zero.

gossamer sim swarm examples/lost_update/fixed.py --seeds 50
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from crdt import CrdtError
from mesh import Node
from sim import World, scenario

sys.path.insert(0, str(Path(__file__).parent))
from shop import SEATS, charge
from story import sell


def open_office(node: Node) -> None:
    """Sell seats on this node, to whoever asks."""
    seats = node.bounded("seats")
    seats.increment(SEATS)

    @node.on("buy")
    async def buy(request: Any) -> str:
        try:
            seats.decrement()
        except CrdtError:
            return "sold out"
        try:
            await charge(request.body)
        except BaseException:
            seats.increment()  # no money, no seat
            raise
        node.set("sold").add(request.body)
        return "sold"


@scenario(nodes=3, seeds=range(5))
def box_office(world: World) -> None:
    """Every seat that was sold is counted, also under a split."""
    sell(world, open_office, lambda node: node.bounded("seats").value)
