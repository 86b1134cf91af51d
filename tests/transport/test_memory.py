"""The in-memory transport keeps the promises of ``transport.base``, and no more than those."""

from __future__ import annotations

import pytest

from tests.fake_env import FakeEnv
from transport.base import SECOND, Conduit, DialFailed, DialFault
from transport.memory import WIRE_BYTES, MemoryNetwork, MemoryTransport


class End:
    """A conduit and what it told."""

    def __init__(self, conduit: Conduit) -> None:
        self.conduit, self.got, self.closed, self.drained = conduit, list[bytes](), list[str](), 0
        conduit.on_message, conduit.on_close, conduit.on_drained = self.got.append, self.closed.append, self._drained

    def _drained(self) -> None:
        self.drained += 1


class Net:
    def __init__(self) -> None:
        self.env = FakeEnv(1)
        self.network = MemoryNetwork(self.env)
        self.accepted: list[End] = []
        self.a, self.b = MemoryTransport(self.network, "a"), MemoryTransport(self.network, "b")
        self.listener = self.env.run(self.b.listen("b:7", lambda conduit: self.accepted.append(End(conduit))))

    def dial(self, address: str, within: float = 5.0) -> Conduit | DialFailed:
        outcome: list[Conduit | DialFailed] = []
        self.a.dial(address, outcome.append, 3 * SECOND)
        assert not outcome  # never inside the call
        self.env.run_until(lambda: bool(outcome), within)
        self.env.run_for(0)
        assert len(outcome) == 1
        return outcome[0]

    def pair(self) -> tuple[End, End]:
        outcome = self.dial("b:7")
        assert not isinstance(outcome, DialFailed)
        return End(outcome), self.accepted[-1]


def test_messages_arrive_in_order_and_never_inside_the_call() -> None:
    net = Net()
    one, other = net.pair()
    assert one.conduit.binding == other.conduit.binding and len(one.conduit.binding) == 32
    for n in range(100):
        one.conduit.send(bytes([n]))
    assert not other.got
    net.env.run_for(0)
    assert other.got == [bytes([n]) for n in range(100)] and one.conduit.backlog == 0


def test_each_conduit_has_a_binding_of_its_own() -> None:
    net = Net()
    assert net.pair()[0].conduit.binding != net.pair()[0].conduit.binding


@pytest.mark.parametrize(
    ("address", "fault"),
    [
        ("b:8", DialFault.REFUSED),
        ("nowhere:7", DialFault.UNREACHABLE),
        ("b", DialFault.INVALID),
        (":7", DialFault.INVALID),
        ("b:x", DialFault.INVALID),
        ("b:99999", DialFault.INVALID),
    ],
)
def test_why_a_dial_made_nothing(address: str, fault: DialFault) -> None:
    outcome = Net().dial(address)
    assert isinstance(outcome, DialFailed) and outcome.fault is fault


def test_a_cut_is_silent_and_holds_back_what_was_sent() -> None:
    net = Net()
    one, other = net.pair()
    net.network.cut("a", "b")
    one.conduit.send(b"x")
    outcome = net.dial("b:7")
    assert isinstance(outcome, DialFailed) and outcome.fault is DialFault.TIMEOUT
    assert not other.got and not one.closed and not other.closed and one.conduit.backlog == 1
    net.network.heal("a", "b")
    net.env.run_for(0)
    assert other.got == [b"x"]


def test_a_dial_succeeds_when_the_cut_heals_in_time_unless_called_off() -> None:
    net = Net()
    net.network.cut("a", "b")
    outcome: list[Conduit | DialFailed] = []
    net.a.dial("b:7", outcome.append, 3 * SECOND)
    net.a.dial("b:7", outcome.append, 3 * SECOND).cancel()
    net.env.run_for(0.5)
    net.network.heal("a", "b")
    net.env.run_for(5)
    assert len(outcome) == 1 and not isinstance(outcome[0], DialFailed)


def test_the_wire_takes_so_much_a_turn_and_says_when_it_is_drained() -> None:
    net = Net()
    one, other = net.pair()
    for _ in range(8):
        one.conduit.send(bytes(WIRE_BYTES // 2))
    assert one.conduit.backlog == 4 * WIRE_BYTES
    net.env.run_until(lambda: bool(other.got), within=1)
    assert one.conduit.backlog >= 3 * WIRE_BYTES - 1 and not one.drained
    net.env.run_for(0)
    assert (one.conduit.backlog, one.drained) == (0, 1)


def test_close_flushes_and_tells_each_end_once() -> None:
    net = Net()
    one, other = net.pair()
    one.conduit.send(b"last")
    one.conduit.close("enough")
    one.conduit.send(b"too late")
    one.conduit.close("again")
    assert not one.closed
    net.env.run_for(1)
    assert other.got == [b"last"] and one.closed == ["enough"] and other.closed == ["closed by the other end"]
    assert not net.network._conduits


def test_a_reset_loses_what_was_under_way_and_both_see_it() -> None:
    net = Net()
    one, other = net.pair()
    one.conduit.send(b"x")
    net.network.reset("a", "b")
    net.env.run_for(1)
    assert not other.got and one.closed == other.closed == ["reset"]


def test_a_port_is_taken_once_and_free_after() -> None:
    net = Net()
    with pytest.raises(OSError, match="taken"):
        net.env.run(net.b.listen("b:7", lambda conduit: None))
    with pytest.raises(OSError, match="not on"):
        net.env.run(net.b.listen("a:7", lambda conduit: None))
    assert net.listener.addresses == ("b:7",)
    net.env.run(net.listener.close())
    outcome = net.dial("b:7")
    assert isinstance(outcome, DialFailed) and outcome.fault is DialFault.REFUSED
    assert net.env.run(net.b.listen("b:0", lambda conduit: None)).addresses != ("b:0",)
