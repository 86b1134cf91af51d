"""The overlay at sizes above a full mesh: the same algorithm, fewer links, one component."""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from random import Random

from mesh.messages import Contact, Disconnect, Shuffle
from mesh.protocol import effects as fx
from mesh.protocol.facts import LinkLost
from mesh.protocol.hyparview import HyParView, HyParViewConfig
from mesh.protocol.members import MemberChanged, State
from tests.pair import Wire
from transport.base import SECOND
from transport.identity import NodeId


def grown(size: int, seed: int = 1, *, apart_ms: float = 0.0) -> Wire:
    """Each newcomer knows one member, as from a bootstrap list. ``apart_ms``: they live on a map of that size."""
    names = [f"n{number:02}" for number in range(size)]
    wire = Wire(names, seed=seed, latency_ms=(0.5, 3.0))
    if apart_ms:
        wire.places = {name: (wire.rng.uniform(0, apart_ms), wire.rng.uniform(0, apart_ms)) for name in names}
    for number in range(1, size):
        wire.link(wire[names[number]], wire[names[wire.rng.randrange(number)]])
        wire.run_for(0.02)
    wire.run_until(lambda: knows_all(wire), within_s=3.0)
    wire.run_for(4)
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
    wire.run_for(6)
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


def crowd(size: int) -> tuple[HyParView, list[NodeId]]:
    """An overlay that knows ``size`` members, all alive, none linked."""
    overlay = HyParView(NodeId(bytes(32)), HyParViewConfig(), Random(1))
    members = [NodeId(bytes([number + 1]) * 32) for number in range(size)]
    overlay.handle(fx.Started(("me:1",)), 0)
    for member in members:
        overlay.handle(MemberChanged(member, None, State.ALIVE, (f"{member.short}:1",)), 0)
    return overlay, members


def test_the_lost_are_dialled_every_two_seconds_at_first_and_for_ever_after() -> None:
    overlay, (lost, *_) = crowd(3)
    overlay.handle(MemberChanged(lost, State.ALIVE, State.DOWN, ("lost:1",)), 0)
    now, dials = 0, []
    due = SECOND
    while now < 3600 * SECOND:
        now = due
        for effect in overlay.handle(fx.TimerFired(("overlay", "duty")), now):
            if isinstance(effect, fx.SetTimer):
                due = now + effect.after_ns
            elif isinstance(effect, fx.Connect) and effect.member == lost:
                dials.append(now)
    gaps = [(later - earlier) / SECOND for earlier, later in pairwise(dials)]
    early = [gap for gap, at in zip(gaps, dials, strict=False) if at < 60 * SECOND]
    assert min(early) > 0.9 and max(early) < 3.1
    assert all(10 <= gap < 31.1 for gap, at in zip(gaps, dials, strict=False) if at > 130 * SECOND)
    assert dials[-1] > 3560 * SECOND, "it never ends"


def test_who_left_is_not_dialled() -> None:
    overlay, (gone, *_) = crowd(3)
    assert fx.Forget(gone) in overlay.handle(MemberChanged(gone, State.ALIVE, State.LEFT, ("gone:1",)), 0)
    for at in range(1, 60):
        effects = overlay.handle(fx.TimerFired(("overlay", "duty")), at * SECOND)
        assert not any(isinstance(each, fx.Connect) and each.member == gone for each in effects)


def test_too_many_links_are_let_go_with_a_word() -> None:
    overlay, members = crowd(17)
    effects = [effect for member in members for effect in overlay.handle(fx.LinkUp(member, 1), 0)]
    closed = [each.peer for each in effects if isinstance(each, fx.CloseLink)]
    assert len(closed) == 17 - 12
    assert {each.peer for each in effects if isinstance(each, fx.Send) and isinstance(each.message, Disconnect)} == set(
        closed
    )


def test_contacts_of_a_shuffle_are_bounded_and_met_while_there_is_room() -> None:
    overlay, members = crowd(20)
    overlay.handle(fx.LinkUp(members[0], 1), 0)
    strangers = [NodeId(number.to_bytes(2, "big") * 16) for number in range(9000, 9200)]
    connected = forgotten = 0
    for stranger in strangers:
        shuffle = Shuffle([Contact(stranger, ["x:1"])], answer=True)
        for effect in overlay.handle(fx.Received(members[0], shuffle), 0):
            connected += isinstance(effect, fx.Connect)
            forgotten += isinstance(effect, fx.Forget)
    passive = overlay.explain()["passive"]
    assert passive == 6 * overlay.target and connected == len(strangers)
    assert forgotten == len(strangers) - passive, "no wish outlives its place in the passive view"
    answer = overlay.handle(fx.Received(members[0], Shuffle([], answer=False)), 0)
    assert [type(each.message) for each in answer if isinstance(each, fx.Send)] == [Shuffle]
