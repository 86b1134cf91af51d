"""One function a command. Nothing is imported up here but click and our own: help must answer at once."""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import click

from mesh.cli.group import Group, Lazy
from mesh.cli.output import Output

F = TypeVar("F", bound=Callable[..., Any])

gossamer = Group(
    name="gossamer",
    help="A peer-to-peer mesh with shared state: no server, no broker, no daemon.",
    epilog="VALUE is JSON, or plain text if it is not. Exit codes: 0 done, 1 failed, 2 used wrongly, 3 no node.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    no_args_is_help=True,
    lazy={
        "demo": Lazy("mesh.cli.demo", "demo", "Three real nodes on this machine: cut, healed, killed, recovered."),
        "sim": Lazy("sim.cli", "group", "Run the same nodes in a simulated world that obeys a seed."),
    },
    sections={
        "A node": ("up", "leave", "id", "secret"),
        "What it sees": ("members", "status", "doctor"),
        "Shared state": (
            "get", "put", "incr", "decr", "add", "remove", "edit", "delete", "dump", "digest", "watch"
        ),
        "Messages": ("send", "request", "publish", "subscribe", "dead-letters"),
        "Try it": ("demo", "sim", "completion"),
    },
)  # fmt: skip


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from mesh.cli.version import own_version

        Output().value(f"gossamer {own_version()}")
        ctx.exit()


gossamer.params.append(
    click.Option(
        ["--version"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_print_version,
        help="Show the version.",
    )
)


@gossamer.result_callback()
def _result(code: int | None) -> int:
    return code or 0


def _path(kind: str = "dir") -> click.Path:
    return click.Path(path_type=Path, file_okay=kind == "file", dir_okay=kind == "dir")


def node_options(function: F) -> F:
    """Which running node is meant, and for whom to print."""
    function = click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)
    function = click.option("--mesh", default=None, help="Only a node of this mesh.")(function)
    return click.option(
        "--data", type=_path(), default=None, envvar="GOSSAMER_DATA", help="Data directory of the node that is meant."
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


def _client(data: Path | None, mesh: str | None) -> Any:
    from mesh.cli.control import connect

    return connect(data, mesh)


def _complete_key(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Keys of the running node, for a shell that completes. Silent when there is none."""
    from mesh.cli.errors import ControlError

    try:
        with _client(ctx.params.get("data"), ctx.params.get("mesh")) as client:
            keys = client.ask("keys", wait=2.0, prefix=incomplete, space=ctx.params.get("space") or "main")
    except ControlError:
        return []
    return [key for key in keys if key.isprintable()]


# -- a node ----------------------------------------------------------------------------------------------------------


@gossamer.command()
@click.argument("name", required=False)
@click.option("--mesh", default="default", show_default=True, help="The mesh to be part of.")
@click.option(
    "--secret-file", type=_path("file"), default=None, envvar="GOSSAMER_SECRET_FILE",
    help="The secret its members share (gossamer secret makes one).",
)  # fmt: skip
@click.option("--open", "is_open", is_flag=True, help="No secret: anyone who can reach it joins.")
@click.option("--listen", metavar="HOST:PORT", default=None, help="Where to listen; port 0: any.")
@click.option("--join", metavar="HOST:PORT", multiple=True, help="Where another member may be; may be repeated.")
@click.option("--no-discovery", is_flag=True, help="Neither ask the LAN nor answer; only --join and known peers.")
@click.option("--data", type=_path(), default=None, envvar="GOSSAMER_DATA", help="Data directory.")
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
    from mesh.cli.up import Wish, main

    main(
        Wish(
            name=name, mesh=mesh, secret_file=secret_file, open=is_open, listen=listen, join=join,
            discovery=not no_discovery, data=data, json=as_json, chaos=chaos,
        )
    )  # fmt: skip


@gossamer.command()
@node_options
def leave(data: Path | None, mesh: str | None, as_json: bool) -> None:
    """End the running node; the others see it leave."""
    with _client(data, mesh) as client:
        client.ask("leave")
        client.wait_closed()
    Output(json=as_json).value(True, "left")


@gossamer.command(name="id")
@click.argument("name", required=False)
@node_options
def show_id(name: str | None, data: Path | None, mesh: str | None, as_json: bool) -> None:
    """Print a node's id, running or not: that of NAME, of --data, or of the node that runs."""
    from mesh.cli.identity import node_id

    Output(json=as_json).value(str(node_id(name, data, mesh)))


@gossamer.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def secret(as_json: bool) -> None:
    """Print a new secret of 128 bits, to be shared by the members of a mesh: gossamer secret > mesh.secret"""
    from mesh.cli.identity import new_secret

    Output(json=as_json).value(new_secret())


# -- what it sees ----------------------------------------------------------------------------------------------------


@gossamer.command()
@node_options
def members(data: Path | None, mesh: str | None, as_json: bool) -> None:
    """List who is in the mesh, this node included."""
    with _client(data, mesh) as client:
        rows = client.ask("members")
    shown = [
        {**row, "id": row["id"][:8], "address": next(iter(row["addresses"]), None), "rtt_ms": _brief(row["rtt_ms"])}
        for row in rows
    ]
    Output(json=as_json).table(shown, ("name", "state", "id", "address", "rtt_ms"), full=rows)


def _brief(number: float | None) -> str | None:
    return None if number is None else f"{number:.1f}"


@gossamer.command()
@node_options
def status(data: Path | None, mesh: str | None, as_json: bool) -> None:
    """Show who the running node is and how it fares."""
    with _client(data, mesh) as client:
        fields = client.ask("status")
    rows = [{"what": key, "value": _flat(value)} for key, value in fields.items()]
    Output(json=as_json).table(rows, ("what", "value"), full=fields)


def _flat(value: Any) -> Any:
    if isinstance(value, dict):
        return ", ".join(f"{each} {key}" for key, each in value.items() if each)
    return ", ".join(str(each) for each in value) if isinstance(value, list) else value


@gossamer.command()
@node_options
def doctor(data: Path | None, mesh: str | None, as_json: bool) -> int:
    """Say why others are not found, or that all is well. Exit 0 well, 1 something is wrong."""
    from mesh.cli.doctor import diagnose

    with _client(data, mesh) as client:
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


# -- shared state ----------------------------------------------------------------------------------------------------


@gossamer.command()
@click.argument("key", shell_complete=_complete_key)
@space_option
@node_options
def get(key: str, space: str, data: Path | None, mesh: str | None, as_json: bool) -> None:
    """Print the value under KEY. Exit 1 if nothing is there."""
    with _client(data, mesh) as client:
        Output(json=as_json).value(client.ask("get", key=key, space=space))


def _write(
    do: str, key: str, space: str, data: Path | None, mesh: str | None, confirm: str | None, timeout: float,
    **fields: Any,
) -> Any:  # fmt: skip
    with _client(data, mesh) as client:
        return client.ask(do, wait=timeout + 30, key=key, space=space, confirm=confirm, timeout=timeout, **fields)


def _wrote(as_json: bool, key: str, confirm: str | None, value: Any = None) -> None:
    """A write that is done is told to programs; to people only where it has a result."""
    out = Output(json=as_json)
    if as_json:
        out.value({"key": key, "value": value, "durable": True, "confirmed": confirm})
    elif value is not None:
        out.value(value)


@gossamer.command()
@click.argument("key", shell_complete=_complete_key)
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


@gossamer.command()
@click.argument("key", shell_complete=_complete_key)
@click.argument("n", type=int, default=1)
@write_options
def incr(
    key: str, n: int, space: str, data: Path | None, mesh: str | None, as_json: bool, confirm: str | None,
    timeout: float,
) -> None:  # fmt: skip
    """Add N (1) to the counter KEY, and print what it now is here."""
    _wrote(as_json, key, confirm, _write("incr", key, space, data, mesh, confirm, timeout, amount=n))


@gossamer.command()
@click.argument("key", shell_complete=_complete_key)
@click.argument("n", type=int, default=1)
@write_options
def decr(
    key: str, n: int, space: str, data: Path | None, mesh: str | None, as_json: bool, confirm: str | None,
    timeout: float,
) -> None:  # fmt: skip
    """Take N (1) from the counter KEY, and print what it now is here."""
    _wrote(as_json, key, confirm, _write("incr", key, space, data, mesh, confirm, timeout, amount=-n))


@gossamer.command()
@click.argument("key", shell_complete=_complete_key)
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


@gossamer.command()
@click.argument("key", shell_complete=_complete_key)
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


@gossamer.command()
@click.argument("key", shell_complete=_complete_key)
@write_options
def edit(
    key: str, space: str, data: Path | None, mesh: str | None, as_json: bool, confirm: str | None, timeout: float
) -> None:
    """Open the text KEY in $EDITOR, and send what you changed; what others changed meanwhile stays."""
    with _client(data, mesh) as client:
        base = client.ask("text", key=key, space=space)
    new = click.edit(base, extension=".txt", require_save=False)
    if new is not None and new != base:
        if new.endswith("\n") and not base.endswith("\n"):
            new = new[:-1]  # editors end a file with one
        _write("edit", key, space, data, mesh, confirm, timeout, base=base, new=new)
    _wrote(as_json, key, confirm, new if as_json else None)


@gossamer.command()
@click.argument("key", shell_complete=_complete_key)
@write_options
def delete(
    key: str, space: str, data: Path | None, mesh: str | None, as_json: bool, confirm: str | None, timeout: float
) -> None:
    """Delete KEY and all that is under it."""
    _write("delete", key, space, data, mesh, confirm, timeout)
    _wrote(as_json, key, confirm)


@gossamer.command()
@space_option
@node_options
def dump(space: str, data: Path | None, mesh: str | None, as_json: bool) -> None:
    """Print all of a space: its value, its clock and its digest."""
    with _client(data, mesh) as client:
        whole = client.ask("dump", wait=120.0, space=space)
    rows = [{"key": key, "value": value} for key, value in whole["value"].items()]
    Output(json=as_json).table(rows, ("key", "value"), full=whole)


@gossamer.command()
@space_option
@node_options
def digest(space: str, data: Path | None, mesh: str | None, as_json: bool) -> None:
    """Print the digest of a space: equal on two nodes when both have seen the same changes."""
    with _client(data, mesh) as client:
        Output(json=as_json).value(client.ask("digest", space=space))


@gossamer.command()
@click.argument("key", required=False, shell_complete=_complete_key)
@space_option
@node_options
def watch(key: str | None, space: str, data: Path | None, mesh: str | None, as_json: bool) -> None:
    """Print changes of KEY, or of the whole space, as they come, until Ctrl-C."""
    from mesh.cli.values import show

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C: exit 0
    out = Output(json=as_json)
    with suppress(KeyboardInterrupt), _client(data, mesh) as client:
        for event in client.stream("watch", key=key, space=space):
            where = "/".join(show(part) for part in (event["key"], *event["path"]))
            by = "here" if event["local"] else event["origin"][:8]
            out.value(event, f"{where} = {show(event['value'])}  ({event['type']}, {by})")


# -- messages --------------------------------------------------------------------------------------------------------


@gossamer.command()
@click.argument("to")
@click.argument("value")
@click.option("--durable", is_flag=True, help="Keep it on disk here, and send it until it was handled there.")
@click.option(
    "--ttl", type=click.FloatRange(min=0.001, max=10**9), default=None, help="Seconds after which it is given up."
)
@node_options
def send(
    to: str, value: str, durable: bool, ttl: float | None, data: Path | None, mesh: str | None, as_json: bool
) -> None:
    """Send VALUE to the node TO (a name or an id).

    At most once, and nothing tells whether it was handled; with --durable at least once, also if TO is away now: its
    number is printed once it is on disk here.
    """
    from mesh.cli.values import parse

    body = parse(value)
    with _client(data, mesh) as client:
        letter = client.ask("send", to=to, body=body, durable=durable, ttl=ttl)
    Output(json=as_json).value(letter or True, letter or "sent")


@gossamer.command()
@click.argument("to")
@click.argument("name")
@click.argument("value", default="null")
@click.option(
    "--timeout", type=click.FloatRange(min=0.001, max=86_400), default=10.0, show_default=True, help="In seconds."
)
@node_options
def request(to: str, name: str, value: str, timeout: float, data: Path | None, mesh: str | None, as_json: bool) -> None:
    """Ask the handler NAME of the node TO, and print its answer."""
    from mesh.cli.values import parse

    body = parse(value)
    with _client(data, mesh) as client:
        answer = client.ask("request", wait=timeout + 5, to=to, name=name, body=body, timeout=timeout)
    Output(json=as_json).value(answer)


@gossamer.command()
@click.argument("topic")
@click.argument("value")
@node_options
def publish(topic: str, value: str, data: Path | None, mesh: str | None, as_json: bool) -> None:
    """Publish VALUE on TOPIC (orders.eu.new) to whoever subscribed, on any member; nobody keeps it for later."""
    from mesh.cli.values import parse

    body = parse(value)
    with _client(data, mesh) as client:
        client.ask("publish", topic=topic, body=body)
    Output(json=as_json).value(True, "published")


@gossamer.command()
@click.argument("pattern")
@node_options
def subscribe(pattern: str, data: Path | None, mesh: str | None, as_json: bool) -> None:
    """Print what is published on topics like PATTERN, until Ctrl-C: * is one level, ** any number (orders.*.new).

    What did not arrive and is known is told as a line of its own: {"dropped": N} with --json.
    """
    from mesh.cli.values import show

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C: exit 0
    out = Output(json=as_json)
    with suppress(KeyboardInterrupt), _client(data, mesh) as client:
        for message in client.stream("subscribe", pattern=pattern):
            if "dropped" in message:
                out.value(message, f"({message['dropped']} messages did not arrive)")
            else:
                text = f"{show(message['topic'])} = {show(message['body'])}  ({message['sender'][:8]})"
                out.value(message, text)


@gossamer.command("dead-letters")
@click.argument("action", type=click.Choice(("list", "redeliver")), default="list")
@click.argument("letter", metavar="[ID]", required=False)
@node_options
def dead_letters(action: str, letter: str | None, data: Path | None, mesh: str | None, as_json: bool) -> None:
    """List durable messages of this node that were given up, or send one again (redeliver ID)."""
    from mesh.cli.values import show

    if (letter is None) == (action == "redeliver"):
        raise click.UsageError("redeliver takes the ID of one letter, list takes none")
    out = Output(json=as_json)
    with _client(data, mesh) as client:
        if action == "redeliver":
            again = client.ask("redeliver", letter=letter)
            out.value(again, f"goes again as {again}")
            return
        letters = client.ask("dead-letters")
        if as_json:
            out.value(letters)
            return
        for each in letters:
            text = f"{each['id']}  to {each['to'][:8]}  {show(each['body'])}  ({show(each['reason'])})"
            out.value(each, text)


# -- try it ----------------------------------------------------------------------------------------------------------


@gossamer.command()
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion(shell: str) -> None:
    """Print what makes SHELL complete gossamer's commands: eval "$(gossamer completion bash)"."""
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell)
    if made is None:
        raise click.UsageError(f"click knows no completion for {shell}")
    click.echo(made(gossamer, {}, "gossamer", "_GOSSAMER_COMPLETE").source())
