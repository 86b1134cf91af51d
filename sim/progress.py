"""A bar on standard error, where somebody looks at it."""

from __future__ import annotations

import sys
from typing import Any


class Bar:
    """A bar on standard error, where somebody looks at it; ``advance(text)`` moves it by one."""

    def __init__(self, total: int, what: str, *, quiet: bool) -> None:
        self._total, self._what = total, what
        self._quiet = quiet or not sys.stderr.isatty()

    def __enter__(self) -> Any:
        if self._quiet:
            return lambda text: None
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.fields[what]}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[said]}", markup=False),
        )  # fmt: skip
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False)
        self._bar.start()
        task = self._bar.add_task("", total=self._total, what=self._what, said="")
        return lambda text: self._bar.update(task, advance=1, said=text, refresh=True)

    def __exit__(self, *_: object) -> None:
        if not self._quiet:
            self._bar.stop()
