"""The examples run as they stand, and as the README prints them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    """Programs that are ended with the test."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for each in started:
        each.kill()
        each.communicate()


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def lines_until(process: subprocess.Popen[str], wanted: str) -> None:
    """Read until a line has ``wanted``; the test's own timeout is the bound."""
    assert process.stdout is not None
    for line in process.stdout:
        if wanted in line:
            return
    raise AssertionError(f"it ended without {wanted!r}")


@pytest.mark.timeout(30)
def test_the_lan_example(processes: list[subprocess.Popen[str]], tmp_path: Path) -> None:
    """Two that have the same secret file see each other; the secret is this test's own, so nobody else joins."""
    (tmp_path / "secret").write_text(uuid.uuid4().hex)
    for _ in range(2):
        processes.append(start("examples/lan.py", str(tmp_path / "secret")))
    for each in processes:
        lines_until(each, "+ ")


@pytest.mark.timeout(30)
def test_ten_lines(processes: list[subprocess.Popen[str]]) -> None:
    """Alone or not (it is the default mesh of this machine), it prints the count it raised."""
    processes.append(start("examples/embed.py"))
    lines_until(processes[0], " visits, ")


def test_the_readme_is_python_that_compiles_and_a_demo_that_ran() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(blocks) >= 2
    for block in blocks:
        compile(block, "README.md", "exec")
    assert re.search(r"Every one of \d+ steps held", text)
