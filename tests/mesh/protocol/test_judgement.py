"""The small decisions of failure detection, each by itself."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.protocol.effects import Emit, SetTimer
from mesh.protocol.facts import PartitionHealed, PartitionSuspected
from mesh.protocol.partition import PartitionConfig, PartitionWatch
from mesh.protocol.suspicion import SuspicionConfig, Suspicions, suspicion_timeout_ns
from mesh.protocol.watch import Finding, Inquiry, Watch
from transport.base import MILLISECOND
from transport.identity import NodeId

A, B, C, D = (NodeId(letter.encode() * 32) for letter in "abcd")


@given(wanted=st.integers(0, 6), low=st.integers(1, 10**9), more=st.integers(0, 10**9))
def test_suspicion_shrinks_with_every_confirmation_from_most_to_least(wanted: int, low: int, more: int) -> None:
    times = [
        suspicion_timeout_ns(count, wanted=wanted, min_ns=low, max_ns=low + more) for count in range(wanted + 3)
    ]  # fmt: skip
    assert times == sorted(times, reverse=True)
    assert times[0] == (low + more if wanted else low) and times[wanted] == times[-1] == low


def test_time_in_which_we_slept_is_given_back_to_the_suspect() -> None:
    ms, late = MILLISECOND, 100 * MILLISECOND
    suspicions = Suspicions(SuspicionConfig())
    timer = suspicions.doubt(A, 0, accusers=1, others=0, is_own=True, health=0)
    assert timer.after_ns == 1400 * ms
    assert suspicions.due(A, 1399 * ms, late) is None, "stale"
    assert suspicions.slept(3000 * ms, 4000 * ms) == [SetTimer(("swim", "suspect", A), 400 * ms)]
    assert suspicions.due(A, 9000 * ms, late) == SetTimer(("swim", "suspect", A), 400 * ms), "rung late: a grace"
    assert suspicions.due(A, 9400 * ms, late) == 7600 * ms + 0 and A not in suspicions
    assert suspicions.due(A, 9500 * ms, late) is None and suspicions.end(A) == []


def test_every_combination_of_answers_about_a_closed_link_has_one_finding() -> None:
    words = [None, "alive", "closed", "silent", "unlinked"]
    for one, other, dial, deadline in product(words, words, ["", "refused", "failed"], [False, True]):
        inquiry = Inquiry(A, 1, [B, C], dial)
        inquiry.asked.update({B: one, C: other})
        found = inquiry.finding(deadline=deadline)
        if "alive" in (one, other):
            assert found is Finding.ALIVE
        elif not deadline and (None in (one, other) or not dial):
            assert found is Finding.OPEN
        elif {one, other} <= {"closed", "unlinked"} and dial == "refused":
            assert found is Finding.DEAD
        else:
            assert found is (Finding.MUTE if one == other == "closed" else Finding.UNCLEAR)


def test_with_nobody_to_ask_only_a_refusal_is_proof() -> None:
    findings = {dial: Inquiry(A, 1, [], dial).finding(deadline=True) for dial in ("", "refused", "failed")}
    assert findings == {"": Finding.UNCLEAR, "refused": Finding.DEAD, "failed": Finding.UNCLEAR}


@given(rtts=st.lists(st.integers(100_000, 50_000_000), min_size=20, max_size=60))
def test_the_probe_timeout_covers_nearly_every_answer(rtts: list[int]) -> None:
    watch, now, late = Watch(A, rtts[0], 0, asks_first=True), 0, 0
    for number, rtt in enumerate(rtts + rtts):
        watch.probed(number, now)
        late += rtt > watch.timeout_ns
        now += rtt
        assert watch.answered(number, now) and not watch.answered(number, now)
    # Of twice as many answers. The worst is a spike just when the last one is forgotten: at every sixth answer.
    assert late <= 2 * len(rtts) // 5 and 0 < watch.timeout_ns < 1_000 * MILLISECOND


def facts(effects: list[object]) -> list[object]:
    return [each.fact for each in effects if isinstance(each, Emit)]


@pytest.mark.parametrize(
    ("silent", "closed", "here", "told"),
    [
        ([B], [], (A, C, D), False),  # one of three others: a crash
        ([B, C], [], (A, D), True),  # two at once
        ([B], [], (A, C), True),  # half of the others, silent: may be a cut
        ([], [B], (A, C), False),  # half, but its links were closed: somebody was there to close them
        ([], [B, C], (A,), True),  # a cut that closes links
        ([B], [], (A,), True),  # the only other one
    ],
)
def test_a_partition_is_suspected_when_several_go_together(
    silent: list[NodeId], closed: list[NodeId], here: tuple[NodeId, ...], told: bool
) -> None:
    watch = PartitionWatch(PartitionConfig())
    timers = [watch.on_gone(each, is_silent=True) for each in silent]
    timers += [watch.on_gone(each, is_silent=False) for each in closed]
    assert [len(each) for each in timers] == [1] + [0] * (len(timers) - 1)
    assert isinstance(timers[0][0], SetTimer)
    gone = tuple(sorted(silent + closed))
    assert facts([*watch.on_window(here)]) == ([PartitionSuspected(gone, here)] if told else [])
    for each in gone:
        watch.on_back(each)
    assert facts([*watch.on_healed()]) == ([PartitionHealed(gone)] if told else [])
    assert facts([*watch.on_healed()]) == []


def test_who_leaves_meanwhile_is_not_healed() -> None:
    watch = PartitionWatch(PartitionConfig())
    for each in (B, C):
        watch.on_gone(each, is_silent=True)
    assert facts([*watch.on_window((A,))]) == [PartitionSuspected((B, C), (A,))]
    watch.on_lost(B)
    watch.on_back(B)
    watch.on_back(C)
    assert facts([*watch.on_healed()]) == [PartitionHealed((C,))]
