"""Old and new versions in one mesh: they work together, and what nobody understands is said aloud."""

from __future__ import annotations

from mesh.protocol.facts import SpaceStalled
from sim.checkers.convergence import check_values, converged
from sim.checkers.overlay import connected
from sim.checkers.verdict import Violated
from sim.node import SimNode
from sim.scenario import scenario
from sim.scenarios.split import everybody_sees_everybody
from sim.versions import FIELD_OF_TOMORROW, newer, older, write_of_tomorrow
from sim.world import World

NOT_KNOWN_HERE = "a kind of message this version does not know"
NOT_KNOWN_THERE = "a kind of message a peer does not know"


def _frames(node: SimNode) -> dict[tuple[bytes, int], bytes]:
    """Every frame that a node holds of the space "main", as it holds it."""
    spaces = node.node._runtime.spaces
    held: dict[tuple[bytes, int], bytes] = {}
    for origin, log in spaces._replica("main").logs.items():
        for raw in spaces.frames_after(log.slot, log.floor.seq, 1 << 20) or ():
            held[bytes(origin), len(held)] = bytes(raw)
    return held


@scenario(nodes=4, seeds=range(10))
def version_mix(world: World) -> None:
    """Two nodes of tomorrow and two of yesterday: no link ends, all agree, and who is old relays the very bytes."""
    world.run_until(everybody_sees_everybody, within=10.0)
    new, other_new, *old = world.nodes
    for each in world.nodes:
        each.node.counter("n").increment()
    world.run_until(converged)
    for each in old:
        older(world, each)
    for each in (new, other_new):
        newer(world, each)
    world.run_for(3.0)
    world.run_until(connected, within=10.0)
    world.run_until(everybody_sees_everybody, within=10.0)
    pairs = [(a.machine, b.machine) for a in world.nodes for b in world.nodes if a is not b]
    made = sum(world.network.path(*each).dials for each in pairs)
    for number in range(10):
        for each in world.nodes:
            each.node.counter("n").increment()
            each.node.set("s").add(f"{each.name}-{number}")
        world.run_for(0.5)
    world.run_until(converged)
    world.run(new.node.space().confirm("one", 10.0))  # the old ones do not know the question; the other new one does
    if (now := sum(world.network.path(*each).dials for each in pairs)) != made:
        raise Violated(f"{now - made} links were made anew: a message nobody knows ended the old ones")
    told = new.node.dropped.get(NOT_KNOWN_THERE, 0), old[0].node.dropped.get(NOT_KNOWN_HERE, 0)
    if not all(told):
        raise Violated(f"nobody was told of the kinds it does not know: {told}")
    with world.partition([new], [other_new]):
        for number in range(5):
            new.node.register("r").set(number)
            world.run_for(0.2)
        world.run_until(converged)  # over the old ones
    check_values(world)
    frames = _frames(new)
    tomorrow = {key: raw for key, raw in frames.items() if FIELD_OF_TOMORROW.encode() in raw}
    if len(tomorrow) < 5 or any(set(_frames(each).values()) != set(frames.values()) for each in world.nodes):
        raise Violated("a frame was not passed on as it came")


@scenario(nodes=3, seeds=range(10))
def operation_of_tomorrow(world: World) -> None:
    """A change that only a newer version understands stalls its log and says so; it is never skipped, and the space
    goes on for everybody else."""
    world.run_until(everybody_sees_everybody, within=10.0)
    new, a, b = world.nodes
    heard: dict[str, list[SpaceStalled]] = {"n2": [], "n3": []}
    for each in (a, b):
        each.node.space("next").counter("after").increment(10)
        each.node.observe(
            lambda fact, name=each.name: heard[name].append(fact) if isinstance(fact, SpaceStalled) else None
        )
    world.run_for(1.0)
    write_of_tomorrow(world, new, "next")
    world.run_for(2.0)
    for each in (a, b):
        if [fact.seq for fact in heard[each.name]] != [1]:
            raise Violated(f"{each.name} did not say that a log is stalled, or more than once: {heard[each.name]}")
        each.node.space("next").counter("after").increment(10)
        each.node.counter("n").increment()
    world.run_for(6.0)  # longer than a round of comparing: nobody asks for ever
    sent = world.network.frames["sent"]
    world.run_for(10.0)
    if (more := world.network.frames["sent"] - sent) > 10 * 3 * 2 * 5:
        raise Violated(f"{more} messages in 10 s over a frame that nobody understands")
    for each in world.nodes:
        if (value := each.node.space("next").counter("after").value) != 40:
            raise Violated(
                f"{each.name} counts {value} of 40: what follows an unknown change was taken in, or all was lost"
            )
        assert each.node.counter("n").value == 2
    world.run_until(everybody_sees_everybody)
