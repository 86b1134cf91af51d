"""The overlay: links are held at both ends, and lead from everybody to everybody."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sim.world import World


def _links(world: World) -> dict[str, set[str]]:
    live = [each for each in world.nodes if each.answers]
    names = {each.node.id: each.name for each in live}
    return {each.name: {names[peer] for peer in each.node._runtime.dialer.links if peer in names} for each in live}


class Connected:
    """``connected(world)``: symmetric links, one component. For ``world.run_until``: a link up at one end only is
    normal for a moment."""

    name = "connected"

    def __call__(self, world: World) -> bool:
        return not self.explain(world)

    def explain(self, world: World) -> str:
        """What is wrong with the links; empty: nothing."""
        links = _links(world)
        for name, peers in links.items():
            for peer in sorted(peers):
                if name not in links[peer]:
                    return f"{name} holds a link to {peer}, which holds none to {name}"
        reached: set[str] = set()
        edge = list(links)[:1]
        while edge:
            name = edge.pop()
            if name not in reached:
                reached.add(name)
                edge += sorted(links[name])
        missing = sorted(links.keys() - reached)
        return f"no way leads to {', '.join(missing)}" if missing else ""


connected = Connected()
