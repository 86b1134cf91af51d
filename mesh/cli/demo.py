"""``gossamer demo``: three real processes on this machine, and a story in which every claim is checked."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import click

from mesh.cli.errors import ControlError
from mesh.cli.group import Command
from mesh.cli.output import Output, complain
from mesh.cli.stage import Player, Stage, eventually

WAIT_S = 10.0  # for anything that has to become true; a healthy machine needs a fraction of a second
WRITES_BEFORE_KILL = 60  # acknowledged increments before the axe falls


class NotHeld(ControlError):
    """A step of the story did not hold. What the nodes answered instead is in the text."""


class Story:
    """Prints chapters and steps with their times; the first claim that fails ends it."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._chapter = ""
        self.steps = 0

    def say(self, text: str) -> None:
        """A line for people."""
        self._out.note(text)

    def chapter(self, name: str, text: str) -> None:
        """What comes now."""
        self._chapter = name
        if self._out.json:
            self._out.value({"event": "chapter", "name": name, "text": text})
        self.say(f"\n{click.style(name, bold=True) if sys.stdout.isatty() else name}  {text}")

    async def step(self, text: str, claim: Callable[[], Awaitable[Any]]) -> Any:
        """Do ``claim`` and print how long it took. It raises ``NotHeld`` where ``text`` turned out untrue."""
        began = self._loop.time()
        found = await claim()
        took = self._loop.time() - began
        self.steps += 1
        said = text.format(found) if isinstance(found, str | int) and "{}" in text else text
        if self._out.json:
            self._out.value({"event": "step", "chapter": self._chapter, "text": said, "seconds": round(took, 4)})
        self.say(f"  {took * 1000:7.0f} ms  {said}")
        return found

    def end(self) -> None:
        """All of it held."""
        took = self._loop.time() - self._began
        if self._out.json:
            self._out.value({"event": "done", "ok": True, "steps": self.steps, "seconds": round(took, 3)})
        self.say(f"\nEvery one of {self.steps} steps held, in {took:.1f} s.")


async def tell(story: Story, stage: Stage) -> None:
    """The six chapters."""
    ann, ben, cal = everyone = [stage.player(name) for name in ("ann", "ben", "cal")]

    story.chapter("discover", "Three processes start with nothing in common but a secret file. No address is given.")
    await story.step("all three are ready", lambda: _started(everyone))
    await story.step("each of them lists all three as alive", lambda: _all_alive(everyone))

    story.chapter("share", "A counter, a set and a map, written on three nodes.")
    await story.step("ann, ben and cal each add to the counter 'visits'", lambda: _visits(everyone))
    await story.step("one adds to a set, one writes a map", lambda: _set_and_map(ben, cal))
    # a set reads in canonical order: of its elements' bytes, so shorter words come first
    shared = {"visits": 6, "colours": ["red", "green"], "lights": {"hall": "on", "porch": "off"}}
    await story.step("all three read the same, and their digests are equal", lambda: _agree(everyone, shared))

    story.chapter("cut", "ann is cut off from ben and cal: each refuses the other's links (a deny list through the")
    story.say("     control socket, which only nodes started with --chaos obey).")
    await story.step("the links are cut", lambda: _cut([ann], [ben, cal]))
    await story.step("each side reports the other as gone", lambda: _gone([ann], [ben, cal]))
    await story.step("both sides go on writing, also to the same keys", lambda: _write_apart(ann, ben, cal))
    await story.step("and do not see each other's writes: the cut is real", lambda: _apart(ann, ben, cal))

    story.chapter("heal", "The deny lists are lifted. Nobody decides who was right.")
    await story.step("all three list each other as alive again", lambda: _heal(everyone))
    joined = {
        "visits": 6 + 100 + 20 + 3, "colours": ["red", "blue", "green", "yellow"],
        "lights": {"attic": "on", "hall": "on", "porch": "off", "shed": "on"},
    }  # fmt: skip
    await story.step("nothing of either side is lost: 6 + 100 + 20 + 3 = 129", lambda: _agree(everyone, joined))

    story.chapter("kill", "ben counts as fast as it can, and is killed with -9 while it writes.")
    acknowledged = await story.step("{} increments were acknowledged, then kill -9", lambda: _kill_while_writing(ben))
    await story.step("ann and cal notice that ben is gone", lambda: _gone([ben], [ann, cal], seen_by_gone=False))
    await story.step("and go on without it", lambda: _write(cal, "incr", key="visits", amount=1))

    story.chapter("recover", "ben starts again with the same data directory.")
    before = ben.id
    await story.step("it is ready, with the same identity", lambda: _restarted(ben, before))
    await story.step("all three list each other as alive", lambda: _all_alive(everyone))
    total = await story.step(
        "every acknowledged increment is on all three: {}", lambda: _recovered(everyone, acknowledged)
    )
    await story.step(
        "all three read the same, and their digests are equal",
        lambda: _agree(everyone, {**joined, "visits": 130, "kept": total}),
    )
    await story.step("told to end, each says goodbye and exits with 0", lambda: _goodbye(everyone))


# -- the claims: each asks the nodes, and raises ``NotHeld`` with what they answered ---------------------------------


async def _started(players: Sequence[Player]) -> None:
    await asyncio.gather(*(each.start() for each in players))


async def _restarted(player: Player, before: str) -> None:
    await player.start()
    if player.id != before:
        raise NotHeld(f"{player.name} came back as {player.id}, it was {before}")


async def _until(what: str, holds: Callable[[], Awaitable[Any]], told: Callable[[], Awaitable[Any]]) -> Any:
    found = await eventually(holds, WAIT_S)
    if not found:
        raise NotHeld(f"not within {WAIT_S:.0f} s: {what}; the nodes say {await told()}")
    return found


async def _views(players: Sequence[Player]) -> dict[str, dict[str, str]]:
    return {each.name: await each.states() for each in players}


async def _all_alive(players: Sequence[Player]) -> None:
    wanted = {each.name: "alive" for each in players}

    async def holds() -> bool:
        return all(view == wanted for view in (await _views(players)).values())

    await _until("all see all alive", holds, lambda: _views(players))


async def _write(player: Player, do: str, **fields: Any) -> None:
    await player.ask(do, **fields)


async def _visits(players: Sequence[Player]) -> None:
    await asyncio.gather(*(_write(each, "incr", key="visits", amount=at) for at, each in enumerate(players, 1)))


async def _set_and_map(one: Player, other: Player) -> None:
    await _write(one, "add", key="colours", value="red")
    await _write(one, "add", key="colours", value="green")
    await _write(other, "field", key="lights", field="hall", value="on")
    await _write(other, "field", key="lights", field="porch", value="off")


async def _dumps(players: Sequence[Player]) -> list[dict[str, Any]]:
    dumps: list[dict[str, Any]] = await asyncio.gather(*(each.ask("dump") for each in players))
    return dumps


async def _values(players: Sequence[Player]) -> dict[str, Any]:
    return {each.name: dump["value"] for each, dump in zip(players, await _dumps(players), strict=True)}


async def _agree(players: Sequence[Player], wanted: dict[str, Any]) -> None:
    async def holds() -> bool:
        dumps = await _dumps(players)
        return all(each["value"] == wanted for each in dumps) and len({each["digest"] for each in dumps}) == 1

    await _until(f"all read {wanted}, with one digest", holds, lambda: _values(players))


async def _cut(one: Sequence[Player], other: Sequence[Player]) -> None:
    for here, there in ((one, other), (other, one)):
        for player in here:
            await player.ask("cut", nodes=[each.id for each in there])


async def _gone(one: Sequence[Player], other: Sequence[Player], *, seen_by_gone: bool = True) -> None:
    """``other`` sees all of ``one`` down, and the reverse unless those are dead."""
    pairs = [(here, away) for here in other for away in one]
    if seen_by_gone:
        pairs += [(here, away) for here in one for away in other]

    async def holds() -> bool:
        views = await _views(list({here.name: here for here, _ in pairs}.values()))
        return all(views[here.name].get(away.name) == "down" for here, away in pairs)

    await _until("each side has the other down", holds, lambda: _views(list({h.name: h for h, _ in pairs}.values())))


async def _write_apart(ann: Player, ben: Player, cal: Player) -> None:
    await _write(ann, "incr", key="visits", amount=100)
    await _write(ann, "add", key="colours", value="blue")
    await _write(ann, "field", key="lights", field="attic", value="on")
    await _write(ben, "incr", key="visits", amount=20)
    await _write(cal, "incr", key="visits", amount=3)
    await _write(ben, "add", key="colours", value="yellow")
    await _write(cal, "field", key="lights", field="shed", value="on")


async def _apart(ann: Player, ben: Player, cal: Player) -> None:
    async def holds() -> bool:
        one, two, three = await _dumps([ann, ben, cal])
        visits = [each["value"]["visits"] for each in (one, two, three)]
        return visits == [106, 29, 29] and one["digest"] != two["digest"] and two["digest"] == three["digest"]

    await _until("ann reads 106, ben and cal read 29", holds, lambda: _values([ann, ben, cal]))


async def _heal(players: Sequence[Player]) -> None:
    for each in players:
        await each.ask("heal")
    await _all_alive(players)


async def _kill_while_writing(player: Player) -> int:
    """Increment until the node is killed. How many increments it acknowledged."""
    acknowledged = 0
    ripe = asyncio.Event()

    async def write() -> None:
        nonlocal acknowledged
        with contextlib.suppress(ControlError):  # the end of the node ends the loop
            while True:
                await player.ask("incr", key="kept", amount=1)
                acknowledged += 1
                if acknowledged == WRITES_BEFORE_KILL:
                    ripe.set()

    writing = asyncio.create_task(write())
    try:
        async with asyncio.timeout(WAIT_S):
            await ripe.wait()
    except TimeoutError:
        raise NotHeld(f"{player.name} acknowledged {acknowledged} increments in {WAIT_S:.0f} s") from None
    finally:
        code = await player.kill()
        await writing
    if code != -signal.SIGKILL:
        raise NotHeld(f"{player.name} was not killed but ended with {code}")
    return acknowledged


async def _recovered(players: Sequence[Player], acknowledged: int) -> int:
    """The count on all nodes: what was acknowledged, or one more that was durable before its answer got out."""

    async def holds() -> int | None:
        kept = {dump["value"].get("kept", 0) for dump in await _dumps(players)}
        return next(iter(kept)) if len(kept) == 1 and kept <= {acknowledged, acknowledged + 1} else None

    found: int = await _until(f"{acknowledged} (or one more, unanswered)", holds, lambda: _values(players))
    return found


async def _goodbye(players: Sequence[Player]) -> None:
    *leaving, last = players
    codes = [await each.leave() for each in leaving]

    async def holds() -> bool:
        states = await last.states()
        return all(states[each.name] == "left" for each in leaving)

    await _until(f"{last.name} sees the others as left", holds, last.states)
    codes.append(await last.leave())
    if any(codes):
        raise NotHeld(f"exit codes {codes}")


# -- the command -----------------------------------------------------------------------------------------------------


async def play(out: Output) -> None:
    """Tell the story on a stage of its own. Raises ``ControlError`` where something did not hold."""
    task = asyncio.current_task()
    assert task is not None
    with contextlib.suppress(NotImplementedError):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    story = Story(out)
    story.say("Three real nodes in three processes on this machine: real sockets, TLS, signatures and disks.")
    async with Stage() as stage:
        try:
            await tell(story, stage)
        except ControlError:
            for each in stage.players:
                for line in each.last_words().splitlines():
                    out.note(f"  {each.name}: {line}")
            raise
    story.end()


@click.command(cls=Command)
@click.option("--json", "as_json", is_flag=True, help="Print each step as JSON, one a line.")
def demo(as_json: bool) -> int:
    """Three real nodes on this machine: discover, share, cut, heal, kill, recover. Exit 0 only if every step held."""
    out = Output(json=as_json)
    try:
        asyncio.run(play(out))
    except ControlError as failed:
        if as_json:
            out.value({"event": "done", "ok": False, "text": failed.text})
        raise
    except (KeyboardInterrupt, asyncio.CancelledError):
        complain("the demo was interrupted; its processes and files are gone", "run it again: gossamer demo")
        return 1
    return 0
