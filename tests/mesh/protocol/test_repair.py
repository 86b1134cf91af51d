"""Anti-entropy against a dumb oracle, and its promises one by one."""

from __future__ import annotations

import hashlib
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.messages import ENTRIES_MAX, Digest, Graft, Have, IHave, LinkMessage, Vector, Want
from mesh.protocol import effects as fx
from mesh.protocol.effects import Effect, Event, Head, Slot
from mesh.protocol.logs import Logs
from mesh.protocol.stack import Stack, StackConfig
from tests.pair import MESH, QuickSuite, Wire
from transport.base import MILLISECOND, SECOND
from transport.identity import Identity, NodeId, Origin

CAST = [Identity(hashlib.sha256(bytes([n])).digest(), QuickSuite()) for n in range(4)]
ME, ANN, BOB, CID = CAST


def slot(number: int, stream: str = "main") -> Slot:
    return Slot(stream, Origin.of(bytes([number % 256]) * 32, number.to_bytes(8, "big")))


def head(seq: int, branch: bytes = b"-") -> Head:
    return Head(seq, hashlib.blake2b(branch + bytes([seq % 256]), digest_size=16).digest())


vectors = st.dictionaries(st.integers(0, 8).map(slot), st.integers(1, 6), max_size=8)


class Lab:
    """One stack, its clock, and its timers."""

    def __init__(self, held: dict[Slot, int], *linked: Identity, config: StackConfig | None = None) -> None:
        self.stack = Stack(ME, MESH, config or StackConfig(), Random(1), name="me")
        self.now = SECOND
        self.timers: dict[object, int] = {}
        for at, seq in held.items():
            self.do(fx.Held(at, 0, head(seq), None, 0))
        self.do(fx.Started(("me:1",)))
        for each in linked:
            self.do(fx.LinkUp(each.id, 2 * MILLISECOND))

    def do(self, event: Event) -> list[Effect]:
        effects = self.stack.handle(event, self.now)
        for effect in effects:
            if isinstance(effect, fx.SetTimer):
                self.timers[effect.key] = self.now + effect.after_ns
            elif isinstance(effect, fx.CancelTimer):
                self.timers.pop(effect.key, None)
        return effects

    def hear(self, who: Identity, message: LinkMessage) -> list[Effect]:
        return self.do(fx.Received(who.id, message))

    def wait(self, milliseconds: int, *, keep_alive: tuple[Identity, ...] = ()) -> list[Effect]:
        """Let time pass; what the timers bring."""
        until, out = self.now + milliseconds * MILLISECOND, []
        while due := [(when, repr(key), key) for key, when in self.timers.items() if when <= until]:
            self.now, _, key = min(due)
            del self.timers[key]
            for each in keep_alive:
                self.do(fx.Heard(each.id))
            out += self.do(fx.TimerFired(key))  # type: ignore[arg-type]
        self.now = until
        return out


def wants(effects: list[Effect]) -> list[tuple[NodeId, Slot, int]]:
    found = []
    for effect in effects:
        if isinstance(effect, fx.Send) and isinstance(effect.message, Want | Graft):
            message = effect.message
            found.append((effect.peer, Slot(message.stream, Origin(message.origin)), message.after))
    return found


def told(effects: list[Effect]) -> list[Have]:
    sent = [each.message for each in effects if isinstance(each, fx.Send)]
    return [have for message in sent if isinstance(message, Vector) for have in message.entries]


def haves(vector: dict[Slot, int]) -> list[Have]:
    return [Have(at.stream, at.origin, seq, head(seq).hash) for at, seq in sorted(vector.items())]


@given(mine=vectors, theirs=vectors)
def test_asks_for_exactly_what_it_lacks_and_tells_what_they_lack(
    mine: dict[Slot, int], theirs: dict[Slot, int]
) -> None:
    lab = Lab(mine, ANN)
    effects = lab.hear(ANN, Digest(b"x" * 16, ask=False)) + lab.hear(ANN, Vector(haves(theirs), whole=True))
    lacking = {at: mine.get(at, 0) for at, seq in theirs.items() if seq > mine.get(at, 0)}  # the oracle
    assert sorted(wants(effects)) == sorted((ANN.id, at, after) for at, after in lacking.items())
    assert {Slot(have.stream, Origin(have.origin)): have.seq for have in told(effects)} == mine


@given(mine=vectors, theirs=vectors)
def test_who_has_the_same_vector_now_is_asked_for_nothing_more(mine: dict[Slot, int], theirs: dict[Slot, int]) -> None:
    """Law: the last word of a neighbour counts. What it once held and gave up is nobody's to bring."""
    lab = Lab(mine, ANN, BOB)
    for each in (ANN, BOB):
        lab.hear(each, Vector(haves(theirs), whole=True))
    lab.hear(ANN, Digest(lab.stack.logs.digest(), ask=False))
    more = {at for at, seq in theirs.items() if seq > mine.get(at, 0)}
    assert {at: [*claims] for at, claims in lab.stack.logs.lacking.items()} == {at: [BOB.id] for at in more}
    lab.hear(BOB, Digest(lab.stack.logs.digest(), ask=False))
    assert not lab.stack.logs.lacking and not lab.stack.logs.asked
    assert not wants(lab.wait(20_000, keep_alive=(ANN, BOB)))


@given(mine=vectors, order=st.randoms(use_true_random=False))
def test_a_digest_depends_on_what_is_held_not_on_how_it_came(mine: dict[Slot, int], order: Random) -> None:
    one, other = Logs(100), Logs(100)
    for at, seq in mine.items():
        one.held(at, head(seq), None)
    shuffled = [(at, each) for at, seq in mine.items() for each in range(1, seq + 1)]
    order.shuffle(shuffled)
    for at, seq in sorted(shuffled, key=lambda item: item[1]):
        other.held(at, head(seq), None)
    assert one.digest() == other.digest()
    if mine:
        at = min(mine)
        other.held(at, head(mine[at], b"another branch"), None)
        assert one.digest() != other.digest(), "equal sequences of another history are not equal"


def test_equal_vectors_cost_one_digest_each_way() -> None:
    wire = Wire("ab")
    wire.meet_all()
    wire["a"].write()
    wire.run_for(20)
    wire.recording = True
    wire.run_for(20)
    talk = [line.split("  ")[-1] for line in wire.lines if "probe" not in line and "ack" not in line]
    assert set(talk) == {"digest"} and len(talk) <= 2 * 20 / 4


def test_only_what_changed_since_the_last_exchange_is_told() -> None:
    lab = Lab({slot(number): 1 for number in range(50)}, ANN)
    assert len(told(lab.hear(ANN, Digest(b"x" * 16, ask=False)))) == 50
    lab.do(fx.Held(slot(7), 2, head(2), None, 0))
    assert [have.seq for have in told(lab.hear(ANN, Digest(b"y" * 16, ask=False)))] == [2]
    again = [lab.hear(ANN, Digest(b"y" * 16, ask=False)) for _ in range(2)]
    assert [len(told(effects)) for effects in again] == [0, 50], "still unequal, nothing new: all of it"


def test_a_long_vector_is_told_in_several_messages() -> None:
    lab = Lab({slot(number): 1 for number in range(2500)}, ANN)
    effects = lab.hear(ANN, Digest(b"x" * 16, ask=False))
    parts = [each.message for each in effects if isinstance(each, fx.Send) and isinstance(each.message, Vector)]
    assert len(parts) == 3 and not any(part.whole for part in parts)
    assert len({have.origin for part in parts for have in part.entries}) == 2500
    assert all(len(part.entries) <= ENTRIES_MAX for part in parts)


def test_each_log_is_asked_of_one_neighbour_and_the_load_is_shared() -> None:
    theirs = {slot(number): 3 for number in range(9)}
    lab = Lab({}, ANN, BOB, CID)
    asked = wants([effect for who in (ANN, BOB, CID) for effect in lab.hear(who, Vector(haves(theirs), whole=True))])
    assert len(asked) == len({at for _, at, _ in asked}) == 9
    lab = Lab({}, ANN, BOB, CID)
    for who in (ANN, BOB, CID):
        lab.hear(who, IHave(haves(theirs)))
    peers = [peer for peer, _, _ in wants(lab.wait(30, keep_alive=(ANN, BOB, CID)))]
    assert len(peers) == 9


def test_who_does_not_deliver_is_passed_over() -> None:
    lab = Lab({}, ANN, BOB)
    assert wants(lab.hear(ANN, Vector(haves({slot(1): 5}), whole=True))) == [(ANN.id, slot(1), 0)]
    assert wants(lab.hear(BOB, Vector(haves({slot(1): 5}), whole=True))) == []
    assert wants(lab.wait(400, keep_alive=(ANN, BOB))) == []
    assert wants(lab.wait(600, keep_alive=(ANN, BOB)))[:1] == [(BOB.id, slot(1), 0)]
    lab.do(fx.Held(slot(1), 1, head(5), BOB.id, 100))
    assert wants(lab.wait(20_000, keep_alive=(ANN, BOB))) == [] and not lab.stack.logs.asked


def test_a_lone_holder_is_asked_again_ever_more_slowly() -> None:
    lab = Lab({}, ANN)
    lab.hear(ANN, Vector(haves({slot(1): 5}), whole=True))
    assert 3 <= len(wants(lab.wait(15_000, keep_alive=(ANN,)))) <= 5


def test_a_busy_server_is_not_passed_over_while_it_delivers() -> None:
    theirs = {slot(number): 1 for number in range(20)}
    lab = Lab({}, ANN, BOB)
    lab.hear(ANN, Vector(haves(theirs), whole=True))
    lab.hear(BOB, Vector(haves(theirs), whole=True))
    for number in range(20):
        assert wants(lab.wait(300, keep_alive=(ANN, BOB))) == []
        lab.do(fx.Held(slot(number), 1, head(1), ANN.id, 100))


def test_what_waits_in_our_own_queue_is_not_asked_for_again() -> None:
    """Seen on an overloaded machine: frames that waited to be verified looked like a neighbour that does not deliver,
    and hundreds of MB were sent for 20,000 operations. Once they stop arriving, patience runs as ever."""
    lab = Lab({}, ANN, BOB)
    lab.hear(ANN, Vector(haves({slot(1): 5}), whole=True))
    lab.hear(BOB, Vector(haves({slot(1): 5}), whole=True))
    for _ in range(50):
        lab.do(fx.Arriving(ANN.id))
        assert wants(lab.wait(100, keep_alive=(ANN, BOB))) == []
    assert wants(lab.wait(1000, keep_alive=(ANN, BOB)))[:1] == [(BOB.id, slot(1), 0)]


def test_a_node_that_was_late_itself_does_not_blame_its_neighbours() -> None:
    lab = Lab({}, ANN, BOB)
    lab.hear(ANN, Vector(haves({slot(1): 5}), whole=True))
    lab.hear(BOB, Vector(haves({slot(1): 5}), whole=True))
    lab.now += 3 * SECOND
    lab.do(fx.LoopLate(3 * SECOND))
    assert wants(lab.wait(300, keep_alive=(ANN, BOB))) == []


def test_what_was_asked_of_a_lost_link_is_asked_elsewhere_at_once() -> None:
    lab = Lab({}, ANN, BOB)
    lab.hear(ANN, Vector(haves({slot(1): 5}), whole=True))
    lab.hear(BOB, Vector(haves({slot(1): 5}), whole=True))
    assert wants(lab.do(fx.LinkClosed(ANN.id, "closed"))) == [(BOB.id, slot(1), 0)]


def test_another_history_at_the_same_sequence_is_fetched_once() -> None:
    lab = Lab({slot(1): 5}, ANN)
    other = [Have("main", slot(1).origin, 5, b"f" * 16)]
    assert wants(lab.hear(ANN, Vector(other, whole=True))) == [(ANN.id, slot(1), 4)]
    assert wants(lab.hear(ANN, Vector(other, whole=True))) == []
    digest = lab.stack.logs.digest()
    lab.do(fx.Forked(slot(1).origin))
    assert lab.stack.logs.digest() != digest, "nobody agrees on a forked log, so it is left out"
    assert wants(lab.hear(ANN, Vector([Have("main", slot(1).origin, 9, b"g" * 16)], whole=True))) == []


def test_a_window_bounds_what_one_neighbour_is_asked_for_and_a_liar_blocks_nobody() -> None:
    lies = {slot(number): 1 for number in range(1000)}
    lab = Lab({}, ANN, BOB)
    assert len(wants(lab.hear(ANN, Vector(haves(lies), whole=True)))) == 256
    assert wants(lab.hear(BOB, Vector(haves({slot(5000): 2}), whole=True))) == [(BOB.id, slot(5000), 0)]
    lab.do(fx.Held(slot(0), 1, head(1), ANN.id, 100))
    assert len(lab.stack.logs.asked) == 257


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1 << 16), writers=st.lists(st.sampled_from("abcdef"), min_size=1, max_size=20))
def test_a_healed_mesh_moves_each_missing_frame_about_once_a_node(seed: int, writers: list[str]) -> None:
    wire = Wire("abcdef", seed=seed, latency_ms=(0.2, 2.0))
    wire.meet_all()
    wire.cut("abc", "def")
    wire.run_for(6)
    for name in writers:
        wire[name].write()
    wire.run_for(1)
    frames = wire.frames
    wire.heal()
    wire.run_until(lambda: wire.is_complete() and wire.agree(), within_s=5.0)
    wire.run_for(2)
    assert wire.frames - frames <= 1.5 * 3 * len(writers) + 3, "three nodes lacked each frame"
