"""The root of all commands: their sections, in the order people read them."""

from __future__ import annotations

import click

from mesh.cli import message_commands, node_commands, state_commands
from mesh.cli.group import Group, Lazy
from mesh.cli.output import Output

gossamer = Group(
    name="gossamer",
    help="A peer-to-peer mesh with shared state: no server, no broker, no daemon.",
    epilog="VALUE is JSON, or plain text if it is not. Exit codes: 0 done, 1 failed, 2 used wrongly, 3 no node.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    no_args_is_help=True,
    lazy={
        "demo": Lazy("mesh.cli.demo", "demo", "Three real nodes on this machine: cut, healed, killed, recovered."),
        "bench": Lazy("bench.cli", "command", "Measure this machine: each figure beside its reference, as a ratio."),
        "sim": Lazy("sim.cli", "group", "Run the same nodes in a simulated world that obeys a seed."),
    },
    sections={
        "A node": ("up", "leave", "retire", "id", "secret"),
        "What it sees": ("members", "status", "doctor"),
        "Shared state": (
            "get", "put", "incr", "decr", "add", "remove", "edit", "delete", "dump", "digest", "watch"
        ),
        "Messages": ("send", "request", "publish", "subscribe", "dead-letters"),
        "Try it": ("demo", "sim", "bench", "completion"),
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


for _room in (node_commands, state_commands, message_commands):
    for _each in vars(_room).values():
        if isinstance(_each, click.Command):
            gossamer.add_command(_each)


@gossamer.command()
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion(shell: str) -> None:
    """Print what makes SHELL complete gossamer's commands: eval "$(gossamer completion bash)"."""
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell)
    if made is None:
        raise click.UsageError(f"click knows no completion for {shell}")
    click.echo(made(gossamer, {}, "gossamer", "_GOSSAMER_COMPLETE").source())
