"""A box office: seats are sold by requests to any node. It has a race; ``story.py`` finds it, and replays it."""

from __future__ import annotations

import asyncio
from typing import Any

from mesh import Node

SEATS = 10


def open_office(node: Node) -> None:
    """Sell seats on this node, to whoever asks."""

    @node.on("buy")
    async def buy(request: Any) -> str:
        left = node.register("left").value  # how many are left?
        if left is None:
            left = SEATS
        if left == 0:
            return "sold out"
        await charge(request.body)  # while the bank thinks, others are served too ...
        node.register("left").set(left - 1)  # ... and what they wrote is overwritten here
        node.set("sold").add(request.body)
        return "sold"


async def charge(customer: str) -> None:
    """The bank takes a moment."""
    await asyncio.sleep(0.02)
