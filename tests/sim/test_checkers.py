"""Each checker says yes to what is right and no to what is wrong, shown on histories made by hand."""

from __future__ import annotations

from itertools import permutations
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdt.bounded import Bounded
from sim import SimNode, World
from sim.checkers import (
    Answer,
    Causality,
    Operation,
    SetFull,
    Tally,
    Violated,
    Winners,
    check_messages,
    check_quiet,
    check_rights,
    connected,
    linearizable,
)
from sim.checkers.counting import SUMS_MAX
from sim.checkers.linearizability import NEVER, register


def test_a_write_without_its_causes_is_out_of_order() -> None:
    oracle = Causality()
    oracle.wrote("a", frozenset())
    oracle.wrote("b", frozenset({"a"}))
    assert oracle.read("n1", 1, frozenset({"a"})) == ["a"]
    assert oracle.read("n1", 1, frozenset({"a", "b"})) == ["b"]
    with pytest.raises(Violated, match="without a"):
        oracle.read("n2", 1, frozenset({"b"}))
    assert oracle.read("n3", 1, frozenset({"b"}), lambda gone: gone) == ["b"]


def test_what_a_living_node_showed_it_goes_on_showing() -> None:
    oracle = Causality()
    oracle.wrote("a", frozenset())
    oracle.read("n1", 1, frozenset({"a"}))
    with pytest.raises(Violated, match="no longer shows a"):
        oracle.read("n1", 1, frozenset())
    other = Causality()
    other.wrote("a", frozenset())
    other.read("n1", 1, frozenset({"a"}))
    assert other.read("n1", 2, frozenset()) == []  # another life: what was not promised may be gone
    with pytest.raises(Violated, match="nobody wrote"):
        other.read("n1", 2, frozenset({"x"}))


def test_delivery_tells_lost_from_invented_and_how_long_it_took() -> None:
    delivery = SetFull()
    for each in "abc":
        delivery.add(each, 0.0)
    delivery.acknowledge("a", 1.0)
    delivery.acknowledge("b", 1.0)
    delivery.read([{"a"}, {"a", "b"}], 2.0)
    delivery.read([{"a", "b"}, {"a", "b"}], 3.0)
    held = delivery.judge({"a", "b"})
    held.demand(stable_within_s=1.0)
    assert held.stable_s[1.0] == 1.0 and held.stable_s[0.5] == 1.0 and not held.lost
    with pytest.raises(Violated, match="took"):
        held.demand(stable_within_s=0.5)
    assert delivery.judge({"a"}).lost == ("b",) and not delivery.judge({"a"}, excused={"b"}).lost
    assert delivery.judge({"a", "b", "x"}).invented == ("x",)
    assert delivery.judge({"a", "b"}, seen={"c"}).lost == ("c",)


@given(st.lists(st.tuples(st.integers(-5, 5), st.booleans()), max_size=10))
def test_a_counter_may_show_exactly_the_sums_that_are_possible(additions: list[tuple[int, bool]]) -> None:
    tally, sums = Tally(), {0}
    for delta, sure in additions:
        (tally.add if sure else tally.maybe)(delta)
        sums = {each + delta for each in sums} | (set() if sure else sums)
    assert {value for value in range(-60, 61) if value in tally} == sums


def test_past_its_bound_a_tally_knows_least_and_greatest() -> None:
    tally = Tally()
    for power in range(14):
        tally.maybe(1 << power)
    assert SUMS_MAX < 1 << 14 and 0 in tally and (1 << 14) - 1 in tally and 1 << 14 not in tally and -1 not in tally
    with pytest.raises(Violated, match="possible are 0 to"):
        tally.demand([1 << 14])


def test_a_beaten_write_is_no_winner() -> None:
    winners = Winners()
    winners.wrote("r", "one", None)
    winners.wrote("r", "two", "one")
    winners.wrote("r", "beside", None)
    winners.demand("r", "two", {"one", "two", "beside"})
    winners.demand("r", "beside", {"one", "two", "beside"})
    winners.demand("r", "one", {"one"})  # the later one never arrived
    with pytest.raises(Violated, match="had seen"):
        winners.demand("r", "one", {"one", "two"})


def test_links_at_one_end_and_lonely_nodes_are_not_connected() -> None:
    with World(1) as world:
        a, b, c = world.spawn(3)
        world.run_until(connected, within=10.0)
        check_quiet(world)
        links = a.node._runtime.dialer._links
        kept = dict(links)
        del links[b.node.id]
        assert "holds none" in connected.explain(world)
        links.update(kept)
        assert connected(world)
        for each in (a, b):
            del each.node._runtime.dialer._links[c.node.id]
        c.node._runtime.dialer._links.clear()
        assert connected.explain(world) == f"no way leads to {c.name}"
        with pytest.raises(Violated, match="messages"):
            check_messages(world, 1, factor=0.01)
        a.node._runtime.stack.logs.asked[object()] = None
        with pytest.raises(Violated, match="logs asked for"):
            check_quiet(world)


def explained(history: list[Operation]) -> bool:
    """By trying every order: the dumb oracle."""
    sure = [each for each in history if each.end < NEVER]
    for size in range(len(sure), len(history) + 1):
        for order in permutations(history, size):
            if not all(each in order for each in sure):
                continue
            if any(b.end < a.call for n, a in enumerate(order) for b in order[n + 1 :]):
                continue
            state = None
            for each in order:
                after = register(state, each.what, each.result, each.end < NEVER)
                if after is None:
                    break
                (state,) = after
            else:
                return True
    return False


@st.composite
def histories(draw: st.DrawFn) -> list[Operation]:
    made = []
    for number in range(draw(st.integers(0, 5))):
        call = draw(st.integers(0, 6))
        end = draw(st.one_of(st.integers(call + 1, 9), st.just(NEVER)))
        what = draw(st.sampled_from([("read",), ("write", 1), ("write", 2), ("cas", 1, 2)]))
        result = draw(st.sampled_from([None, 1, 2])) if what == ("read",) else draw(st.booleans())
        made.append(Operation(call * 10 + number, what, result, end if end == NEVER else end * 10 + number))
    return made


@settings(max_examples=150)
@given(histories())
def test_linearizable_agrees_with_trying_every_order(history: list[Operation]) -> None:
    assert (linearizable(history) is Answer.YES) == explained(history)


def test_a_search_that_costs_too_much_says_unknown() -> None:
    wide = [Operation(0, ("write", each), None, 100) for each in range(14)]
    wide.append(Operation(101, ("read",), 99, 102))
    assert linearizable(wide, steps_max=1000) is Answer.UNKNOWN
    assert linearizable(wide[:6] + wide[-1:]) is Answer.NO


def test_a_register_on_one_node_is_linearizable_and_on_two_sides_of_a_cut_it_is_not() -> None:
    """On real histories: several clients of one node, and one on each side of a cut."""
    with World(3) as world:
        a, b = world.spawn(2)
        world.run_until(connected, within=10.0)
        rng, history = world.seed.stream("story"), []

        def ask(node: SimNode, value: int | None) -> None:
            world.run_for(0.001)
            call, register = world.loop.now, node.node.register("r")
            result = register.value
            if value is not None:
                register.set(value)
            world.run_for(0.001)
            what = ("read",) if value is None else ("write", value)
            history.append(Operation(call, what, result if value is None else None, world.loop.now))

        for number in range(60):
            ask(a, number if rng.random() < 0.4 else None)
        assert linearizable(history) is Answer.YES
        with world.partition([a], [b]):
            ask(a, 1000)
            ask(b, None)
        assert linearizable(history) is Answer.NO


def test_rights_are_accounted_over_all_nodes_though_each_by_itself_is_right() -> None:
    """Two sides of a cut spend the same rights, behind the counter's back: each side shows a value above zero."""
    with World(4) as world:
        a, b = world.spawn(2)
        world.run_until(connected, within=10.0)
        a.node.bounded("q").increment(10)
        world.run_until(lambda: b.node.bounded("q").value == 10)
        a.node.bounded("q").transfer(4, to=b.node.space().actor)
        world.run_until(lambda: b.node.bounded("q").rights == 4)
        assert check_rights(world, "q") == 10
        with world.partition([a], [b]):
            a.node.bounded("q").decrement(6)
            with patch.object(Bounded, "_require", lambda self, amount: None):
                b.node.bounded("q").decrement(6)
            assert a.node.bounded("q").value == 4 and b.node.bounded("q").value == 6
            with pytest.raises(Violated, match=r"overdrawn.*-2"):
                check_rights(world, "q")
            world.run_for(3.0)
