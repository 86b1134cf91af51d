"""Commands about the node itself, and what it sees. Nothing heavy is imported up here: help must answer at once."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import click

from mesh.cli.options import client_of, command, node_options, path_type
from mesh.cli.output import Output


@command()
@click.argument("name", required=False)
@click.option("--mesh", default="default", show_default=True, help="The mesh to be part of.")
@click.option(
    "--secret-file", type=path_type("file"), default=None, envvar="GOSSAMER_SECRET_FILE",
    help="The secret its members share (gossamer secret makes one).",
)  # fmt: skip
@click.option("--open", "is_open", is_flag=True, help="No secret: anyone who can reach it joins.")
@click.option("--listen", metavar="HOST:PORT", default=None, help="Where to listen; port 0: any.")
@click.option("--join", metavar="HOST:PORT", multiple=True, help="Where another member may be; may be repeated.")
@click.option("--no-discovery", is_flag=True, help="Neither ask the LAN nor answer; only --join and known peers.")
@click.option("--data", type=path_type(), default=None, envvar="GOSSAMER_DATA", help="Data directory.")
@click.option("--json", "as_json", is_flag=True, help="Print events as JSON, one a line; the first is ready.")
@click.option("--chaos", is_flag=True, help="Let commands cut links on purpose, for demos and tests.")
def up(
    name: str | None, mesh: str, secret_file: Path | None, is_open: bool, listen: str | None, join: tuple[str, ...],
    no_discovery: bool, data: Path | None, as_json: bool, chaos: bool,
) -> None:  # fmt: skip
    """Run a node here until Ctrl-C, SIGTERM or `gossamer leave`.

    With neither --secret-file nor --open it listens on this machine only. NAME defaults to the host's name.
    """
    if secret_file is not None and is_open:
        raise click.UsageError("--secret-file and --open exclude each other")
    gc.disable()  # nothing of what is imported now is garbage: 50 ms less until the node is ready, which turns it on
    from transport.system import fetch_ahead

    fetch_ahead()
    from mesh.cli.up import Wish, main

    main(
        Wish(
            name=name, mesh=mesh, secret_file=secret_file, open=is_open, listen=listen, join=join,
            discovery=not no_discovery, data=data, json=as_json, chaos=chaos,
        )
    )  # fmt: skip


@command()
@node_options
def leave(data: Path | None, mesh: str | None, as_json: bool) -> None:
    """End the running node; the others see it leave."""
    with client_of(data, mesh) as client:
        client.ask("leave")
        client.wait_closed()
    Output(json=as_json).value(True, "left")


@command()
@click.argument("member")
@node_options
def retire(member: str, data: Path | None, mesh: str | None, as_json: bool) -> None:
    """Close what MEMBER wrote, for good: it does not come back.

    What the others keep only for its late return can then be forgotten. If it comes back all the same it goes on in new
    logs, and what it had written alone is handed back to it, not taken in.
    """
    with client_of(data, mesh) as client:
        client.ask("retire", member=member)
    Output(json=as_json).value(True, "retired")


@command(name="id")
@click.argument("name", required=False)
@node_options
def show_id(name: str | None, data: Path | None, mesh: str | None, as_json: bool) -> None:
    """Print a node's id, running or not: that of NAME, of --data, or of the node that runs."""
    from mesh.cli.identity import node_id

    Output(json=as_json).value(str(node_id(name, data, mesh)))


@command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def secret(as_json: bool) -> None:
    """Print a new secret of 128 bits, to be shared by the members of a mesh: gossamer secret > mesh.secret"""
    from mesh.cli.identity import new_secret

    Output(json=as_json).value(new_secret())


@command()
@node_options
def members(data: Path | None, mesh: str | None, as_json: bool) -> None:
    """List who is in the mesh, this node included."""
    with client_of(data, mesh) as client:
        rows = client.ask("members")
    shown = [
        {**row, "id": row["id"][:8], "address": next(iter(row["addresses"]), None), "rtt_ms": _brief(row["rtt_ms"])}
        for row in rows
    ]
    Output(json=as_json).table(shown, ("name", "state", "id", "address", "rtt_ms"), full=rows)


def _brief(number: float | None) -> str | None:
    return None if number is None else f"{number:.1f}"


@command()
@node_options
def status(data: Path | None, mesh: str | None, as_json: bool) -> None:
    """Show who the running node is and how it fares."""
    with client_of(data, mesh) as client:
        fields = client.ask("status")
    rows = [{"what": key, "value": _flat(value)} for key, value in fields.items()]
    Output(json=as_json).table(rows, ("what", "value"), full=fields)


def _flat(value: Any) -> Any:
    if isinstance(value, dict):
        return ", ".join(f"{each} {key}" for key, each in value.items() if each)
    return ", ".join(str(each) for each in value) if isinstance(value, list) else value


@command()
@node_options
def doctor(data: Path | None, mesh: str | None, as_json: bool) -> int:
    """Say why others are not found, or that all is well. Exit 0 well, 1 something is wrong."""
    from mesh.cli.doctor import diagnose

    with client_of(data, mesh) as client:
        told, listed, explained = client.ask("status"), client.ask("members"), client.ask("explain")
    findings = diagnose(told, listed, explained)
    rows = [{"is": each.level, "what": each.text, "remedy": each.remedy} for each in findings]
    full = {"well": all(each.level == "ok" for each in findings), "findings": rows, "explain": explained}
    out = Output(json=as_json)
    if as_json:
        out.value(full)
    for each in findings:
        out.note(each.line())
    return 0 if full["well"] else 1
