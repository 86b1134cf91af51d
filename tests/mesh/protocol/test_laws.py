"""Laws of the coupled protocol, on states reached by operations and faults (never on invented fields)."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.protocol.effects import Started
from mesh.protocol.facts import MemberDown, MemberUp
from mesh.protocol.members import State
from tests.pair import Box, Wire

NAMES = "abcde"


@dataclass(frozen=True)
class Step:
    """One thing that happens, and how long until the next."""

    what: str
    who: str
    whom: str
    pause_s: float


KINDS = ["write", "write", "write", "crash", "restart", "freeze", "thaw", "cut", "link", "heal", "full"]
PAUSES_S = [0.0, 0.001, 0.02, 0.3, 1.0, 3.0]
names = st.sampled_from(NAMES)
steps = st.lists(st.builds(Step, st.sampled_from(KINDS), names, names, st.sampled_from(PAUSES_S)), max_size=25)


def play(wire: Wire, story: list[Step]) -> None:
    for step in story:
        box = wire[step.who]
        match step.what:
            case "write" if box.alive and not box.frozen:
                box.write(3)
            case "crash" if box.alive and not box.frozen:
                wire.crash(step.who)
            case "restart" if not box.alive:
                wire.restart(step.who)
            case "freeze" if box.alive and not box.frozen:
                wire.freeze(step.who)
            case "thaw" if box.frozen:
                wire.thaw(step.who)
            case "cut":
                wire.cut(step.who, [name for name in NAMES if name != step.who])
            case "link" if step.who != step.whom:
                wire.cut(step.who, step.whom)
            case "heal":
                wire.heal()
            case "full":
                wire.full ^= {(step.who, step.whom)}
        wire.run_for(step.pause_s)


def end_faults(wire: Wire) -> None:
    wire.full = set()
    wire.heal()
    for box in wire.boxes.values():
        if box.frozen:
            wire.thaw(box.name)


class Watcher:
    """Checks after every event of every node that its member table only rises while the process lives."""

    def __init__(self, wire: Wire) -> None:
        self.seen: dict[tuple[str, int, bytes], tuple[int, State]] = {}
        for box in wire.boxes.values():
            self.attach(box)

    def attach(self, box: Box) -> None:
        run = box.run

        def checked(event: object) -> None:
            run(event)  # type: ignore[arg-type]
            for member in box.stack.swim.table:
                key = box.name, box.lives, member.record.node
                assert member.rank >= self.seen.get(key, member.rank), f"{box.name} went back on {member.record.name}"
                self.seen[key] = member.rank

        box.run = checked  # type: ignore[method-assign]


@settings(max_examples=60, deadline=None)
@given(story=steps, seed=st.integers(0, 1 << 16))
def test_after_the_faults_all_agree_on_who_lives_and_what_was_written(story: list[Step], seed: int) -> None:
    wire = Wire(NAMES, seed=seed, latency_ms=(0.1, 3.0))
    watcher = Watcher(wire)
    wire.meet_all()
    play(wire, story)
    end_faults(wire)
    wire.run_until(lambda: wire.is_complete() and wire.agree(), within_s=15.0)
    wire.run_for(2.0)
    assert wire.is_complete() and wire.agree()
    assert watcher.seen
    assert_quiet(wire)


def assert_quiet(wire: Wire) -> None:
    """At rest nothing is on its way, nobody is doubted, and every timer belongs to a standing duty or a link."""
    for box in wire.boxes.values():
        if not box.alive:
            continue
        stack = box.stack
        assert not stack.logs.asked and not stack.logs.lacking and not stack.repair.explain()["queued"]
        assert not any(
            stack.swim.table.get(other.id).state is State.SUSPECT for other in wire.boxes.values() if other.alive
        )
        doubted = {("swim", "suspect", other.id) for other in wire.boxes.values() if not other.alive}
        if doubted:
            doubted.add(("partition", "suspected"))  # the last doubt ended just now: was it a cut?
        standing = {("swim", "tick"), ("overlay", "duty"), ("overlay", "shuffle"), ("repair", "round")}
        linked = {("swim", "watch", peer) for peer in box.links}
        assert set(box.timers) - standing - linked - doubted == set()
        assert standing <= set(box.timers)


def test_two_hundred_seeds_of_a_day_with_five_nodes() -> None:
    """Random crashes, freezes and cuts from a plain seed: cheap breadth beside Hypothesis' depth."""
    for seed in range(200):
        rng = Random(seed)
        wire = Wire(NAMES, seed=seed, latency_ms=(0.1, 2.0))
        wire.meet_all()
        drawn = [(rng.choice(KINDS), rng.choice(NAMES), rng.choice(NAMES)) for _ in range(8)]
        play(wire, [Step(*each, pause_s=rng.choice([0.0, 0.01, 0.05, 0.6])) for each in drawn])
        end_faults(wire)
        wire.run_until(lambda wire=wire: wire.is_complete() and wire.agree(), within_s=15.0)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1 << 16), size=st.integers(2, 9))
def test_one_news_costs_at_most_two_messages_a_link(seed: int, size: int) -> None:
    wire = Wire([f"n{number}" for number in range(size)], seed=seed, latency_ms=(0.1, 5.0))
    wire.meet_all()
    wire.run_for(1.0)
    wire.recording = True
    box = wire["n0"]
    box.run(Started(("elsewhere:2",)))
    wire.run_for(0.2)
    told = [line for line in wire.lines if "records" in line]
    assert size - 1 <= len(told) <= size * (size - 1)
    assert all(each.stack.members()[0].addresses == ("elsewhere:2",) for each in wire.boxes.values())


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1 << 16), pauses=st.lists(st.sampled_from([0.05, 0.2, 0.5, 0.9, 1.2]), max_size=12))
def test_no_starved_process_is_declared_down(seed: int, pauses: list[float]) -> None:
    """Every process stops for up to 1.2 s again and again, as when the CPU is overloaded: nobody is ever down."""
    wire = Wire(NAMES, seed=seed, latency_ms=(0.1, 3.0))
    wire.meet_all()
    for pause in pauses:
        name = wire.rng.choice(NAMES)
        wire.freeze(name)
        wire.run_for(pause)
        wire.thaw(name)
        wire.run_for(0.1)
    wire.run_for(5)
    assert not [fact for box in wire.boxes.values() for fact in box.told(MemberDown)]
    assert all(len(box.told(MemberUp)) == 4 for box in wire.boxes.values())
