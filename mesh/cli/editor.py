"""A text in the user's editor. Whatever goes wrong, what they wrote is kept in a file, and they are told in which."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from mesh.cli.errors import ControlError

BOM = "\ufeff"  # some editors begin a file with one


@contextmanager
def edited(base: str) -> Iterator[str]:
    """``base`` as the user left it in $VISUAL or $EDITOR; what fails in the block leaves the file where it is.

    Line ends stay as they are; a newline at the end that ``base`` did not have does not count, since editors add one.
    Raises ``ControlError``: the editor failed, took the file away, or left something that is no text. Nothing was sent.
    """
    folder = Path(tempfile.mkdtemp(prefix="gossamer-"))  # the user's alone
    file = folder / "text.txt"
    file.write_bytes(base.encode())
    try:
        click.edit(filename=str(file))
        new = file.read_bytes().decode()
    except click.ClickException as failed:
        raise _kept(file, base, f"the editor failed ({failed.format_message()}); nothing was sent") from None
    except FileNotFoundError:
        raise _kept(file, base, "the editor took the file away; nothing was sent") from None
    except UnicodeDecodeError:
        raise _kept(file, base, "that is no text in UTF-8; nothing was sent") from None
    if new.startswith(BOM) and not base.startswith(BOM):
        new = new.removeprefix(BOM)
    if new.endswith("\n") and not base.endswith("\n"):
        new = new.removesuffix("\n").removesuffix("\r")
    try:
        yield new
    except ControlError as failed:
        kept = _kept(file, base, "")
        failed.remedy = "; ".join(each for each in (failed.remedy, kept.remedy) if each)
        raise
    _remove(file)


def _kept(file: Path, base: str, text: str) -> ControlError:
    """The error, with where the text is; if the user changed nothing there is nothing to keep."""
    if not file.exists() or file.read_bytes() == base.encode():
        _remove(file)
        return ControlError(text)
    return ControlError(text, f"what you wrote is in {file}")


def _remove(file: Path) -> None:
    file.unlink(missing_ok=True)
    for left in file.parent.iterdir():  # what the editor put beside it
        if left.is_file():
            left.unlink()
    if not any(file.parent.iterdir()):
        file.parent.rmdir()
