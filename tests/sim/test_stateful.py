"""Hypothesis drives a world of real nodes: any order of writes, cuts, heals, crashes and waits ends in agreement."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sim import Fault, SimNode, World, check_clocks, converged
from sim.scenarios.split import everybody_sees_everybody

NODES = 3
WHO = st.integers(0, NODES - 1)


class Mesh(RuleBasedStateMachine):
    """Counts what was flushed, and demands it back at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.world: World | None = None
        self.cuts: list[Fault] = []
        self.flushed = self.written = 0

    @initialize(seed=st.integers(0, 1000))
    def begin(self, seed: int) -> None:
        self.world = World(seed)
        self.world.spawn(NODES)

    def at(self, who: int) -> SimNode:
        assert self.world is not None
        return self.world.nodes[who]

    @rule(who=WHO, durable=st.booleans())
    def write(self, who: int, durable: bool) -> None:
        assert self.world is not None
        node = self.at(who)
        if node.alive:
            node.node.counter("n").increment()
            self.written += 1
            if durable:
                self.world.run(node.node.space("main").flush())
                self.flushed = max(self.flushed, node.node.counter("n").value)

    @rule(who=WHO)
    def cut(self, who: int) -> None:
        assert self.world is not None
        self.cuts.append(self.world.partition([self.at(who)]))

    @precondition(lambda self: self.cuts)
    @rule()
    def heal(self) -> None:
        self.cuts.pop().remove()

    @rule(who=WHO)
    def crash_or_restart(self, who: int) -> None:
        node = self.at(who)
        if node.alive:
            node.crash()
        else:
            node.restart()

    @rule(seconds=st.sampled_from([0.001, 0.1, 1.0, 20.0]))
    def wait(self, seconds: float) -> None:
        assert self.world is not None
        self.world.run_for(seconds)

    @invariant()
    def equal_clocks_are_equal_states(self) -> None:
        if self.world is not None:
            check_clocks(self.world)

    def teardown(self) -> None:
        if self.world is None:
            return
        try:
            for cut in self.cuts:
                cut.remove()
            for node in self.world.nodes:
                if not node.alive:
                    node.restart()
            self.world.run_until(everybody_sees_everybody, within=60.0)
            self.world.run_until(converged, within=30.0)
            value = self.at(0).node.counter("n").value
            assert self.flushed <= value <= self.written, f"{value} of {self.written}, {self.flushed} were flushed"
        finally:
            self.world.close()


TestMesh = Mesh.TestCase
TestMesh.settings = settings(max_examples=15, stateful_step_count=20, deadline=None, derandomize=True)
