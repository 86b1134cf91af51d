"""Links over the in-memory transport, in virtual time: handshake, lanes and ends put together."""

from __future__ import annotations

import pytest

from tests.fake_env import FakeEnv
from transport.admission import admission
from transport.base import MILLISECOND, Conduit, DialFailed, Lane
from transport.identity import Identity, Mesh, NodeId
from transport.link import EstablishedLink, Refusal, establish
from transport.memory import MemoryNetwork, MemoryTransport


def cheap(secret: bytes, salt: bytes) -> bytes:
    return (secret + salt).ljust(32, b".")[:32]


OPEN = admission("m", secret=None, open=True)
SECRET = admission("m", secret="s1", open=False, stretch=cheap)


class Pair:
    """Two nodes on two hosts, and what came of one dialling the other."""

    def __init__(self, seed: int = 0, *, mesh: Mesh = OPEN, other: Mesh | None = None, expected: NodeId | None = None,
                 key: int = 2) -> None:  # fmt: skip
        self.env = FakeEnv(seed)
        self.network = MemoryNetwork(self.env)
        self.a, self.b = Identity(bytes([1]) * 32), Identity(bytes([key]) * 32)
        self.links: dict[str, EstablishedLink] = {}
        self.refused: dict[str, Refusal] = {}
        self.frames: dict[str, list[tuple[Lane, bytes]]] = {"a": [], "b": []}
        self.closed: dict[str, list[str]] = {"a": [], "b": []}

        def accept(conduit: Conduit) -> None:
            self.establish("b", conduit, self.b, other or mesh, dialed=False)

        def dialled(outcome: Conduit | DialFailed) -> None:
            assert not isinstance(outcome, DialFailed)
            self.establish("a", outcome, self.a, mesh, dialed=True, expected=expected)

        self.env.run(MemoryTransport(self.network, "hb").listen("hb:7", accept))
        MemoryTransport(self.network, "ha").dial("hb:7", dialled, 1000 * MILLISECOND)

    def establish(self, who: str, conduit: Conduit, identity: Identity, mesh: Mesh, *, dialed: bool,
                  expected: NodeId | None = None) -> None:  # fmt: skip
        def on_link(link: EstablishedLink) -> None:
            self.links[who] = link
            link.on_frame = lambda lane, frame: self.on_frame(who, lane, frame)
            link.on_close = self.closed[who].append

        establish(
            self.env, conduit, identity, mesh, dialed=dialed, expected=expected, on_link=on_link,
            on_refused=lambda refusal: self.refused.__setitem__(who, refusal),
        )  # fmt: skip

    def on_frame(self, who: str, lane: Lane, frame: bytes) -> None:
        self.frames[who].append((lane, frame))
        self.links[who].consumed(lane, len(frame))

    def up(self) -> Pair:
        self.env.run_until(lambda: len(self.links) == 2, within=1)
        return self


def test_both_ends_learn_who_the_other_is() -> None:
    pair = Pair(mesh=SECRET).up()
    assert pair.links["a"].peer == pair.b.id and pair.links["b"].peer == pair.a.id
    assert pair.links["a"].dialed and not pair.links["b"].dialed


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (admission("m", secret="s2", open=False, stretch=cheap), "wrong-secret"),
        (OPEN, "wrong-secret"),
        (admission("n", secret="s1", open=False, stretch=cheap), "wrong-mesh"),
    ],
)
def test_outsiders_are_refused_and_both_sides_know_the_reason(other: Mesh, reason: str) -> None:
    pair = Pair(mesh=SECRET, other=other)
    pair.env.run_for(10)
    assert not pair.links
    assert {each.reason for each in pair.refused.values()} == {reason} and len(pair.refused) == 2
    assert sorted(each.error.told for each in pair.refused.values()) == [False, True]


def test_somebody_else_than_expected() -> None:
    pair = Pair(expected=Identity(bytes(32)).id)
    pair.env.run_for(10)
    assert {each.reason for each in pair.refused.values()} == {"unexpected-peer"}


def test_oneself() -> None:
    pair = Pair(key=1)
    pair.env.run_for(10)
    assert {each.reason for each in pair.refused.values()} == {"selfie"}


def test_a_silent_end_is_given_up_after_five_seconds() -> None:
    pair = Pair()
    pair.env.run_until(lambda: pair.network.is_cut("ha", "hb") or bool(pair.network._conduits), within=1)
    pair.network.cut("ha", "hb")
    pair.env.run_for(4.9)
    assert not pair.refused
    pair.env.run_for(0.2)
    assert {each.reason for each in pair.refused.values()} == {"handshake-timeout"}


def test_found_a_dialler_that_gave_up_waiting_for_the_welcome_broke_no_rule() -> None:
    """Its refusal came in upon a link that was up at the other end, which banned it: "no entry of kind 147". Thirty
    nodes in one process on a busy machine did so to each other."""
    pair = Pair()
    pair.env.run_until(lambda: "b" in pair.links, within=1)
    pair.network.cut("ha", "hb")  # the welcome is on its way
    pair.env.run_for(6)
    assert {who: each.reason for who, each in pair.refused.items()} == {"a": "handshake-timeout"}
    pair.network.heal("ha", "hb")
    pair.env.run_for(1)
    assert pair.links["b"].fault is None
    assert pair.closed["b"] == ["closed"]


def test_what_comes_after_a_quiet_turn_goes_at_once_and_what_follows_goes_together() -> None:
    """Neither waits for company when there is none, nor is a crowd sent one by one."""
    pair = Pair().up()
    pair.env.run_for(0.01)
    link, sent = pair.links["a"], list[bytes]()
    send = link._conduit.send
    link._conduit.send = lambda message: (sent.append(message), send(message))[1]  # type: ignore[method-assign]

    def burst(turn: int) -> None:
        for number in range(5):
            assert link.try_send(Lane.DIRECT, bytes([turn, number]))
        if turn < 2:
            pair.env.call_at(pair.env.mono(), lambda: burst(turn + 1))

    burst(0)
    pair.env.run_for(0.01)
    assert [len(message) for message in sent] == [4, 4 * 4, 5 * 4, 5 * 4]  # the first of all alone, then by turns
    assert [frame for _, frame in pair.frames["b"]] == [
        bytes([turn, number]) for turn in range(3) for number in range(5)
    ]
    link.try_send(Lane.DIRECT, b"again")
    assert len(sent) == 5


def test_frames_arrive_whole_in_order_and_lanes_overtake() -> None:
    pair = Pair().up()
    pair.env.run_for(0.01)
    one = pair.links["a"]
    sent = [(lane, bytes([lane, n % 256]) * (1 + n * 97 % 50_000)) for n in range(60) for lane in Lane if lane]
    for lane, frame in sent:
        assert one.try_send(lane, frame)
    one.try_send(Lane.CONTROL, b"now")
    pair.env.run_for(1)
    got = pair.frames["b"]
    assert got[:2] == [sent[0], (Lane.CONTROL, b"now")]  # the first frame after a quiet turn is gone by then
    for lane in (Lane.DIRECT, Lane.BROADCAST, Lane.SYNC):
        assert [frame for at, frame in got if at is lane] == [frame for at, frame in sent if at is lane]


def test_a_full_lane_says_so_and_calls_when_it_has_room() -> None:
    pair = Pair().up()
    called: list[Lane] = []
    one = pair.links["a"]
    one.on_writable = called.append
    frame, count = bytes(100_000), 0
    while one.try_send(Lane.SYNC, frame):
        count += 1
    assert 4_000_000 < count * 100_000 <= 4 << 20
    assert one.try_send(Lane.DIRECT, frame)  # lanes are bounded each by itself
    pair.env.run_for(1)
    assert called == [Lane.SYNC] and len(pair.frames["b"]) == count + 1


def test_a_receiver_that_is_not_done_holds_the_sender_back_but_never_control() -> None:
    pair = Pair().up()
    one, other = pair.links["a"], pair.links["b"]
    held: list[tuple[Lane, bytes]] = []
    other.on_frame = lambda lane, frame: held.append((lane, frame))
    frame = bytes(1 << 20)
    sent = 0
    for _ in range(20):
        while one.try_send(Lane.DIRECT, frame):
            sent += 1
        pair.env.run_for(0.1)
    assert len(held) == 4 and sent == 7  # the window, and the queue less what the extra costs
    one.try_send(Lane.CONTROL, b"alive")
    pair.env.run_for(0.1)
    assert held[-1] == (Lane.CONTROL, b"alive")
    for lane, each in held[:4]:
        other.consumed(lane, len(each))
    pair.env.run_for(0.1)
    assert sum(lane is Lane.DIRECT for lane, _ in held) == 7


def test_a_peer_that_takes_no_control_is_dead() -> None:
    pair = Pair().up()
    pair.network.cut("ha", "hb")
    for _ in range(2000):
        assert pair.links["a"].try_send(Lane.CONTROL, bytes(1000))
    pair.env.run_for(0.1)
    assert pair.closed["a"] == ["timeout"]


def test_close_flushes_and_tells_each_side_once() -> None:
    pair = Pair().up()
    pair.links["a"].try_send(Lane.CONTROL, b"bye")
    pair.links["a"].close("left")
    pair.links["a"].close("evicted")
    assert pair.closed["a"] == []  # never inside the call
    pair.env.run_for(0.1)
    assert pair.frames["b"] == [(Lane.CONTROL, b"bye")]
    assert pair.closed == {"a": ["left"], "b": ["closed"]}


def test_a_broken_path_is_seen_by_both() -> None:
    pair = Pair().up()
    pair.network.reset("ha", "hb")
    pair.env.run_for(0.1)
    assert pair.closed == {"a": ["closed"], "b": ["closed"]}


@pytest.mark.parametrize("junk", [b"\x09\x01x", b"\x00\x05x", b"\x11\x01", b"\x01\x00", b"\x11" + b"\xff" * 12])
def test_a_peer_that_breaks_the_rules_is_cut_off_and_named(junk: bytes) -> None:
    pair = Pair().up()
    pair.env.run_for(0.1)
    pair.links["a"]._conduit.send(junk)
    pair.env.run_for(0.1)
    assert pair.closed["b"] == ["banned"] and pair.links["b"].fault is not None
    assert pair.links["b"].fault.peer == pair.a.id
