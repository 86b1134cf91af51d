"""The overlay at sizes above a full mesh: the same algorithm, fewer links, one component."""

from __future__ import annotations

from collections import deque

from mesh.protocol.facts import LinkLost
from tests.pair import Wire


def grown(size: int, seed: int = 1) -> Wire:
    """Each newcomer knows one member, as from a bootstrap list."""
    names = [f"n{number:02}" for number in range(size)]
    wire = Wire(names, seed=seed, latency_ms=(0.5, 3.0))
    for number in range(1, size):
        wire.link(wire[names[number]], wire[names[wire.rng.randrange(number)]])
        wire.run_for(0.02)
    wire.run_until(lambda: knows_all(wire), within_s=3.0)
    wire.run_for(8)
    return wire


def knows_all(wire: Wire) -> bool:
    live = [box for box in wire.boxes.values() if box.alive and not box.frozen]
    return all(list(box.states().values()).count("alive") == len(live) for box in live)


def is_connected(wire: Wire) -> bool:
    first = next(box for box in wire.boxes.values() if box.alive)
    seen, queue = {first.id}, deque([first])
    while queue:
        for peer in queue.popleft().links:
            if peer not in seen:
                seen.add(peer)
                queue.append(wire.by_id[peer])
    return len(seen) == sum(box.alive for box in wire.boxes.values())


def test_thirty_nodes_hold_few_links_and_stay_one() -> None:
    wire = grown(30)
    assert is_connected(wire)
    assert all(4 <= len(box.links) <= 16 for box in wire.boxes.values())
    for box in wire.boxes.values():
        assert {fact.cause for _, fact in box.told(LinkLost)} <= {"evicted", "replaced"}  # type: ignore[attr-defined]
    wire["n07"].write()
    wire.run_until(wire.agree, within_s=0.5)


def test_a_tree_settles_at_one_payload_a_node() -> None:
    wire = grown(24)
    for _ in range(3):
        wire["n05"].write()
        wire.run_for(0.3)
    before = wire.frames
    for _ in range(10):
        wire["n05"].write()
        wire.run_for(0.3)
    assert wire.agree()
    assert wire.frames - before <= 10 * (24 - 1) * 1.05, "payload messages within 5 % of N - 1"


def test_a_third_of_a_large_mesh_is_cut_off_and_returns() -> None:
    wire = grown(18)
    names = list(wire.boxes)
    wire.cut(names[:6], names[6:])
    wire.run_for(12)
    assert set(wire["n00"].states().values()) == {"alive", "down"}
    wire["n00"].write()
    wire["n17"].write()
    wire.heal()
    wire.run_until(lambda: knows_all(wire) and wire.agree() and is_connected(wire), within_s=5.0)


def test_nodes_that_die_in_a_large_mesh_are_missed_by_all() -> None:
    wire = grown(18)
    wire.crash("n03")
    wire.crash("n11")
    wire.run_until(lambda: knows_all(wire), within_s=0.5)
    wire.freeze("n05")
    wire.run_until(lambda: knows_all(wire), within_s=3.0)
