"""Whatever a peer says, at whatever time: ``Stack.handle`` is total, bounded, and believes nothing it should not."""

from __future__ import annotations

import hashlib
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from mesh import messages as m
from mesh.protocol import effects as fx
from mesh.protocol.effects import Head, Slot
from mesh.protocol.facts import MemberDown, PeerMisbehaved
from mesh.protocol.record import sign
from mesh.protocol.stack import Stack, StackConfig
from mesh.protocol.swim import SwimConfig
from tests.pair import MESH, QuickSuite, Wire
from transport.base import SECOND
from transport.identity import Identity, NodeId, Origin

CAST = sorted((Identity(hashlib.sha256(bytes([n])).digest(), QuickSuite()) for n in range(5)), key=lambda each: each.id)
ME, *OTHERS = CAST

keys = st.sampled_from([each.id for each in CAST] + [NodeId(b"?" * 32)])
peers = st.sampled_from([each.id for each in OTHERS])
origins = st.builds(lambda key: Origin.of(key, b"12345678"), keys)
numbers = st.sampled_from([0, 1, 2, 3, 1 << 40, (1 << 63) - 1])
seqs = st.integers(0, 6)
streams = st.sampled_from(["main", "other"])
hashes = st.sampled_from([b"a" * 16, b"b" * 16])
words = st.sampled_from(["alive", "closed", "silent", "unlinked", "left", "evicted", "timeout", "nonsense"])
haves = st.lists(st.builds(m.Have, streams, origins, seqs, hashes), max_size=4)


def record_of(who: Identity, incarnation: int, left: bool, forged: bool) -> bytes:
    raw = sign(who, MESH, name="x", incarnation=incarnation, left=left, addresses=("x:1",), durable=False).raw
    return raw[:-1] + bytes([raw[-1] ^ forged])


records = st.builds(record_of, st.sampled_from(CAST), st.integers(0, 4), st.booleans(), st.just(False)) | st.builds(
    record_of, st.sampled_from(CAST), st.integers(0, 4), st.booleans(), st.booleans()
)
messages = st.one_of(
    st.builds(m.Rumour, keys, numbers, st.booleans(), keys, words, st.just(b"") | records),
    st.builds(m.Records, st.lists(records, max_size=3)),
    st.builds(m.Probe, numbers),
    st.builds(m.ProbeAck, numbers),
    st.builds(m.ProbeFor, numbers, keys),
    st.builds(m.ProbeVerdict, numbers, keys, words),
    st.builds(m.Shuffle, st.lists(st.builds(m.Contact, keys, st.just(["x:1"])), max_size=3), st.booleans()),
    st.builds(m.Disconnect, words),
    st.builds(m.IHave, haves),
    st.builds(m.Graft, streams, origins, seqs),
    st.builds(m.Prune, origins),
    st.builds(m.Digest, hashes, st.booleans()),
    st.builds(m.Vector, haves, st.booleans()),
    st.builds(m.Want, streams, origins, seqs),
)  # fmt: skip
slots = st.builds(Slot, streams, origins)
heads = st.builds(Head, seqs, hashes)
events = st.one_of(
    st.builds(fx.LinkUp, peers, st.just(1_000_000)),
    st.builds(fx.LinkClosed, peers, words),
    st.builds(fx.DialRefused, keys, st.booleans()),
    st.builds(fx.Received, peers, messages),
    st.builds(fx.Received, peers, messages),
    st.builds(fx.Received, peers, messages),
    st.builds(fx.Heard, peers),
    st.builds(fx.Held, slots, seqs, heads, st.none() | peers, st.sampled_from([0, 100])),
    st.builds(fx.PushRefused, peers, slots, heads),
    st.builds(fx.Repeated, peers, slots, seqs),
    st.builds(fx.Gap, peers, slots, seqs),
    st.builds(fx.Forked, origins),
    st.builds(fx.LoopLate, st.sampled_from([1, 10**8, 10**12])),
    st.just(fx.Started(("me:1",))),
    st.just(fx.Started(("me:2",))),
)


@settings(max_examples=150, deadline=None)
@given(talk=st.lists(st.tuples(events, st.sampled_from([0, 10**6, 10**8, 10**9, 10**10])), max_size=40))
def test_nothing_a_peer_says_makes_it_fall_over(talk: list[tuple[fx.Event, int]]) -> None:
    stack = Stack(ME, MESH, StackConfig(), Random(1), name="me")
    now, timers, linked = SECOND, dict.fromkeys([("stale", "timer")], 0), set()
    for event, pause in talk:
        batch = [event, *(fx.TimerFired(key) for key, due in timers.items() if due <= now)]
        for each in batch:
            if isinstance(each, fx.TimerFired) and timers.pop(each.key, None) is None:
                continue  # called off by another of this batch
            if isinstance(each, fx.LinkUp):
                linked.add(each.peer)
            if isinstance(each, fx.LinkClosed):
                linked.discard(each.peer)
            for effect in stack.handle(each, now):
                match effect:
                    case fx.SetTimer(key, after_ns):
                        assert after_ns >= 0
                        timers[key] = now + after_ns
                    case fx.CancelTimer(key):
                        timers.pop(key, None)
                    case fx.Send(peer, message):
                        assert peer != ME.id and m.encode(message)
                        assert peer in linked, (each, effect)
                    case fx.Push(to):
                        assert isinstance(each, fx.Held) and each.size and each.source not in to and set(to) <= linked
                    case fx.Serve(peer, slot, after):
                        assert peer in linked and stack.logs.head(slot).seq > after
                    case fx.Connect(member, _) | fx.Forget(member):
                        assert member != ME.id
        assert stack.incarnation <= 10 and stack.members() and stack.explain()
        mine = next(view for view in stack.members() if view.id == ME.id)
        assert mine.state == "alive", "others cannot bury us"
        now += pause
    cancelled = {each.key for each in stack.handle(fx.Leave(), now) if isinstance(each, fx.CancelTimer)}
    assert set(timers) - {("stale", "timer")} <= cancelled, "a node that left leaves no timer behind"


def linked_pair() -> tuple[Stack, Identity, Identity]:
    stack = Stack(ME, MESH, StackConfig(), Random(1), name="me")
    stack.handle(fx.Started(("me:1",)), SECOND)
    stack.handle(fx.LinkUp(OTHERS[0].id, 10**6), SECOND)
    stack.handle(
        fx.Received(OTHERS[0].id, m.Records([record_of(each, 1, False, False) for each in OTHERS[:2]])), SECOND
    )
    return stack, OTHERS[0], OTHERS[1]


def test_a_forged_record_costs_the_link_and_changes_nothing() -> None:
    stack, peer, other = linked_pair()
    before = stack.members()
    effects = stack.handle(fx.Received(peer.id, m.Records([record_of(other, 2, True, True)])), SECOND)
    assert fx.CloseLink(peer.id, "banned") in effects
    assert any(isinstance(each, fx.Emit) and isinstance(each.fact, PeerMisbehaved) for each in effects)
    assert stack.members() == before


def test_an_invented_incarnation_is_not_believed() -> None:
    """Else one liar could put a member down for ever, at an incarnation that it cannot outlive."""
    stack, peer, other = linked_pair()
    for node in (other.id, ME.id):
        rumour = m.Rumour(node, (1 << 63) - 1, True, peer.id, "timeout")
        assert stack.handle(fx.Received(peer.id, rumour), 10 * SECOND) == []
    assert {view.state for view in stack.members()} == {"alive"}


def test_the_dead_are_learnt_as_dead() -> None:
    """A newcomer is told of members that are down without a moment in which it takes them for alive."""
    wire = Wire("abc")
    wire["a"].stack.handle(fx.Heard(wire["b"].id), wire.now)
    wire.link(wire["b"], wire["a"])
    wire.run_for(1)
    wire.crash("b")
    wire.run_for(1)
    wire.link(wire["c"], wire["a"])
    wire.run_for(1)
    assert wire["c"].states() == {"a": "alive", "b": "down", "c": "alive"}
    assert not wire["c"].told(MemberDown)


def test_the_member_table_is_bounded_and_the_longest_gone_make_room() -> None:
    config = StackConfig(swim=SwimConfig(members_max=4))
    stack = Stack(ME, MESH, config, Random(1), name="me")
    stack.handle(fx.Started(("me:1",)), SECOND)
    stack.handle(fx.LinkUp(OTHERS[0].id, 10**6), SECOND)
    crowd = [Identity(hashlib.sha256(bytes([99, n])).digest(), QuickSuite()) for n in range(6)]
    for at, each in enumerate(crowd[:3]):
        stack.handle(fx.Received(OTHERS[0].id, m.Records([record_of(each, 1, at == 1, False)])), (2 + at) * SECOND)
    assert len(stack.members()) == 4
    out = stack.handle(fx.Received(OTHERS[0].id, m.Records([record_of(crowd[3], 1, False, False)])), 9 * SECOND)
    assert {view.id for view in stack.members()} == {ME.id, crowd[0].id, crowd[2].id, crowd[3].id}
    assert fx.Forget(crowd[1].id) in out
    out = stack.handle(fx.Received(OTHERS[0].id, m.Records([record_of(crowd[4], 1, False, False)])), 9 * SECOND)
    assert [each.fact.name for each in out if isinstance(each, fx.Emit)] == ["message.dropped"]
