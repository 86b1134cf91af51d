"""``gossamer sim``: tell scenarios, for one seed or many, make failures small, and check that a seed is a trace.

Exit 0: it held. 1: it broke (what, the seed, and the command that replays it go to standard error). 2: used wrongly.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import textwrap
import time
from pathlib import Path
from typing import Any

import click

from sim.determinism import check
from sim.errors import SimError
from sim.plan import BadReplay, Plan, load
from sim.progress import Bar
from sim.record import Recorder
from sim.report import write as write_report
from sim.scenario import Outcome, Scenario, UnknownScenario, find, shipped
from sim.shrink import RUNS_MAX, Holds, Shrinker, Size
from sim.swarm import CHECKED, Result
from sim.swarm import swarm as swarm_of

INTERRUPTED = 130  # as a shell says of what Ctrl-C ended
SEED = click.IntRange(0, (1 << 64) - 1)


class _Named(click.ParamType):  # type: ignore[type-arg]  # generic in the newest click only
    """A scenario's name, or FILE.py::NAME."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            find(str(value))
        except UnknownScenario as wrong:
            self.fail(str(wrong), param, ctx)
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        return [CompletionItem(each) for each in sorted(shipped()) if each.startswith(incomplete)]


def _plan(file: str) -> Plan:
    """What a replay file holds, when its scenario is here."""
    try:
        plan = load(Path(file))
        find(plan.scenario)
    except (BadReplay, UnknownScenario) as wrong:
        raise click.BadParameter(str(wrong)) from wrong
    return plan


@click.group(name="sim", help="Run the same nodes in a simulated world that obeys a seed.", no_args_is_help=True)
def group() -> None:
    """The commands of the simulator. What simulated nodes log is part of the story, not of our output."""
    logging.getLogger("gossamer").addHandler(logging.NullHandler())


@group.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(as_json: bool) -> None:
    """Show the stories that come along."""
    known = shipped()
    if as_json:
        rows = [{"name": name, "nodes": each.nodes, "moral": each.moral} for name, each in sorted(known.items())]
        click.echo(json.dumps(rows))
        return
    width = max(map(len, known), default=0) + 2
    columns = max(60, shutil.get_terminal_size((120, 24)).columns)
    for name, each in sorted(known.items()):
        click.echo(textwrap.fill(each.moral, columns, initial_indent=name.ljust(width), subsequent_indent=" " * width))


@group.command()
@click.argument("name", type=_Named())
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option("--trace", type=click.Path(dir_okay=False, path_type=Path), default=None, help="Write every event there.")
@click.option("--save", type=click.Path(dir_okay=False, path_type=Path), default=None, help="Write a replay file.")
@click.option(
    "--report", type=click.Path(dir_okay=False, path_type=Path), default=None, help="Write a page to look at, one file."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def run(name: str, seed: int, trace: Path | None, save: Path | None, report: Path | None, as_json: bool) -> None:
    """Tell a story once, for one seed.

    NAME is one that comes along, or FILE.py::NAME of your own, or FILE.py if it has only one."""
    told = find(name)
    outcome, took = _tell(told, Plan(seed=seed), trace, report, told.replay(seed))
    if save is not None:
        save.write_text(outcome.plan().encode(), encoding="utf-8")
    _show(told, outcome, took, told.replay(seed), as_json)


@group.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("--trace", type=click.Path(dir_okay=False, path_type=Path), default=None, help="Write every event there.")
@click.option(
    "--report", type=click.Path(dir_okay=False, path_type=Path), default=None, help="Write a page to look at, one file."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def replay(file: str, trace: Path | None, report: Path | None, as_json: bool) -> None:
    """Tell the run in FILE again, exactly.

    Its nodes, faults, operations and times. Exit as run does."""
    plan = _plan(file)
    told = find(plan.scenario)
    outcome, took = _tell(told, plan, trace, report, f"gossamer sim replay {file}")
    recorded = plan.broke
    if recorded is not None and not as_json:
        if outcome.broke is None:
            click.echo(f"it no longer breaks; it did: {recorded.text}", err=True)
        elif outcome.broke == recorded:
            click.echo("the same run to the byte, and to its last random draw")
        elif outcome.broke.where == recorded.where:
            click.echo("it breaks alike; the events before are others, so the code has changed since", err=True)
        else:
            click.echo(f"it breaks in another way than recorded: {recorded.text}", err=True)
    _show(told, outcome, took, f"gossamer sim replay {file}", as_json)


@group.command()
@click.argument("what", metavar="FILE|NAME")
@click.option("--seed", type=SEED, default=None, help="The seed of NAME that breaks.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), default=None, help="Write the replay there.")
@click.option("--runs", type=click.IntRange(1), default=RUNS_MAX, show_default=True, help="Try at most so many.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def shrink(what: str, seed: int | None, out: Path | None, runs: int, as_json: bool) -> None:
    """Make a failing run small, and save it.

    Drops faults, nodes, operations and time as long as it still fails alike, and writes a replay file."""
    if Path(what).is_file() and not what.endswith(".py"):
        if seed is not None:
            raise click.UsageError("a replay file has its own seed: leave --seed out")
        plan = _plan(what)
        told = find(plan.scenario)
    else:
        told = find(_Named().convert(what, None, None))
        if seed is None:
            raise click.UsageError(f"which seed of {told.name} breaks? --seed N")
        plan = Plan(seed=seed)
    out = out or Path(f"{told.name}-{plan.seed}.replay.json")
    began = time.perf_counter()
    with Bar(runs, "shrinking", quiet=as_json) as advance:
        try:
            shrunk = Shrinker(told, plan, runs_max=runs, on_try=lambda done, size: advance(str(size))).run()
        except Holds as wrong:
            raise click.ClickException(str(wrong)) from wrong
    out.write_text(shrunk.plan.encode(), encoding="utf-8")
    again = f"gossamer sim replay {out}"
    took = time.perf_counter() - began
    broke = shrunk.plan.broke
    assert broke is not None
    if as_json:
        sizes = {"before": _sized(shrunk.before), "after": _sized(shrunk.after)}
        click.echo(json.dumps({**sizes, "runs": shrunk.runs, "file": str(out), "broke": broke.text, "replay": again}))
        return
    click.echo(f"from {shrunk.before}\nto   {shrunk.after}, in {shrunk.runs} runs and {took:.1f} s")
    for each in shrunk.plan.faults or ():
        click.echo(f"  {each.name}: {each}")
    click.echo(f"still breaks: {broke.text}\nreplay: {again}")


@group.command()
@click.argument("name", type=_Named())
@click.option("--seeds", type=click.IntRange(1), default=100, show_default=True, help="How many.")
@click.option("--first", type=click.IntRange(0), default=0, show_default=True, help="The first seed.")
@click.option("--jobs", type=click.IntRange(1), default=None, help="Processes; default: one a core.")
@click.option("--keep-going", is_flag=True, help="Collect failures instead of stopping at the first.")
@click.option(
    "--check", "share", type=click.FloatRange(0.0, 1.0), default=CHECKED, show_default=True,
    help="Of so many of the seeds check the determinism too.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def swarm(name: str, seeds: int, first: int, jobs: int | None, keep_going: bool, share: float, as_json: bool) -> None:
    """Tell a story for many seeds.

    In fresh processes, on all cores; stops at the first seed that breaks, unless --keep-going."""
    began = time.perf_counter()
    broken: list[Result] = []
    done = checked = 0
    seconds = 0.0
    stopped = False
    with Bar(seeds, name, quiet=as_json) as advance:
        results = swarm_of(name, range(first, first + seeds), jobs or os.cpu_count() or 1, share=share, fresh=True)
        try:
            for result in results:
                done += 1
                checked += result.checked
                seconds += result.seconds
                if result.broke:
                    broken.append(result)
                advance(f"{len(broken)} broke" if broken else "")
                if broken and not keep_going:
                    results.close()  # type: ignore[attr-defined]  # a generator: its processes end with it
                    break
        except KeyboardInterrupt:
            stopped = True
            results.close()  # type: ignore[attr-defined]
    took = time.perf_counter() - began
    if as_json:
        rows = [{"seed": each.seed, "broke": each.broke, "where": each.where, "replay": each.replay} for each in broken]
        told = {
            "name": name, "seeds": done, "seconds": took, "simulated_s": seconds, "checked": checked,
            "interrupted": stopped,
        }  # fmt: skip
        click.echo(json.dumps({**told, "broken": rows}))
    else:
        _show_broken(broken)
        rate = f"{done / took:.1f} a second, {seconds / took:.0f} times real time"
        click.echo(f"{done} seeds in {took:.1f} s ({rate}), {checked} told twice, {len(broken)} broke")
        if stopped:
            click.echo(f"interrupted: go on with gossamer sim swarm {name} --first {first + done}", err=True)
    if broken or stopped:
        raise SystemExit(1 if broken else INTERRUPTED)


@group.command("check-determinism")
@click.argument("name", type=_Named())
@click.option("--seed", type=SEED, default=0, show_default=True)
def check_determinism(name: str, seed: int) -> None:
    """See whether a seed is one trace.

    It is told in two processes that differ in hash seed, allocator, environment and past; the first different event is
    named with the file and line that caused it."""
    try:
        compared = check(name, seed)
    except SimError as wrong:
        raise click.ClickException(str(wrong)) from wrong
    if not compared.equal:
        click.echo(f"seed {seed} of {name} is not one trace: {compared.difference}", err=True)
        raise SystemExit(1)
    click.echo(f"{compared.events} events, both {compared.trace_hash}")


# -- what they share -----------------------------------------------------------------------------------------------


def _tell(told: Scenario, plan: Plan, trace: Path | None, report: Path | None, again: str) -> tuple[Outcome, float]:
    recorder = None if report is None else Recorder()
    began = time.perf_counter()
    outcome = told.tell(plan.seed, plan=plan, keep_trace=trace is not None, recorder=recorder)
    took = time.perf_counter() - began
    if trace is not None:
        trace.write_text("\n".join(outcome.lines) + "\n")
    if report is not None and recorder is not None:
        write_report(told, outcome, recorder, again, report)
    return outcome, took


def _show(told: Scenario, outcome: Outcome, took: float, again: str, as_json: bool) -> None:
    """What was run, what became of it, and how to see it again. Exits 1 if it broke."""
    if as_json:
        report: dict[str, Any] = {
            "name": told.name, "seed": outcome.seed, "held": outcome.error is None, "broke": None, "replay": again,
            "trace_hash": outcome.trace_hash, "stats": outcome.stats, "configuration": outcome.configuration(),
        }  # fmt: skip
        if outcome.error is not None:
            report["broke"] = outcome.explain()
        click.echo(json.dumps(report))
    else:
        click.echo(f"{told.name}, seed {outcome.seed}: {told.moral}")
        for line in outcome.configuration():
            click.echo(f"  {line}")
        for what in ("frames", "datagrams", "disks", "machines"):
            if values := outcome.stats[what]:
                click.echo(f"  {what:10} " + ", ".join(f"{key} {value}" for key, value in values.items()))
        click.echo(f"  {outcome.seconds:.1f} s of the world in {took:.2f} s, trace {outcome.trace_hash}")
    if outcome.error is not None:
        click.echo(f"{outcome.explain()}\nseed: {outcome.seed}\nreplay: {again}", err=True)
        raise SystemExit(1)
    if not as_json:
        click.echo("  it held")


def _show_broken(broken: list[Result]) -> None:
    """One paragraph for each kind of failure, with its first seed; the other seeds by number."""
    kinds: dict[str, list[Result]] = {}
    for each in broken:
        kinds.setdefault(each.where, []).append(each)
    for alike in kinds.values():
        first, *others = alike
        click.echo(f"{first.broke}\nseed: {first.seed}\nreplay: {first.replay}", err=True)
        if others:
            click.echo(f"so do {len(others)} more seeds: {', '.join(str(each.seed) for each in others)}", err=True)


def _sized(size: Size) -> dict[str, Any]:
    return {
        "faults": size.faults, "nodes": size.nodes, "operations": size.operations, "seconds": size.seconds,
    }  # fmt: skip


if __name__ == "__main__":
    group()
