"""``gossamer bench``: the measurements as a command."""

from __future__ import annotations

import click

from bench.__main__ import BENCHES, run
from mesh.cli.group import Command


@click.command("bench", cls=Command)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--json", "as_json", is_flag=True, help="Print those that hold themselves to targets as JSON, one a line."
)
def command(names: tuple[str, ...], as_json: bool) -> int:
    """Measure this machine: each figure beside its reference, as a ratio, in one run. NAME chooses some of them.

    References that are not installed are named, with how to install them. Exit 1 if one of them failed.
    """
    if unknown := [each for each in names if each not in BENCHES]:
        raise click.UsageError(f"there is no bench {unknown[0]!r}; there are: {', '.join(BENCHES)}")
    return run(names or tuple(BENCHES), as_json=as_json)


def _told() -> str:
    width = max(map(len, BENCHES))
    return "\b\n" + "\n".join(f"{name:<{width}}  {what}" for name, what in BENCHES.items())


command.epilog = _told()
