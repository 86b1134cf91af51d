"""The examples run as they stand, and as the README prints them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
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


def start(*arguments: str, stdin: int = subprocess.DEVNULL, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments], stdin=stdin, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
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


@pytest.mark.timeout(30)
def test_the_chat(processes: list[subprocess.Popen[str]], tmp_path: Path) -> None:
    """Two in the room: what one types the other reads, however long they took to find each other."""
    (tmp_path / "secret").write_text(uuid.uuid4().hex)
    for name in ("anna", "ben"):
        processes.append(start("examples/chat.py", str(tmp_path / "secret"), name, stdin=subprocess.PIPE))
        lines_until(processes[-1], f"{name} is here")
    anna, ben = processes
    is_heard = threading.Event()

    def type_on() -> None:
        assert anna.stdin is not None
        while not is_heard.wait(0.2):
            anna.stdin.write("hello\n")
            anna.stdin.flush()

    typing = threading.Thread(target=type_on)
    typing.start()
    try:
        lines_until(ben, "anna: hello")
    finally:
        is_heard.set()
        typing.join()


@pytest.mark.timeout(60)
def test_the_work_queue_survives_its_worker(processes: list[subprocess.Popen[str]], tmp_path: Path) -> None:
    """The worker is killed amid its jobs; the next one ends them, and the count is exact."""
    around = {"WORK_SECRET": uuid.uuid4().hex, "WORK_DATA": str(tmp_path)}
    processes.append(start("examples/work_queue.py", "worker", **around))
    lines_until(processes[0], "ready")
    processes.append(start("examples/work_queue.py", "boss", "100", **around))
    lines_until(processes[1], "100 jobs are safe")
    processes[0].kill()
    processes.append(start("examples/work_queue.py", "worker", **around))
    lines_until(processes[1], "100 jobs done")


@pytest.mark.timeout(60)
def test_the_sensors_are_all_read(processes: list[subprocess.Popen[str]]) -> None:
    """Three rooms publish; whoever watches sees all three."""
    around = {"SENSORS_SECRET": uuid.uuid4().hex}
    for words in (("watch",), ("sensor", "attic"), ("sensor", "cellar"), ("sensor", "hall")):
        processes.append(start("examples/sensors.py", *words, **around))
    lines_until(processes[0], "3 rooms: attic ")


def test_the_readme_is_python_that_compiles_and_a_demo_that_ran() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(blocks) >= 2
    for block in blocks:
        compile(block, "README.md", "exec")
    assert re.search(r"Every one of \d+ steps held", text)
