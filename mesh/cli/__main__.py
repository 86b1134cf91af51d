"""The entry point: ``gossamer``, or ``python -m mesh.cli``."""

from __future__ import annotations

import os
import sys

import click

from mesh.cli.commands import gossamer
from mesh.cli.errors import ControlError
from mesh.cli.output import complain
from mesh.cli.values import ValueUnreadable

OK, FAILED, USAGE = 0, 1, 2  # and 3: no node (``control.NoNode``)


def run(arguments: list[str] | None = None) -> int:
    """Run one command. The exit code: 0 done, 1 failed, 2 used wrongly, 3 no node."""
    try:
        code = gossamer.main(arguments, prog_name="gossamer", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else OK
    except click.exceptions.NoArgsIsHelpError as help_wanted:
        click.echo(help_wanted.format_message())
        return OK
    except click.ClickException as wrong:
        path = wrong.ctx.command_path if isinstance(wrong, click.UsageError) and wrong.ctx else "gossamer"
        complain(wrong.format_message().replace("\n", " "), f"see {path} --help")
        return USAGE
    except ValueUnreadable as wrong:
        complain(str(wrong), "quote it for the shell, or give plain text")
        return USAGE
    except ControlError as failed:
        complain(failed.text, failed.remedy)
        return failed.exit_code
    except (click.exceptions.Abort, KeyboardInterrupt):
        return FAILED  # Ctrl-C; what is meant to be ended by it (up, watch) catches it and returns 0
    except BrokenPipeError:
        # the reader (head, less) has what it wanted; keep Python from complaining when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK


def main() -> None:
    """``gossamer`` of the installed package."""
    sys.exit(run())


if __name__ == "__main__":
    main()
