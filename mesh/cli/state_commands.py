"""Commands that read and write shared state. Nothing heavy is imported up here: help must answer at once."""

from __future__ import annotations

import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from mesh.cli.options import client_of, command, complete_key, node_options, space_option, write_options
from mesh.cli.output import Output


@command()
@click.argument("key", shell_complete=complete_key)
@space_option
@node_options
def get(key: str, space: str, data: Path | None, mesh: str | None, as_json: bool) -> None:
    """Print the value under KEY. Exit 1 if nothing is there."""
    with client_of(data, mesh) as client:
        Output(json=as_json).value(client.ask("get", key=key, space=space))


def _write(
    do: str, key: str, space: str, data: Path | None, mesh: str | None, confirm: str | None, timeout: float,
    **fields: Any,
) -> Any:  # fmt: skip
    with client_of(data, mesh) as client:
        return client.ask(do, wait=timeout + 30, key=key, space=space, confirm=confirm, timeout=timeout, **fields)


def _wrote(as_json: bool, key: str, confirm: str | None, value: Any = None) -> None:
    """A write that is done is told to programs; to people only where it has a result."""
    out = Output(json=as_json)
    if as_json:
        out.value({"key": key, "value": value, "durable": True, "confirmed": confirm})
    elif value is not None:
        out.value(value)


@command()
@click.argument("key", shell_complete=complete_key)
@click.argument("value")
@write_options
def put(
    key: str, value: str, space: str, data: Path | None, mesh: str | None, as_json: bool, confirm: str | None,
    timeout: float,
) -> None:  # fmt: skip
    """Set the register KEY to VALUE."""
    from mesh.cli.values import parse

    parsed = parse(value)
    _write("put", key, space, data, mesh, confirm, timeout, value=parsed)
    _wrote(as_json, key, confirm, parsed if as_json else None)


@command()
@click.argument("key", shell_complete=complete_key)
@click.argument("n", type=int, default=1)
@write_options
def incr(
    key: str, n: int, space: str, data: Path | None, mesh: str | None, as_json: bool, confirm: str | None,
    timeout: float,
) -> None:  # fmt: skip
    """Add N (1) to the counter KEY, and print what it now is here."""
    _wrote(as_json, key, confirm, _write("incr", key, space, data, mesh, confirm, timeout, amount=n))


@command()
@click.argument("key", shell_complete=complete_key)
@click.argument("n", type=int, default=1)
@write_options
def decr(
    key: str, n: int, space: str, data: Path | None, mesh: str | None, as_json: bool, confirm: str | None,
    timeout: float,
) -> None:  # fmt: skip
    """Take N (1) from the counter KEY, and print what it now is here."""
    _wrote(as_json, key, confirm, _write("incr", key, space, data, mesh, confirm, timeout, amount=-n))


@command()
@click.argument("key", shell_complete=complete_key)
@click.argument("value")
@write_options
def add(
    key: str, value: str, space: str, data: Path | None, mesh: str | None, as_json: bool, confirm: str | None,
    timeout: float,
) -> None:  # fmt: skip
    """Add VALUE to the set KEY."""
    from mesh.cli.values import parse

    parsed = parse(value)
    _write("add", key, space, data, mesh, confirm, timeout, value=parsed)
    _wrote(as_json, key, confirm, parsed if as_json else None)


@command()
@click.argument("key", shell_complete=complete_key)
@click.argument("value")
@write_options
def remove(
    key: str, value: str, space: str, data: Path | None, mesh: str | None, as_json: bool, confirm: str | None,
    timeout: float,
) -> None:  # fmt: skip
    """Take VALUE out of the set KEY, if it is in."""
    from mesh.cli.values import parse

    parsed = parse(value)
    _write("remove", key, space, data, mesh, confirm, timeout, value=parsed)
    _wrote(as_json, key, confirm, parsed if as_json else None)


@command()
@click.argument("key", shell_complete=complete_key)
@write_options
def edit(
    key: str, space: str, data: Path | None, mesh: str | None, as_json: bool, confirm: str | None, timeout: float
) -> None:
    """Open the text KEY in $EDITOR, and send what you changed; what others changed meanwhile stays."""
    from mesh.cli.editor import edited

    with client_of(data, mesh) as client:
        base = client.ask("text", key=key, space=space)
    with edited(base) as new:
        if new != base:
            _write("edit", key, space, data, mesh, confirm, timeout, base=base, new=new)
    _wrote(as_json, key, confirm, new if as_json else None)


@command()
@click.argument("key", shell_complete=complete_key)
@write_options
def delete(
    key: str, space: str, data: Path | None, mesh: str | None, as_json: bool, confirm: str | None, timeout: float
) -> None:
    """Delete KEY and all that is under it."""
    _write("delete", key, space, data, mesh, confirm, timeout)
    _wrote(as_json, key, confirm)


@command()
@space_option
@node_options
def dump(space: str, data: Path | None, mesh: str | None, as_json: bool) -> None:
    """Print all of a space: its value, its clock and its digest."""
    with client_of(data, mesh) as client:
        whole = client.ask("dump", wait=120.0, space=space)
    rows = [{"key": key, "value": value} for key, value in whole["value"].items()]
    Output(json=as_json).table(rows, ("key", "value"), full=whole)


@command()
@space_option
@node_options
def digest(space: str, data: Path | None, mesh: str | None, as_json: bool) -> None:
    """Print the digest of a space: equal on two nodes when both have seen the same changes."""
    with client_of(data, mesh) as client:
        Output(json=as_json).value(client.ask("digest", space=space))


@command()
@click.argument("key", required=False, shell_complete=complete_key)
@space_option
@node_options
def watch(key: str | None, space: str, data: Path | None, mesh: str | None, as_json: bool) -> None:
    """Print changes of KEY, or of the whole space, as they come, until Ctrl-C."""
    from mesh.cli.values import show

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C: exit 0
    out = Output(json=as_json)
    with suppress(KeyboardInterrupt), client_of(data, mesh) as client:
        for event in client.stream("watch", key=key, space=space):
            where = "/".join(show(part) for part in (event["key"], *event["path"]))
            by = "here" if event["local"] else event["origin"][:8]
            out.value(event, f"{where} = {show(event['value'])}  ({event['type']}, {by})")
