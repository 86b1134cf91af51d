"""How commands are made and found: groups that import a command when it runs, and arguments that may be negative."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import click

_NUMBER = re.compile(r"-(\d|\.\d)")


class Command(click.Command):
    """A command whose arguments may be negative numbers: ``incr hits -5`` needs no ``--``.

    A mistyped option stays an error; only what begins like a number is taken as an argument.
    """

    def __init__(self, *positional: object, **named: object) -> None:
        super().__init__(*positional, **named)  # type: ignore[arg-type]
        self.ignore_unknown_options = True  # click hands them on; ``parse_args`` has judged them before

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        known = {name for each in self.get_params(ctx) for name in (*each.opts, *each.secondary_opts)}
        for text in args:
            if text == "--":
                break
            option = text.split("=", 1)[0]
            if text.startswith("-") and len(text) > 1 and option not in known and not _NUMBER.match(text):
                raise click.NoSuchOption(option, ctx=ctx, possibilities=sorted(known))
        return super().parse_args(ctx, args)


class Lazy(NamedTuple):
    """A command that lives in a module imported only when it runs."""

    module: str
    name: str
    help: str


class Group(click.Group):
    """Commands in sections, in the order they were made. ``lazy`` ones are imported when they run, not for help."""

    command_class = Command

    def __init__(
        self, *positional: object, lazy: Mapping[str, Lazy], sections: Mapping[str, Sequence[str]], **named: object
    ) -> None:
        super().__init__(*positional, **named)  # type: ignore[arg-type]
        self._lazy = {name: each for name, each in lazy.items() if _is_there(each.module)}
        self._sections = sections

    def list_commands(self, ctx: click.Context) -> list[str]:
        there = {*super().list_commands(ctx), *self._lazy}
        named = [name for names in self._sections.values() for name in names if name in there]
        return named + sorted(there.difference(named))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        lazy = self._lazy.get(cmd_name)
        if lazy is None:
            return super().get_command(ctx, cmd_name)
        command: click.Command = getattr(importlib.import_module(lazy.module), lazy.name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        listed = self.list_commands(ctx)
        others = [name for name in listed if not any(name in names for names in self._sections.values())]
        for title, names in {**self._sections, "Others": others}.items():
            rows = [(name, self._help(ctx, name)) for name in names if name in listed]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def _help(self, ctx: click.Context, name: str) -> str:
        if name in self._lazy:
            return self._lazy[name].help
        command = super().get_command(ctx, name)
        return command.get_short_help_str(limit=100) if command else ""


def _is_there(module: str) -> bool:
    """Whether ``package.module`` exists, found without importing the package."""
    package, _, name = module.partition(".")
    spec = find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        return False
    inside = Path(*name.split("."))
    return any(
        (Path(folder) / inside).with_suffix(".py").is_file() or (Path(folder) / inside / "__init__.py").is_file()
        for folder in spec.submodule_search_locations
    )
