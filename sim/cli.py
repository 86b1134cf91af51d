"""``gossamer sim``: tell scenarios, for one seed or many, and check that a seed is a trace.

Exit 0: it held. 1: it broke (what, the seed, and the command that replays it go to standard error). 2: used wrongly.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

import click

from sim.determinism import check
from sim.loop import SimError
from sim.scenario import UnknownScenario, find, shipped
from sim.swarm import swarm as swarm_of


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


@click.group(name="sim", help="Run the same nodes in a simulated world that obeys a seed.", no_args_is_help=True)
def group() -> None:
    """The commands of the simulator. What simulated nodes log is part of the story, not of our output."""
    logging.getLogger("gossamer").addHandler(logging.NullHandler())


@group.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(as_json: bool) -> None:
    """Show the scenarios that come along, and their morals."""
    known = shipped()
    if as_json:
        rows = [{"name": name, "nodes": each.nodes, "moral": each.moral} for name, each in sorted(known.items())]
        click.echo(json.dumps(rows))
        return
    width = max(map(len, known), default=0)
    for name, each in sorted(known.items()):
        click.echo(f"{name.ljust(width)}  {each.moral}")


@group.command()
@click.argument("name", type=_Named())
@click.option("--seed", type=click.IntRange(0, (1 << 64) - 1), default=0, show_default=True)
@click.option("--trace", type=click.Path(dir_okay=False, path_type=Path), default=None, help="Write every event there.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def run(name: str, seed: int, trace: Path | None, as_json: bool) -> None:
    """Tell scenario NAME (or FILE.py::NAME) once."""
    told = find(name)
    began = time.perf_counter()
    outcome = told.tell(seed, keep_trace=trace is not None)
    took = time.perf_counter() - began
    if trace is not None:
        trace.write_text("\n".join(outcome.lines) + "\n")
    if as_json:
        report: dict[str, Any] = {
            "name": told.name, "seed": seed, "held": outcome.error is None, "broke": None, "replay": told.replay(seed),
            "trace_hash": outcome.trace_hash, "stats": outcome.stats,
        }  # fmt: skip
        if outcome.error is not None:
            report["broke"] = outcome.explain()
        click.echo(json.dumps(report))
    else:
        click.echo(f"{told.name}, seed {seed}: {told.moral}")
        for what, values in outcome.stats.items():
            if isinstance(values, dict) and values:
                click.echo(f"  {what:10} " + ", ".join(f"{key} {value}" for key, value in values.items()))
        click.echo(f"  {outcome.seconds:.1f} s of the world in {took:.2f} s, trace {outcome.trace_hash}")
    if outcome.error is not None:
        _broke(outcome.explain(), told.replay(seed))
    if not as_json:
        click.echo("  it held")


@group.command()
@click.argument("name", type=_Named())
@click.option("--seeds", type=click.IntRange(1), default=100, show_default=True, help="How many.")
@click.option("--first", type=click.IntRange(0), default=0, show_default=True, help="The first seed.")
@click.option("--jobs", type=click.IntRange(1), default=None, help="Processes; default: one a core.")
@click.option("--keep-going", is_flag=True, help="Collect failures instead of stopping at the first.")
def swarm(name: str, seeds: int, first: int, jobs: int | None, keep_going: bool) -> None:
    """Tell scenario NAME for many seeds."""
    began = time.perf_counter()
    broken = done = 0
    chosen = range(first, first + seeds)
    with click.progressbar(length=seeds, label=name, file=sys.stderr) as bar:
        for result in swarm_of(name, chosen, jobs or os.cpu_count() or 1):
            done += 1
            bar.update(1)
            if result.broke:
                broken += 1
                click.echo(f"\nseed {result.seed}: {result.broke}\nreplay: {result.replay}", err=True)
                if not keep_going:
                    break
    took = time.perf_counter() - began
    click.echo(f"{done} seeds in {took:.1f} s ({done / took:.1f} a second), {broken} broke")
    if broken:
        raise SystemExit(1)


@group.command("check-determinism")
@click.argument("name", type=_Named())
@click.option("--seed", type=click.IntRange(0, (1 << 64) - 1), default=0, show_default=True)
def check_determinism(name: str, seed: int) -> None:
    """Run a seed in two unlike processes and compare every event."""
    try:
        compared = check(name, seed)
    except SimError as wrong:
        raise click.ClickException(str(wrong)) from wrong
    if not compared.equal:
        click.echo(f"seed {seed} of {name} is not one trace: {compared.difference}", err=True)
        raise SystemExit(1)
    click.echo(f"{compared.events} events, both {compared.trace_hash}")


def _broke(text: str, replay: str) -> None:
    click.echo(f"{text}\nreplay: {replay}", err=True)
    raise SystemExit(1)


if __name__ == "__main__":
    group()
