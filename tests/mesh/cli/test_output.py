"""What reaches standard output: a reader that does not read, one that goes away, and no tricks on a terminal."""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys
from typing import Any

import pytest

from mesh.cli.output import BACKLOG_BYTES_MAX, EventLines, Output
from tests.mesh.cli.fake import eventually


class Piped:
    """A pipe in the place of standard output."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.read_end, write_end = os.pipe()
        self.file = os.fdopen(write_end, "w")
        monkeypatch.setattr(sys, "stdout", self.file)

    def take(self) -> bytes:
        """What is in the pipe now."""
        os.set_blocking(self.read_end, False)
        taken = b""
        while True:
            try:
                part = os.read(self.read_end, 1 << 16)
            except BlockingIOError:
                return taken
            if not part:
                return taken
            taken += part


async def test_a_reader_that_stops_never_stops_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = Piped(monkeypatch)
    lines = EventLines(asyncio.get_running_loop(), json=True)
    count = 4 * BACKLOG_BYTES_MAX // 100
    for number in range(count):
        lines.event({"event": "x", "number": number, "padding": "p" * 60}, None)
    assert lines.dropped > 0
    taken = bytearray()
    await eventually(lambda: taken.extend(pipe.take()) or b'"dropped"' in taken)
    *events, last = [json.loads(line) for line in bytes(taken).splitlines()]
    assert [each["number"] for each in events] == list(range(len(events)))
    assert last == {"event": "dropped", "count": count - len(events)}
    lines.event({"event": "again"}, None)
    assert json.loads(pipe.take()) == {"event": "again"}
    lines.close()


async def test_a_reader_that_is_gone_ends_the_printing_only(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = Piped(monkeypatch)
    lines = EventLines(asyncio.get_running_loop(), json=False)
    os.close(pipe.read_end)
    for _ in range(3):
        lines.event({}, "hello")
    lines.close()


async def test_people_see_no_event_that_has_no_words(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = Piped(monkeypatch)
    lines = EventLines(asyncio.get_running_loop(), json=False)
    lines.event({"event": "link.up"}, None)
    lines.event({"event": "member"}, "alive: bob")
    assert pipe.take() == b"alive: bob\n"
    lines.close()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("terminal", [True, False])
def test_a_name_is_never_markup_nor_an_escape(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    screen: Any = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("TERM", "dumb")
    Output().table([{"name": "[bold red]x[/] \x1b[31m \u202e", "n": 1}, {"name": None, "n": [1]}], ("name", "n"))
    shown = screen.getvalue()
    assert "[bold red]x[/] \\x1b[31m \\u202e" in shown
    assert "\x1b[31m" not in shown
    assert "\u202e" not in shown
