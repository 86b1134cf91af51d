"""The pages' code runs as it is printed: Python in a world or in processes of its own, commands with their output."""

from __future__ import annotations

import ast
import contextlib
import os
import re
import subprocess
import sys
import textwrap
import uuid
from pathlib import Path
from typing import Any

import pytest

from mesh.errors import NotReached

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"```(python|console)\n(.*?)```", re.S)
NUMBER = re.compile(r"\d+(\.\d+)?")


def blocks(page: str, after: str = "") -> list[tuple[str, str]]:
    """The kind and text of each block of a page, below the heading ``after``, up to the next one of its level."""
    text = (ROOT / page).read_text(encoding="utf-8")
    if after:
        text = text.split(f"\n## {after}", 1)[1].split("\n## ", 1)[0]
    return BLOCK.findall(text)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}


def told(command: str, cwd: Path) -> tuple[int, str]:
    """Its exit code and all that it printed."""
    program = {"gossamer": ["-m", "mesh.cli"], "pytest": ["-m", "pytest", "-p", "sim.pytest_plugin", "-q"]}
    name, *arguments = command.split()
    done = subprocess.run(
        [sys.executable, *program[name], *arguments], cwd=cwd, env=environment(), capture_output=True, text=True,
        timeout=100, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def runs(console: str, cwd: Path) -> None:
    """Each ``$`` line is run; the lines below it are among what it prints, whatever the numbers; ``[exit N]`` is so."""
    for each in re.split(r"^\$ ", console, flags=re.M)[1:]:
        command, *expected = each.strip().split("\n")
        wanted = 0
        if expected and (code := re.fullmatch(r"\[exit (\d)\]", expected[-1])):
            wanted = int(code[1])
            expected.pop()
        exit_code, said = told(command, cwd)
        assert exit_code == wanted, f"{command}: {said}"
        masked = NUMBER.sub("#", said)
        for line in expected:
            assert NUMBER.sub("#", line) in masked, f"{command} did not print {line!r}, but: {said}"


@pytest.mark.timeout(200)
def test_the_course(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    found = blocks("docs/simulator.md")
    assert len(found) >= 9
    for kind, text in found:
        if kind == "console":
            runs(text, tmp_path)
        elif named := re.match(r"# (\S+\.py)\n", text):
            (tmp_path / named[1]).write_text(text)
        else:
            (tmp_path / "block.py").write_text(text)
            done = subprocess.run(
                [sys.executable, "block.py"], cwd=tmp_path, env=environment(), capture_output=True, text=True,
                timeout=100, check=False,
            )  # fmt: skip
            assert done.returncode == 0, f"{text}\n{done.stderr}"
    page = (tmp_path / "box-office.html").read_text(encoding="utf-8")
    assert "box-office" in page and "seats were sold" in page


@pytest.mark.timeout(120)
def test_the_readmes_simulator_section(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for kind, text in blocks("README.md", "Try it against the worst"):
        if kind == "console":
            runs(text, tmp_path)
        else:
            exec(compile(text, "README.md", "exec"), {})


def test_the_readmes_values(capsys: pytest.CaptureFixture[str]) -> None:
    ((_, text),) = blocks("README.md", "Only the values")
    exec(compile(text, "README.md", "exec"), {})
    assert capsys.readouterr().out.strip() == text.rsplit("# ", 1)[1].strip()


async def _asked_of_itself(block: Any) -> None:
    """The kitchen tells the block too, for its handlers: what it asks of the kitchen is not for itself."""
    with contextlib.suppress(NotReached):
        await block()


def _in_a_world(text: str, names: dict[str, Any]) -> None:
    """A piece of a program with a ``node``: told on both nodes of a world, as the body of a coroutine."""
    from sim import World

    body = "async def block():\n" + textwrap.indent(text, "    ")
    with World(seed=1) as world:
        kitchen, hall = world.spawn(names=["kitchen", "hall"])
        world.run_for(2.0)
        for each in (kitchen, hall):
            scope: dict[str, Any] = {**names, "node": each.node}
            exec(compile(ast.parse(body), "quick-start.md", "exec"), scope)
            if each is kitchen:
                world.start_in(each, _asked_of_itself(scope["block"]))
                world.run_for(1.0)
            else:
                world.run_in(each, scope["block"](), within=10.0)


@pytest.mark.timeout(60)
def test_the_quick_start(tmp_path: Path) -> None:
    for kind, text in blocks("docs/quick-start.md"):
        if kind != "python":
            continue
        if "from sim import" in text:
            exec(compile(text, "quick-start.md", "exec"), {})
        elif "asyncio.run(" in text:
            _in_two_processes(text, tmp_path)
        else:
            _in_a_world(text, {})


def _in_two_processes(text: str, folder: Path) -> None:
    """A whole program: told twice at once, under two names and a secret of this test's own, until both see a change."""
    text = re.sub(r'secret="[^"]*"', f'secret="{uuid.uuid4().hex}"', text)
    started = []
    try:
        for name in ("kitchen", "hall"):
            file = folder / f"{name}.py"
            file.write_text(text.replace('"kitchen"', f'"{name}"'))
            started.append(subprocess.Popen([sys.executable, "-u", str(file)], stdout=subprocess.PIPE, text=True,
                                            env=environment()))  # fmt: skip
        for each in started:
            assert each.stdout is not None
            assert any("visits" in line or "lights" in line for line in each.stdout)
    finally:
        for each in started:
            each.kill()
            each.communicate()
