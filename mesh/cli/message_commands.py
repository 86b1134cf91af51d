"""Commands that send and read messages. Nothing heavy is imported up here: help must answer at once."""

from __future__ import annotations

import signal
from contextlib import suppress
from pathlib import Path

import click

from mesh.cli.options import client_of, command, node_options
from mesh.cli.output import Output

_key_option = click.option("--key", default="", help="Under one key its handler runs once, however often it is sent.")


@command()
@click.argument("to")
@click.argument("value")
@click.option("--durable", is_flag=True, help="Keep it on disk here, and send it until it was handled there.")
@click.option(
    "--ttl", type=click.FloatRange(min=0.001, max=10**9), default=None, help="Seconds after which it is given up."
)
@click.option(
    "--priority", type=click.Choice(("high", "normal", "low")), default="normal", help="What may overtake it."
)
@_key_option
@node_options
def send(
    to: str, value: str, durable: bool, ttl: float | None, priority: str, key: str, data: Path | None,
    mesh: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Send VALUE to the node TO (a name or an id).

    At most once, and nothing tells whether it was handled; with --durable at least once, also if TO is away now: its
    number is printed once it is on disk here.
    """
    from mesh.cli.values import parse

    body = parse(value)
    with client_of(data, mesh) as client:
        letter = client.ask("send", to=to, body=body, durable=durable, ttl=ttl, priority=priority, key=key)
    Output(json=as_json).value(letter or True, letter or "sent")


@command()
@click.argument("to")
@click.argument("name")
@click.argument("value", default="null")
@click.option(
    "--timeout", type=click.FloatRange(min=0.001, max=86_400), default=10.0, show_default=True, help="In seconds."
)
@_key_option
@node_options
def request(
    to: str, name: str, value: str, timeout: float, key: str, data: Path | None, mesh: str | None, as_json: bool
) -> None:
    """Ask the handler NAME of the node TO, and print its answer.

    Asked again under the same --key it answers as it did, without running again: a script may repeat after a timeout.
    """
    from mesh.cli.values import parse

    body = parse(value)
    with client_of(data, mesh) as client:
        answer = client.ask("request", wait=timeout + 5, to=to, name=name, body=body, timeout=timeout, key=key)
    Output(json=as_json).value(answer)


@command()
@click.argument("topic")
@click.argument("value")
@node_options
def publish(topic: str, value: str, data: Path | None, mesh: str | None, as_json: bool) -> None:
    """Publish VALUE on TOPIC (orders.eu.new) to whoever subscribed, on any member; nobody keeps it for later."""
    from mesh.cli.values import parse

    body = parse(value)
    with client_of(data, mesh) as client:
        client.ask("publish", topic=topic, body=body)
    Output(json=as_json).value(True, "published")


@command()
@click.argument("pattern")
@node_options
def subscribe(pattern: str, data: Path | None, mesh: str | None, as_json: bool) -> None:
    """Print what is published on topics like PATTERN, until Ctrl-C: * is one level, ** any number (orders.*.new).

    What did not arrive and is known is told as a line of its own: {"dropped": N} with --json.
    """
    from mesh.cli.values import show

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C: exit 0
    out = Output(json=as_json)
    with suppress(KeyboardInterrupt), client_of(data, mesh) as client:
        for message in client.stream("subscribe", pattern=pattern):
            if "dropped" in message:
                out.value(message, f"({message['dropped']} messages did not arrive)")
            else:
                text = f"{show(message['topic'])} = {show(message['body'])}  ({message['sender'][:8]})"
                out.value(message, text)


@command("dead-letters")
@click.argument("action", type=click.Choice(("list", "redeliver")), default="list")
@click.argument("letter", metavar="[ID]", required=False)
@node_options
def dead_letters(action: str, letter: str | None, data: Path | None, mesh: str | None, as_json: bool) -> None:
    """List durable messages of this node that were given up, or send one again (redeliver ID)."""
    from mesh.cli.values import show

    if (letter is None) == (action == "redeliver"):
        raise click.UsageError("redeliver takes the ID of one letter, list takes none")
    out = Output(json=as_json)
    with client_of(data, mesh) as client:
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
