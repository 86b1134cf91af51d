"""The scout: its decisions on made-up clocks, then its sockets in a network namespace."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transport.scouting import announcement, identity, in_namespace
from transport.base import MILLISECOND, SECOND, Hint
from transport.discovery import scoutcore
from transport.discovery.scoutcore import ASK_SLOWEST_NS, DATAGRAM_BYTES_MAX, REMEMBERED, Answer, Found, ScoutCore
from transport.identity import NodeId

VETH = "ip link add e0 type veth peer name e1; ip addr add 10.9.0.1/24 dev e0; ip link set e0 up; ip link set e1 up"


def core(number: int, *, tag: bytes = b"mesh-tag", loopback_only: bool = False, now: int = 0) -> ScoutCore:
    made = announcement(number, tag=tag, loopback_only=loopback_only)
    return ScoutCore(made, bytes([number]) * 8, Random(number), now)


def found_by(effects: list[Answer | Found]) -> list[Hint]:
    return [effect.hint for effect in effects if isinstance(effect, Found)]


def answers_in(effects: list[Answer | Found]) -> list[bytes]:
    return [effect.datagram for effect in effects if isinstance(effect, Answer)]


def test_one_question_and_one_answer_make_both_known() -> None:
    one, two = core(1), core(2)
    asked = two.on_datagram(0, one.ask(0), "10.0.0.1")
    assert found_by(asked) == [Hint("scout", ("10.0.0.1:5001",), NodeId(identity(1).id))]
    [answer] = answers_in(asked)
    assert len(answer) <= DATAGRAM_BYTES_MAX
    heard = one.on_datagram(1, answer, "fe80::2%eth0")
    assert found_by(heard) == [Hint("scout", ("[fe80::2%eth0]:5002",), NodeId(identity(2).id))]


def test_of_two_who_hear_of_each_other_at_once_the_greater_key_holds_back() -> None:
    one, two = core(1), core(2)
    [there, answer] = two.on_datagram(0, one.ask(0), "10.0.0.1")
    assert isinstance(there, Found)
    assert isinstance(answer, Answer)
    [here] = one.on_datagram(0, answer.datagram, "10.0.0.2")
    assert isinstance(here, Found)
    waits = {identity(1).id: here.after_ns, identity(2).id: there.after_ns}
    assert waits[min(waits)] == 0 < waits[max(waits)]


def test_it_asks_at_0_50_200_800_ms_then_ever_slower_with_jitter_up_to_a_cap() -> None:
    asker = core(1, now=SECOND)
    times = []
    for _ in range(30):
        times.append(asker.next_ask_ns - SECOND)
        asker.ask(asker.next_ask_ns)
    assert [at // MILLISECOND for at in times[:4]] == [0, 50, 200, 800]
    gaps = [after - before for before, after in itertools.pairwise(times[3:])]
    assert all(0 < gap <= ASK_SLOWEST_NS for gap in gaps)
    assert all(gap >= ASK_SLOWEST_NS * 0.75 for gap in gaps[5:])
    assert len({*gaps[5:]}) > 10  # jitter


def test_a_restart_asks_at_once_but_not_more_often_than_the_bound() -> None:
    asker = core(1)
    for _ in range(8):
        asker.ask(asker.next_ask_ns)
    now = asker.next_ask_ns - 1
    asker.restart(now)
    assert asker.next_ask_ns == now
    asker.ask(now)
    due = asker.next_ask_ns
    asker.restart(now + 1)
    assert asker.next_ask_ns == due


def test_copies_get_one_answer_and_one_hint_and_later_repeats_get_them_again() -> None:
    asker, other = core(1), core(2)
    ask = asker.ask(0)
    assert len(other.on_datagram(0, ask, "10.0.0.1")) == 2
    assert other.on_datagram(1, ask, "10.0.0.1") == []
    assert len(answers_in(other.on_datagram(50 * MILLISECOND, ask, "10.0.0.1"))) == 1
    assert len(found_by(other.on_datagram(2 * SECOND, ask, "10.0.0.1"))) == 1
    assert len(other.on_datagram(2 * SECOND, ask, "10.0.0.2")) == 2  # another interface, another address


def test_a_restarted_node_is_told_at_once() -> None:
    other = core(2)
    before = announcement(1)
    for boot in (b"a" * 8, b"b" * 8):
        ask = ScoutCore(before, boot, Random(1), 0).ask(0)
        assert len(found_by(other.on_datagram(0, ask, "10.0.0.1"))) == 1


def test_what_is_not_for_us_is_counted_and_nothing_else() -> None:
    me = core(1)
    stranger = core(3)
    [to_stranger] = answers_in(core(2).on_datagram(0, stranger.ask(0), "10.0.0.3"))
    cases = {
        "own": core(1).ask(0),
        "other_mesh": core(2, tag=b"another!").ask(0),
        "not_asked": to_stranger,  # an answer to somebody else, replayed at us
        "bad_size": bytes(DATAGRAM_BYTES_MAX + 1),
        "bad_shape": b"hello",
        "bad_signature": core(2).ask(0)[:-1] + b"\x00",
    }
    for reason, raw in cases.items():
        assert me.on_datagram(0, raw, "10.0.0.9") == [], reason
        assert me.counts[reason] == 1, reason


def test_a_newer_version_is_counted_and_its_fields_are_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoutcore, "VERSION", 2)
    newer = core(2).ask(0)
    monkeypatch.setattr(scoutcore, "VERSION", 1)
    me = core(1)
    assert me.on_datagram(0, newer, "10.0.0.2") == []
    assert me.counts["other_version"] == 1


def test_who_listens_on_loopback_only_hears_loopback_only() -> None:
    shy, wide = core(1, loopback_only=True), core(2)
    assert shy.on_datagram(0, wide.ask(0), "10.0.0.2") == []
    assert len(shy.on_datagram(0, wide.ask(0), "127.0.0.1")) == 2
    assert shy.on_datagram(0, wide.ask(0), "10.0.0.2") == []  # also when known already
    assert shy.counts["not_loopback"] == 2


@settings(max_examples=60, deadline=None)
@given(position=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_no_altered_datagram_is_believed(position: int, flip: int) -> None:
    genuine = bytearray(core(2).ask(0))
    genuine[position % len(genuine)] ^= flip
    me = core(1)
    for hint in found_by(me.on_datagram(0, bytes(genuine), "10.0.0.2")):
        # MessagePack may say the same in a longer way, outside the signed part; never something else.
        assert hint == Hint("scout", ("10.0.0.2:5002",), NodeId(identity(2).id))


@settings(max_examples=100, deadline=None)
@given(raw=st.binary(max_size=600))
def test_any_bytes_are_counted_and_never_raise(raw: bytes) -> None:
    me = core(1)
    assert me.on_datagram(0, raw, "10.0.0.2") == []
    assert me.counts.total() == 1


def test_a_flood_costs_a_bounded_number_of_verifications_answers_and_entries() -> None:
    verified = 0
    made = announcement(1)

    def verify(node: bytes, datagram: bytes, signature: bytes) -> bool:
        nonlocal verified
        verified += 1
        return True

    me = ScoutCore(
        scoutcore.Announcement(made.mesh_tag, made.node, made.port, made.sign, verify), bytes(8), Random(0), 0
    )
    rng = random.Random(0)
    answers = 0
    for n in range(3 * scoutcore.VERIFIES_PER_S):
        boot = ScoutCore(announcement(2), rng.randbytes(8), Random(0), 0)
        answers += len(answers_in(me.on_datagram(n, boot.ask(0), "10.0.0.2")))
    assert verified <= scoutcore.VERIFIES_PER_S
    assert answers <= scoutcore.ANSWERS_PER_S
    assert me.counts["verifies_limited"] >= 2 * scoutcore.VERIFIES_PER_S
    assert all(len(memory._entries) <= REMEMBERED for memory in (me._genuine, me._answered, me._told))
    later = ScoutCore(announcement(3), bytes(8), Random(0), 0).ask(0)
    assert len(me.on_datagram(SECOND, later, "10.0.0.3")) == 2  # honest ones get through again


def test_the_same_seed_asks_at_the_same_times() -> None:
    def times(make: Callable[[], ScoutCore]) -> list[int]:
        asker = make()
        return [asker.next_ask_ns for _ in range(12) if asker.ask(asker.next_ask_ns)]

    assert times(lambda: core(1)) == times(lambda: core(1))


@pytest.mark.lan
def test_scouts_meet_on_a_bare_loopback() -> None:
    in_namespace("meet_on_loopback")


@pytest.mark.lan
def test_a_failing_interface_hurts_no_other() -> None:
    in_namespace("a_failing_interface_hurts_no_other")


@pytest.mark.lan
def test_the_reachable_address_is_named() -> None:
    in_namespace("the_reachable_address_is_named", VETH)
