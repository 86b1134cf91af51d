"""One link per peer, over the in-memory transport and in virtual time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fake_env import FakeEnv, FastSuite
from transport.admission import admission
from transport.base import MILLISECOND, Conduit, DialFailed, Hint, Lane
from transport.dialer import Dialer
from transport.dialing import DialerConfig
from transport.identity import Identity, Mesh, NodeId
from transport.link import EstablishedLink, Refusal
from transport.memory import MemoryConduit, MemoryNetwork, MemoryTransport

OPEN = admission("m", secret=None, open=True)


class Node:
    """A dialer with a door, and a diary of what it told."""

    def __init__(self, net: Net, name: str, *, mesh: Mesh = OPEN, key: int | None = None) -> None:
        self.net, self.name, self.host, self.mesh = net, name, f"h{name}", mesh
        number = len(net.nodes) + 1 if key is None else key
        self.identity = Identity(bytes([number]) * 32, net.suite)
        self.boots = 0
        net.nodes[name] = self
        net.names[self.id] = name
        self.boot()

    def boot(self) -> None:
        self.boots += 1
        self.env = self.net.env.node(f"{self.name}{self.boots}")
        self.env.suite = self.net.suite
        self.env.transport = MemoryTransport(self.net.network, self.host)
        self.diary: list[tuple[str, str]] = []
        self.refused: list[Refusal] = []
        self.unreached: list[tuple[NodeId, bool]] = []
        self.dialer = Dialer(
            self.env, self.identity, self.mesh, config=self.net.config, on_link=self._on_link, on_lost=self._on_lost,
            on_refused=self.refused.append, on_unreached=lambda *each: self.unreached.append(each),
        )  # fmt: skip
        self.net.env.run(self.env.transport.listen(self.address, self.dialer.accept))

    def kill(self) -> None:
        """As ``kill -9``: the door refuses, links are reset, and the old process does nothing more."""
        self.dialer.close()
        self.net.network.kill(self.host)
        self.net.env.run_for(0)

    @property
    def id(self) -> NodeId:
        return self.identity.id

    @property
    def address(self) -> str:
        return f"{self.host}:7"

    def wish(self, other: Node, *addresses: str) -> None:
        self.dialer.connect(other.id, addresses or (other.address,))

    def _on_link(self, link: EstablishedLink) -> None:
        who = self.net.name_of(link.peer)
        assert self.diary[-1:] != [("up", who)]
        self.diary.append(("up", who))

    def _on_lost(self, link: EstablishedLink, cause: str) -> None:
        self.diary.append((cause, self.net.name_of(link.peer)))


class Net:
    def __init__(self, seed: int = 0, *, delay_ms: int = 0, config: DialerConfig | None = None) -> None:
        self.suite = FastSuite()
        self.env = FakeEnv(seed, suite=self.suite)
        rng = self.env.rng("delay")
        self.network = MemoryNetwork(self.env, delay_ns=lambda: rng.randint(0, delay_ms * MILLISECOND))
        self.nodes: dict[str, Node] = {}
        self.names: dict[NodeId, str] = {}
        self.config = config

    def name_of(self, peer: NodeId) -> str:
        return self.names[peer]

    def linked(self, *names: str) -> bool:
        """Whether these hold one live link for each pair, the same on both ends."""
        nodes = [self.nodes[name] for name in names or self.nodes]
        for one in nodes:
            for other in nodes:
                if one is not other:
                    here, there = one.dialer.links.get(other.id), other.dialer.links.get(one.id)
                    if here is None or there is None or here._conduit.other is not there._conduit:  # type: ignore[attr-defined]
                        return False
        return True


def test_a_wish_is_granted_at_once() -> None:
    net = Net()
    a, b = Node(net, "a"), Node(net, "b")
    a.wish(b)
    assert net.env.run_until(net.linked, within=1) < 0.01
    assert a.diary == [("up", "b")] and b.diary == [("up", "a")]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), delay=st.sampled_from([0, 1, 5, 40]), gap=st.integers(0, 60))
def test_crossed_dials_end_in_one_link_without_churn(seed: int, delay: int, gap: int) -> None:
    net = Net(seed, delay_ms=delay)
    a, b = Node(net, "a"), Node(net, "b")
    a.wish(b, b.address)
    net.env.run_for(gap / 1000)
    b.wish(a, a.address)
    net.env.run_until(net.linked, within=3)
    net.env.run_for(30)
    assert net.linked()
    assert a.diary == [("up", "b")] and b.diary == [("up", "a")]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), delay=st.sampled_from([0, 3, 30]))
def test_all_dialling_all_ends_in_one_link_a_pair(seed: int, delay: int) -> None:
    net = Net(seed, delay_ms=delay)
    for name in "abcde":
        Node(net, name)
    for one in net.nodes.values():
        for other in net.nodes.values():
            if other is not one:
                one.dialer.hint(Hint("scout", (other.address,), other.id))
                one.wish(other)
        one.dialer.hint(Hint("bootstrap", ("ha:7", "hb:7")))
    net.env.run_until(net.linked, within=5)
    net.env.run_for(60)
    assert net.linked()


def test_one_wrong_address_among_three_costs_a_stagger() -> None:
    net = Net()
    a, b = Node(net, "a"), Node(net, "b")
    net.network.add_host("hole")
    net.network.cut("ha", "hole")
    a.wish(b, "hole:7", "hb:9", b.address)
    assert net.env.run_until(net.linked, within=1) < 0.2


def test_a_bootstrap_address_is_tried_until_somebody_answers_and_rests_then() -> None:
    net = Net()
    a = Node(net, "a")
    net.network.add_host("hb")
    a.dialer.hint(Hint("bootstrap", ("hb:7",)))
    net.env.run_for(100)
    b = Node(net, "b")
    assert net.env.run_until(net.linked, within=31) > 0
    net.env.run_for(100)
    assert a.diary == [("up", "b")]
    assert a.dialer.explain()[0]["resolved"] == str(b.id)


def test_a_bootstrap_address_where_another_node_lives_now() -> None:
    net = Net()
    a, b = Node(net, "a"), Node(net, "b")
    a.dialer.hint(Hint("bootstrap", (b.address,)))
    net.env.run_until(net.linked, within=1)
    b.kill()
    b.identity = Identity(bytes([77]) * 32, net.suite)
    net.names[b.id] = "b"
    b.boot()
    net.env.run_until(net.linked, within=5)


def test_a_lost_peer_is_dialled_at_once_and_a_refusal_is_told() -> None:
    net = Net()
    a, b = Node(net, "a"), Node(net, "b")
    a.wish(b)
    net.env.run_until(net.linked, within=1)
    net.env.run_for(10)
    b.kill()
    assert net.env.run_until(lambda: bool(a.unreached), within=1) < 0.01
    assert a.diary == [("up", "b"), ("closed", "b")] and a.unreached[0] == (b.id, True)
    net.env.run_for(600)
    dials = len(a.unreached)
    assert 30 < dials < 80  # for ever, with back-off
    b.boot()
    net.env.run_until(net.linked, within=31)


def test_a_dead_process_is_told_at_once_though_another_address_of_it_leads_nowhere() -> None:
    net = Net()
    a, b = Node(net, "a"), Node(net, "b")
    net.network.cut("ha", "hole")
    a.wish(b, "hole:7", b.address)
    net.env.run_until(net.linked, within=1)
    net.env.run_for(10)
    b.kill()
    assert net.env.run_until(lambda: bool(a.unreached), within=1) < 0.1
    assert a.unreached == [(b.id, True)]
    net.env.run_for(4.5)
    assert len(a.unreached) <= 2  # once for the round, not again at its end


def test_a_dying_process_that_still_answers_is_looked_at_again_before_a_verdict() -> None:
    """Seen on a real host: links close first, the listener's backlog a moment later."""
    net = Net()
    a, b = Node(net, "a"), Node(net, "b")
    a.wish(b)
    net.env.run_until(net.linked, within=1)
    net.env.run_for(10)
    net.network._listeners[("hb", 7)].on_conduit = lambda conduit: conduit.close()
    b.dialer.close()
    net.env.run_for(0.02)
    assert not a.unreached
    b.kill()
    assert net.env.run_until(lambda: bool(a.unreached), within=1) < 0.1
    assert a.unreached == [(b.id, True)]


def test_fresh_news_is_tried_before_addresses_that_failed() -> None:
    net = Net()
    a, b = Node(net, "a"), Node(net, "b")
    holes = tuple(f"hole{n}:1" for n in range(20))
    for hole in holes:
        net.network.cut("ha", hole[:-2])
    b.kill()
    a.wish(b, *holes[:10])
    a.wish(b, *holes[10:])
    net.env.run_for(30)
    b.boot()
    a.wish(b)
    assert net.env.run_until(net.linked, within=6) < 4.5  # at most until the round under way has a dial to spare
    assert len(a.dialer.explain()[0]["addresses"]) == 16


def test_a_stale_door_of_a_living_host_is_no_refusal() -> None:
    net = Net()
    a, b = Node(net, "a"), Node(net, "b")
    a.wish(b, "hb:6", b.address)
    net.env.run_until(net.linked, within=1)
    net.env.run_for(10)
    net.network.reset("ha", "hb")
    net.env.run_until(net.linked, within=1)
    assert not a.unreached


def test_a_wish_leaves_the_queue_of_hints() -> None:
    net = Net()
    a, b = Node(net, "a"), Node(net, "b")
    for n in range(20):
        net.network.cut("ha", f"hole{n}")
        a.dialer.hint(Hint("mdns", (f"hole{n}:1",), Identity(n.to_bytes(32, "big"), net.suite).id))
    net.env.run_for(0.1)
    a.dialer.hint(Hint("mdns", (b.address,), b.id))
    net.env.run_for(0.1)
    assert not a.dialer.links  # it waits behind twelve that lead nowhere
    a.wish(b)
    assert net.env.run_until(net.linked, within=1) < 0.01


def test_a_stranger_with_many_names_is_a_few_lines() -> None:
    net = Net()
    a = Node(net, "a")
    other = admission("other", secret=None, open=True)
    for n in range(100):
        Node(net, f"n{n}", mesh=other, key=100 + n)
        liar = net.nodes[f"n{n}"]
        liar.env.transport = MemoryTransport(net.network, "evil")
        liar.dialer.hint(Hint("bootstrap", (a.address,)))
        net.env.run_for(0.01)
    assert len(a.refused) == 16 and a.dialer.refused["wrong-mesh"] >= 100


def test_silence_is_not_a_refusal() -> None:
    net = Net()
    a, b = Node(net, "a"), Node(net, "b")
    net.network.cut("ha", "hb")
    a.wish(b)
    net.env.run_for(20)
    assert a.unreached and not any(refused for _, refused in a.unreached)


def test_redial_does_not_wait_for_the_back_off() -> None:
    net = Net()
    a, b = Node(net, "a"), Node(net, "b")
    b.kill()
    a.wish(b)
    net.env.run_for(300)
    b.boot()
    a.dialer.redial(b.id)
    assert net.env.run_until(net.linked, within=1) < 0.01


def test_a_live_hint_wakes_a_peer_in_back_off() -> None:
    net = Net()
    a, b = Node(net, "a"), Node(net, "b")
    b.kill()
    a.wish(b)
    net.env.run_for(300)
    b.boot()
    a.dialer.hint(Hint("scout", (b.address,), b.id))
    assert net.env.run_until(net.linked, within=1) < 0.6


@pytest.mark.parametrize(("dialler", "other"), ["ab", "ba"])
def test_a_peer_that_lost_power_is_not_locked_out_by_its_half_open_link(dialler: str, other: str) -> None:
    net = Net()
    for name in "ab":
        Node(net, name)
    one, two = net.nodes[dialler], net.nodes[other]
    one.wish(two)
    net.env.run_until(net.linked, within=1)
    net.env.run_for(10)
    net.network.cut("ha", "hb")  # the power goes: no end is seen
    for conduit in list(net.network._conduits):
        net.network.forget(conduit)
        conduit._queue.clear()
    net.network._listeners.pop((one.host, 7))
    net.network.heal("ha", "hb")
    one.boot()
    one.wish(two)
    assert net.env.run_until(net.linked, within=5) < 0.01
    assert two.diary == [("up", one.name), ("replaced", one.name), ("up", one.name)]


def test_a_larger_key_whose_link_broke_unseen_by_the_smaller_gets_a_new_one() -> None:
    net = Net()
    small, large = sorted((Node(net, "a"), Node(net, "b")), key=lambda node: node.id)
    small.wish(large)
    net.env.run_until(net.linked, within=1)
    net.env.run_for(10)
    conduit = large.dialer.links[small.id]._conduit
    conduit._closed("reset")  # type: ignore[attr-defined]
    conduit._queue.clear()  # type: ignore[attr-defined]
    large.wish(small)
    net.env.run_until(net.linked, within=2)
    assert small.diary[-2:] == [("replaced", large.name), ("up", large.name)]


def test_outsiders_are_told_of_once_and_not_hammered() -> None:
    net = Net()
    a, b = Node(net, "a"), Node(net, "b", mesh=admission("other", secret=None, open=True))
    dials = 0
    listen = b.dialer.accept

    def count(conduit: Conduit) -> None:
        nonlocal dials
        dials += 1
        listen(conduit)

    net.network._listeners[("hb", 7)].on_conduit = count
    a.dialer.hint(Hint("bootstrap", (b.address,)))
    net.env.run_for(300)
    assert [each.reason for each in a.refused] == ["wrong-mesh"] == [each.reason for each in b.refused]
    assert 3 <= dials <= 6
    assert a.dialer.explain()[0]["addresses"][0]["outcome"] == "wrong-mesh"


def test_ones_own_address_in_the_list_does_no_harm() -> None:
    net = Net()
    a, b = Node(net, "a"), Node(net, "b")
    for node in (a, b):
        node.dialer.hint(Hint("bootstrap", (a.address, b.address)))
    net.env.run_until(net.linked, within=1)
    net.env.run_for(100)
    assert {each.reason for each in a.refused} == {"selfie"} and len(a.refused) == 1


def test_denied_peers_are_cut_silently_and_come_back() -> None:
    net = Net()
    a, b = Node(net, "a"), Node(net, "b")
    a.wish(b)
    b.wish(a)
    net.env.run_until(net.linked, within=1)
    a.dialer.deny({b.id})
    b.dialer.deny({a.id})
    net.env.run_for(60)
    assert not a.dialer.links and not b.dialer.links and not a.refused and not b.refused
    assert not any(refused for _, refused in a.unreached + b.unreached)
    a.dialer.deny(set())
    b.dialer.deny(set())
    net.env.run_until(net.linked, within=1)


def test_three_hundred_half_open_connections_keep_nobody_out() -> None:
    net = Net(delay_ms=2)
    a, b = Node(net, "a"), Node(net, "b")
    net.network.add_host("evil")
    held: list[Conduit] = []
    evil = MemoryTransport(net.network, "evil")

    def keep(outcome: Conduit | DialFailed) -> None:
        assert not isinstance(outcome, DialFailed)
        held.append(outcome)

    for _ in range(300):
        evil.dial(a.address, keep, 1000 * MILLISECOND)
    net.env.run_until(lambda: len(held) == 300, within=1)
    assert a.dialer.counts["half_open"] <= 16
    b.wish(a)
    assert net.env.run_until(net.linked, within=1) < 0.1
    net.env.run_for(6)
    assert a.dialer.counts["half_open"] == 0
    assert len(a.refused) <= 1  # one line, not three hundred


def test_an_honest_node_on_the_same_host_as_a_flood_gets_in() -> None:
    net = Net(delay_ms=2)
    a, b = Node(net, "a"), Node(net, "b")
    for _ in range(300):
        b.env.transport.dial(a.address, lambda outcome: None, 1000 * MILLISECOND)
    net.env.run_for(0.5)
    b.wish(a)
    assert net.env.run_until(net.linked, within=1) < 0.1


def test_the_table_is_bounded_and_wishes_are_not_the_ones_to_go() -> None:
    net = Net(config=DialerConfig(candidates_max=20))
    a, b = Node(net, "a"), Node(net, "b")
    b.kill()
    a.wish(b)
    for n in range(200):
        a.dialer.hint(Hint("scout", (f"h{n}:1",), Identity(n.to_bytes(32, "big"), net.suite).id))
    assert len(a.dialer.explain()) == 20 and a.dialer.counts["candidates_dropped"] == 181
    b.boot()
    net.env.run_until(net.linked, within=31)


def test_at_most_sixteen_dials_and_wishes_go_first() -> None:
    net = Net()
    a, b = Node(net, "a"), Node(net, "b")
    for n in range(100):
        net.network.cut("ha", f"hole{n}")
        a.dialer.hint(Hint("mdns", (f"hole{n}:1", f"hole{n}:2"), Identity(n.to_bytes(32, "big"), net.suite).id))
    net.env.run_for(0.5)
    assert a.dialer.counts["dials"] == 12
    a.wish(b)
    assert net.env.run_until(net.linked, within=1) < 0.01
    net.env.run_for(900)  # 800 rounds of 4 s, 6 at a time
    assert a.dialer.counts["dials"] == 0 and len(a.dialer.explain()) == 1  # what nobody repeats is forgotten


def test_close_ends_everything_and_tells() -> None:
    net = Net()
    a, b = Node(net, "a"), Node(net, "b")
    a.wish(b)
    net.env.run_until(net.linked, within=1)
    a.dialer.links[b.id].try_send(Lane.CONTROL, b"bye")
    a.dialer.close()
    net.env.run_for(60)
    assert a.diary == [("up", "b"), ("left", "b")] and b.diary == [("up", "a"), ("closed", "a")]
    assert not net.network._conduits


def test_an_evicted_peer_is_not_dialled_back_by_a_hint() -> None:
    net = Net()
    a, b = Node(net, "a"), Node(net, "b")
    a.dialer.hint(Hint("scout", (b.address,), b.id))
    net.env.run_until(net.linked, within=1)
    a.dialer.links[b.id].close("evicted")
    net.env.run_for(1)
    a.dialer.hint(Hint("scout", (b.address,), b.id))
    net.env.run_for(30)
    assert not a.dialer.links
    a.wish(b)  # but by a wish
    net.env.run_until(net.linked, within=1)


def test_the_same_seed_sends_the_same_bytes_at_the_same_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    wire: list[tuple[int, str, bytes]] = []
    send = MemoryConduit.send

    def heard(conduit: MemoryConduit, message: bytes) -> None:
        wire.append((net.env.mono(), conduit.host, message))
        send(conduit, message)

    monkeypatch.setattr(MemoryConduit, "send", heard)
    runs = []
    for seed in (3, 3, 4):
        net = Net(seed, delay_ms=5)
        for name in "abc":
            Node(net, name)
        for one in net.nodes.values():
            for other in net.nodes.values():
                one.wish(other)
        net.env.run_for(20)
        net.nodes["c"].kill()
        net.env.run_for(20)
        net.nodes["c"].boot()
        net.nodes["a"].dialer.deny({each.id for each in net.nodes.values()})
        net.env.run_for(20)
        runs.append(wire[:])
        wire.clear()
    assert runs[0] == runs[1] != runs[2] and len(runs[0]) > 20


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1_000_000), delay=st.sampled_from([0, 2, 20, 100]))
def test_after_any_weather_each_pair_has_one_link_and_nothing_is_left_over(seed: int, delay: int) -> None:
    """Resets, kills, restarts, cuts and heals at random moments; then quiet."""
    net = Net(seed, delay_ms=delay)
    rng, names = net.env.rng("weather"), "abcd"
    dead: list[Node] = []
    cuts: list[tuple[str, str]] = []

    def wish_all(node: Node) -> None:
        for other in net.nodes.values():
            if other is not node:
                node.wish(other)

    for name in names:
        Node(net, name)
    for node in net.nodes.values():
        wish_all(node)
    for _ in range(40):
        net.env.run_for(rng.choice([0, 0.001, 0.01, 0.1, 1, 6]))
        one, other = rng.sample(names, 2)
        match rng.choice(["reset", "kill", "boot", "cut", "heal", "redial"]):
            case "reset":
                net.network.reset(f"h{one}", f"h{other}")
            case "kill" if net.nodes[one] not in dead:
                net.nodes[one].kill()
                dead.append(net.nodes[one])
            case "boot" if dead:
                dead[0].boot()
                wish_all(dead.pop(0))
            case "cut":
                net.network.cut(f"h{one}", f"h{other}")
                cuts.append((f"h{one}", f"h{other}"))
            case "heal" if cuts:
                net.network.heal(*cuts.pop(0))
            case "redial":
                net.nodes[one].dialer.redial(net.nodes[other].id)
    for pair in cuts:
        net.network.heal(*pair)
    for node in dead:
        node.boot()
        wish_all(node)
    net.env.run_until(net.linked, within=40)
    net.env.run_for(90)
    assert net.linked()
    for node in net.nodes.values():
        dialer = node.dialer
        assert dialer.counts["dials"] == dialer.counts["half_open"] == len(dialer._committed) == 0
        assert not any(row["dialing"] for row in dialer.explain())
