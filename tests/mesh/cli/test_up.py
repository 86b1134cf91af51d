"""``gossamer up`` as a real process: what it prints first, how it ends, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
WAIT_S = 15.0


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """The environment of a user with an empty state folder."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(tmp_path / "state")}


@contextmanager
def up(home: dict[str, str], *arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A running node, alone on its mesh, and its ready event."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mesh.cli", "up", "--json", "--no-discovery", *arguments], env=home, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        assert line, process.stderr.read()
        yield process, json.loads(line)
    finally:
        process.send_signal(signal.SIGTERM) if process.poll() is None else None
        try:
            process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.communicate()


def gossamer(home: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mesh.cli", *arguments], env=home, capture_output=True, text=True, timeout=WAIT_S,
        check=False,
    )  # fmt: skip


def refused(home: dict[str, str], *arguments: str, code: int = 1) -> str:
    """The one line that an ``up`` which cannot start prints."""
    done = gossamer(home, "up", "--no-discovery", *arguments)
    assert (done.returncode, done.stdout) == (code, ""), done
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


def test_ready_comes_first_then_state_from_the_shell_and_a_clean_end(home: dict[str, str], tmp_path: Path) -> None:
    with up(home, "ann") as (process, ready):
        data = tmp_path / "state" / "gossamer" / "default" / "ann"
        assert set(ready) == {"event", "id", "name", "mesh", "addresses", "data"}
        assert (ready["event"], ready["name"], ready["mesh"], ready["data"]) == ("ready", "ann", "default", str(data))
        assert all(each.startswith("127.0.0.1:") for each in ready["addresses"])
        assert stat.S_IMODE(data.stat().st_mode) == 0o700
        assert gossamer(home, "incr", "hits", "5").stdout == "5\n"
        assert gossamer(home, "incr", "hits", "-2").stdout == "3\n"
        assert gossamer(home, "add", "tags", "[1, 2]").returncode == 0
        assert gossamer(home, "put", "tags", "x").returncode == 1
        assert gossamer(home, "id").stdout.strip() == ready["id"]
        assert gossamer(home, "send", "nobody", "1").returncode == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == 0
    assert gossamer(home, "id", "ann").stdout.strip() == ready["id"]
    assert gossamer(home, "members").returncode == 3
    with up(home, "ann") as (_, again):
        assert again["id"] == ready["id"]
        dump = json.loads(gossamer(home, "dump", "--json").stdout)
        assert dump["value"] == {"hits": 3, "tags": [[1, 2]]}
        assert dump["digest"] == gossamer(home, "digest").stdout.strip()


def test_watch_prints_changes_until_it_is_ended(home: dict[str, str], tmp_path: Path) -> None:
    printed = tmp_path / "watched"
    with up(home, "ann"), printed.open("w") as out:
        watching = subprocess.Popen([sys.executable, "-m", "mesh.cli", "watch", "k", "--json"], env=home, stdout=out)
        until, number = time.monotonic() + WAIT_S, 0
        while not printed.read_text().endswith("\n"):  # whenever it begins to listen, a change comes after
            number += 1
            assert gossamer(home, "put", "k", str(number)).returncode == 0
            assert time.monotonic() < until
        watching.send_signal(signal.SIGINT)
        assert watching.wait(WAIT_S) == 0
        event = json.loads(printed.read_text().splitlines()[0])
        assert (event["key"], event["type"], event["local"]) == ("k", "register", True)
        assert 1 <= event["value"] <= number


def test_without_a_name_the_second_node_gets_the_next(home: dict[str, str]) -> None:
    base = socket.gethostname().split(".")[0]
    with up(home) as (_, first), up(home) as (_, second):
        assert (first["name"], second["name"]) == (base, f"{base}-2")
        told = gossamer(home, "members")
        assert told.returncode == 3
        assert "2 nodes run here" in told.stderr
        assert "already" in refused(home, base)


def test_a_set_of_either_kind_is_written_as_it_is(home: dict[str, str], tmp_path: Path) -> None:
    program = (
        "import asyncio, sys\nfrom mesh import Node\nasync def main():\n"
        "    async with Node('ann', data=sys.argv[1], discovery=False) as node:\n"
        "        node.set('tags', remove_wins=True).add('a')\n        await node.space('main').flush()\n"
        "asyncio.run(main())"
    )
    data = str(tmp_path / "data")
    subprocess.run([sys.executable, "-c", program, data], env=home, check=True, timeout=WAIT_S)
    with up(home, "ann", "--data", data):
        assert gossamer(home, "add", "tags", "b").returncode == 0
        assert gossamer(home, "remove", "tags", "a").returncode == 0
        assert gossamer(home, "get", "tags").stdout == '["b"]\n'


def test_ctrl_c_a_closed_terminal_and_leave_end_it_with_0(home: dict[str, str]) -> None:
    for number in (signal.SIGINT, signal.SIGHUP):
        with up(home, "ann") as (process, _):
            process.send_signal(number)
            assert process.wait(WAIT_S) == 0
    with up(home, "ann") as (process, _):
        assert gossamer(home, "leave").returncode == 0
        assert process.wait(WAIT_S) == 0


def test_what_cannot_start_says_why_in_one_line(home: dict[str, str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "the port is taken" in refused(home, "a", "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    assert "gossamer secret >" in refused(home, "a", "--secret-file", str(tmp_path / "missing"))
    (tmp_path / "empty").touch()
    assert "is empty" in refused(home, "a", "--secret-file", str(tmp_path / "empty"))
    assert "HOST:PORT" in refused(home, "a", "--listen", "nonsense", code=2)
    assert "admits anyone" in refused(home, "a", "--listen", "0.0.0.0:0", code=2)
    assert "HOST:PORT" in refused(home, "a", "--join", "nonsense", code=2)


def test_a_key_that_others_can_read_is_not_used(home: dict[str, str], tmp_path: Path) -> None:
    with up(home, "ann") as (_, ready):
        key = Path(ready["data"]) / "node.key"
    key.chmod(0o644)
    assert "node.key" in refused(home, "ann")
    assert gossamer(home, "id", "ann").returncode == 1


def test_the_demo_holds(home: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mesh.cli", "demo", "--json"], env=home, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done
    chapters = [each["name"] for each in events if each["event"] == "chapter"]
    assert chapters == ["discover", "share", "cut", "heal", "kill", "recover"]
    assert events[-1]["event"] == "done"
    assert events[-1]["seconds"] < 30


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing(home: dict[str, str], tmp_path: Path, number: signal.Signals) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    demo = subprocess.Popen(
        [sys.executable, "-m", "mesh.cli", "demo", "--json"], env={**home, "TMPDIR": str(folder)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert demo.stdout is not None
    while '"step"' not in demo.stdout.readline():
        assert demo.poll() is None
    demo.send_signal(number)
    _, err = demo.communicate(timeout=WAIT_S)
    assert demo.returncode == 1
    assert "interrupted" in err
    assert list(folder.iterdir()) == []
    if shutil.which("ps"):
        listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=False).stdout
        assert str(folder) not in listed
