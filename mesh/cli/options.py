"""What many commands take: which node is meant, in which space, and when a write is done."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from mesh.cli.group import Command

F = TypeVar("F", bound=Callable[..., Any])

command = partial(click.command, cls=Command)


def path_type(kind: str = "dir") -> click.Path:
    return click.Path(path_type=Path, file_okay=kind == "file", dir_okay=kind == "dir")


def node_options(function: F) -> F:
    """Which running node is meant, and for whom to print."""
    function = click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)
    function = click.option("--mesh", default=None, help="Only a node of this mesh.")(function)
    return click.option(
        "--data",
        type=path_type(),
        default=None,
        envvar="GOSSAMER_DATA",
        help="Data directory of the node that is meant.",
    )(function)


def space_option(function: F) -> F:
    """In which space a key lives."""
    return click.option("--space", default="main", show_default=True, help="The space the key lives in.")(function)


def write_options(function: F) -> F:
    """Which node, which space, and when a write is done."""
    function = click.option(
        "--timeout", type=click.FloatRange(min=0.001, max=86_400), default=10.0, show_default=True,
        help="Seconds to wait for --confirm.",
    )(function)  # fmt: skip
    function = click.option(
        "--confirm", type=click.Choice(("one", "quorum", "all")), default=None,
        help="Return when others hold it too, not only this node's disk.",
    )(function)  # fmt: skip
    return space_option(node_options(function))


def client_of(data: Path | None, mesh: str | None) -> Any:
    from mesh.cli.control import connect

    return connect(data, mesh)


def complete_key(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Keys of the running node, for a shell that completes. Silent when there is none."""
    from mesh.cli.errors import ControlError

    try:
        with client_of(ctx.params.get("data"), ctx.params.get("mesh")) as client:
            keys = client.ask("keys", wait=2.0, prefix=incomplete, space=ctx.params.get("space") or "main")
    except ControlError:
        return []
    return [key for key in keys if key.isprintable()]
