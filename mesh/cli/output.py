"""What a command prints: one value, one table, or one line an event; for people, or as JSON."""

from __future__ import annotations

import os
import stat
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mesh.cli.values import escape, show, to_json

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

BACKLOG_BYTES_MAX = 1 << 20  # of event lines waiting for a reader that does not read


class Output:
    """Standard output of one command. ``json``: whether programs read it."""

    def __init__(self, *, json: bool = False) -> None:
        self.json = json

    def value(self, value: Any, text: str | None = None) -> None:
        """Print one value: JSON as it is; for people ``text``, or the value itself."""
        self._line(to_json(value) if self.json else show(value) if text is None else text)

    def note(self, text: str) -> None:
        """Print a line for people only. ``text`` is ours; escape what peers made before it gets here."""
        if not self.json:
            self._line(text)

    def table(self, rows: Sequence[Mapping[str, Any]], columns: Sequence[str], full: Any = None) -> None:
        """Print rows: as JSON all of them whole (or ``full`` instead), for people the ``columns`` they want."""
        if self.json:
            self._line(to_json(rows if full is None else full))
            return
        cells = [["" if row.get(name) is None else show(row[name]) for name in columns] for row in rows]
        if sys.stdout.isatty():
            self._rich(columns, cells)
            return
        widths = [max(len(line[at]) for line in [list(columns), *cells]) for at in range(len(columns))]
        for line in [[name.upper() for name in columns], *cells]:
            self._line("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())

    def _rich(self, columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
        from rich.box import SIMPLE
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=SIMPLE, pad_edge=False)
        for name in columns:
            table.add_column(name, overflow="fold")
        for line in cells:
            table.add_row(*(Text(cell) for cell in line))  # Text: never parsed as markup
        Console(highlight=False).print(table)

    def _line(self, text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def complain(text: str, remedy: str = "") -> None:
    """One line on standard error: what went wrong, then what to do."""
    line = f"gossamer: {escape(text)}" + (f" — {escape(remedy)}" if remedy else "")
    try:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
    except (BrokenPipeError, ValueError):
        pass  # nobody reads errors any more; the exit code still tells


class EventLines:
    """Event lines of a running node. A reader that stops reading must never stop the node.

    A pipe is written without waiting; what it does not take is kept up to ``BACKLOG_BYTES_MAX``, and beyond that
    lines are dropped and counted: ``{"event": "dropped", "count": n}`` is the next one printed. A reader that is gone
    ends the printing, not the node.
    """

    def __init__(self, loop: AbstractEventLoop, *, json: bool) -> None:
        self.json = json
        self.dropped = 0
        self._loop = loop
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._fd: int | None = None  # our own description of the pipe, so that not waiting concerns only us
        self._gone = False
        try:
            out = sys.stdout.fileno()
            if stat.S_ISFIFO(os.fstat(out).st_mode):
                self._fd = os.open(f"/proc/self/fd/{out}", os.O_WRONLY | os.O_NONBLOCK)
        except (OSError, ValueError):
            self._fd = None  # not Linux, or no pipe: plain writes

    def event(self, fields: Mapping[str, Any], text: str | None) -> None:
        """Print one event; for people ``text``, and nothing at all when that is ``None``."""
        if self.json:
            self._write(to_json(fields))
        elif text is not None:
            self._write(text)

    def _write(self, line: str) -> None:
        if self._gone:
            return
        if self._fd is None:
            try:
                sys.stdout.write(line + "\n")
                sys.stdout.flush()
            except (BrokenPipeError, ValueError):
                self._gone = True
            return
        data = line.encode() + b"\n"
        if self._waiting_bytes + len(data) > BACKLOG_BYTES_MAX:
            self.dropped += 1
            return
        idle = not self._waiting
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        if idle:
            self._drain()

    def _drain(self) -> None:
        assert self._fd is not None
        while self._waiting:
            data = self._waiting[0]
            try:
                taken = os.write(self._fd, data)
            except BlockingIOError:
                self._loop.add_writer(self._fd, self._drain)
                return
            except OSError:
                self._gone = True
                self._waiting.clear()
                break
            self._waiting_bytes -= taken
            if taken < len(data):
                self._waiting[0] = data[taken:]
                continue
            self._waiting.popleft()
            if self.dropped and not self._waiting:
                count, self.dropped = self.dropped, 0
                note = f'{{"event": "dropped", "count": {count}}}' if self.json else f"({count} events not shown)"
                self._waiting.append(note.encode() + b"\n")
                self._waiting_bytes += len(note) + 1
        self._loop.remove_writer(self._fd)

    def close(self) -> None:
        """Write what the pipe takes at once, and let go of it."""
        if self._fd is not None:
            self._drain()
            self._loop.remove_writer(self._fd)
            os.close(self._fd)
            self._fd = None
            self._gone = True
