"""Commands from the outside: what is printed where, and which exit code."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import click
import pytest

from mesh.cli.__main__ import run
from tests.mesh.cli.fake import ME, FakeNode, served

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
async def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeNode]:
    """The only running node of this user."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    async with served(tmp_path / "gossamer" / "default" / "ann") as node:
        yield node


async def gossamer(*arguments: str) -> int:
    return await asyncio.to_thread(run, list(arguments))


async def test_state_from_the_shell(node: FakeNode, capsys: pytest.CaptureFixture[str]) -> None:
    for command, printed in (
        ("incr hits 3", "3\n"), ("incr hits -5", "-2\n"), ("decr hits -4", "2\n"), ("decr hits", "1\n"),
        ("put title hello", ""), ("get title", "hello\n"), ("put temperature -1.5", ""), ("get temperature", "-1.5\n"),
        ("add tags a", ""), ("add tags 1", ""), ("get tags", '["a", 1]\n'), ("remove tags a", ""),
        ("get tags", "[1]\n"),
        ("digest", "d1\n"), ("get hits --json", "1\n"), ("get title --json", '"hello"\n'), ("delete title", ""),
        ("put --space other k 1", ""), ("get k --space other", "1\n"),
    ):  # fmt: skip
        assert await gossamer(*command.split()) == 0, command
        assert capsys.readouterr() == (printed, ""), command
    assert await gossamer("put", "blob", '{"$bytes": "AAE="}') == 0
    assert node.space("main").value["blob"] == b"\x00\x01"
    assert await gossamer("get", "blob") == 0
    assert capsys.readouterr().out == '{"$bytes": "AAE="}\n'
    assert await gossamer("dump", "--json") == 0
    dump = json.loads(capsys.readouterr().out)
    assert set(dump) == {"space", "clock", "digest", "value"}
    assert await gossamer("put", "k", "1", "--json", "--confirm", "quorum") == 0
    assert json.loads(capsys.readouterr().out) == {"key": "k", "value": 1, "durable": True, "confirmed": "quorum"}


async def test_a_text_is_edited_in_an_editor(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = node.space("main").text("page")
    page.append("the quick fox\njumps\n")
    monkeypatch.setenv("EDITOR", "sed -i s/quick/slow/")
    assert await gossamer("edit", "page") == 0
    assert capsys.readouterr() == ("", "")
    assert str(page) == "the slow fox\njumps\n"
    assert node.space("main").flushed
    clock = page._doc.clock
    monkeypatch.setenv("EDITOR", "true")  # nothing changed, nothing sent
    assert await gossamer("edit", "page") == 0
    assert page._doc.clock == clock

    def meanwhile(filename: str) -> None:
        page.insert(0, "Once, ")
        Path(filename).write_bytes(Path(filename).read_bytes().replace(b"jumps", b"jumped"))

    monkeypatch.setattr("click.edit", meanwhile)
    assert await gossamer("edit", "page") == 0
    assert str(page) == "Once, the slow fox\njumped\n"
    assert await gossamer("put", "title", "x") == 0
    assert await gossamer("edit", "title") == 1
    assert "title" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("script", "said", "kept"),
    [
        ("echo more >> $1; exit 3", "the editor failed", True),
        ("echo more >> $1; kill -9 $$", "the editor failed", True),
        ("exit 3", "the editor failed", False), ("rm $1", "took the file away", False),
        ("printf '\\377\\376x' > $1", "no text in UTF-8", True),
        ("head -c 3000000 /dev/zero | tr '\\0' x > $1", "too large", True),
    ],
)  # fmt: skip
async def test_found_what_an_editor_leaves_is_never_lost(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    script: str, said: str, kept: bool,
) -> None:  # fmt: skip
    """By hand: garbage and a file that was gone ended in a traceback, and a text that could not be sent was lost."""
    page = node.space("main").text("page")
    page.append("one\r\ntwo\r\n")
    editor = tmp_path / "editor"
    editor.write_text(f"#!/bin/sh\n{script}\n")
    editor.chmod(0o755)
    monkeypatch.setenv("EDITOR", str(editor))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert await gossamer("edit", "page") == 1
    err = capsys.readouterr().err
    assert said in err and len(err.splitlines()) == 1
    assert str(page) == "one\r\ntwo\r\n"
    files = list(tmp_path.glob("gossamer-*/*"))  # noqa: ASYNC240
    assert bool(files) == kept and all(str(each) in err for each in files)


async def test_line_ends_of_a_text_are_not_the_editors(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by hand: whoever opened a text with CRLF changed all of its lines."""
    page = node.space("main").text("page")
    page.append("one\r\ntwo\r\nthree")
    monkeypatch.setenv("EDITOR", "sed -i s/two/2/")
    assert await gossamer("edit", "page") == 0
    assert str(page) == "one\r\n2\r\nthree"


async def test_members_as_a_table_and_as_json(node: FakeNode, capsys: pytest.CaptureFixture[str]) -> None:
    assert await gossamer("members") == 0
    table = capsys.readouterr().out
    assert "\x1b" not in table
    assert "bob \\x1b[31m" in table
    assert await gossamer("members", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [set(row) for row in rows] == [{"id", "name", "state", "addresses", "incarnation", "rtt_ms"}] * 2
    assert rows[0]["id"] == str(ME)


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("get nothing", 1, "nothing is there under 'nothing'"), ("frob", 2, "No such command 'frob'"),
        ("incr hits --jsno", 2, "--json"), ("incr hits many", 2, "not a valid integer"), ("incr", 2, "KEY"),
        ("put k v --confirm some", 2, "quorum"), ("up --open --secret-file f", 2, "exclude"),
        ("cut", 2, "No such command"),
        ("get k --data /nowhere", 3, "gossamer up"), ("get k --mesh other", 3, "gossamer up"),
        ('put k {"$bytes":"?"}', 2, "base64"), (f"put k {1 << 70}", 1, "64 bits"), (f"get {'k' * 600}", 1, "length"),
    ],
)  # fmt: skip
async def test_errors_are_one_line_with_a_remedy(
    node: FakeNode, capsys: pytest.CaptureFixture[str], command: str, code: int, words: str
) -> None:
    assert await gossamer(*command.split(" ")) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith("gossamer: ")
    assert words in err


async def test_two_nodes_are_listed_not_guessed(
    node: FakeNode, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "gossamer" / "default" / "bob"
    async with served(other, FakeNode(name="bob")):
        assert await gossamer("digest") == 3
        assert "2 nodes run here: ann (--data " in capsys.readouterr().err
        assert await gossamer("digest", "--data", str(other)) == 0
    assert await gossamer("digest") == 0


async def test_status_doctor_messages(node: FakeNode, capsys: pytest.CaptureFixture[str]) -> None:
    assert await gossamer("status", "--json") == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["name"], status["mesh"], status["members"]["down"]) == ("ann", "default", 1)
    assert await gossamer("send", "bob", "[1]") == 0
    assert node.sent == [("bob", [1])]
    capsys.readouterr()
    assert await gossamer("request", "bob", "sum", "[1, 2]") == 0
    assert capsys.readouterr().out == '["bob", "sum", [1, 2]]\n'
    assert await gossamer("leave") == 0
    assert await gossamer("status") == 3


async def test_topics_and_letters(node: FakeNode, capsys: pytest.CaptureFixture[str]) -> None:
    assert await gossamer("publish", "orders.eu.new", "[1]") == 0
    assert await gossamer("send", "bob", "2", "--durable", "--ttl", "5") == 0
    assert node.sent == [("orders.eu.new", [1]), ("bob", 2)]
    assert capsys.readouterr().out == "published\nletter-5\n"
    assert await gossamer("dead-letters") == 0
    line = capsys.readouterr().out
    assert line.startswith("l-1  to ") and "expired" in line and "\x1b" not in line
    assert await gossamer("dead-letters", "list", "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["made_ms"] == 7
    assert await gossamer("dead-letters", "redeliver", "l-1") == 0
    assert capsys.readouterr().out == "goes again as l-1-again\n"
    assert await gossamer("dead-letters", "redeliver") == 2


def shell(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mesh.cli", *arguments], capture_output=True, text=True, timeout=30, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip


def test_help_is_quick_and_light() -> None:
    """0.15 s is the promise; here of processor time, since other work may run beside. And nothing heavy is loaded."""
    times = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert "Shared state" in shell("--help").stdout
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(times) < 0.15
    heavy = {
        "aiohttp",
        "zeroconf",
        "nacl",
        "cryptography",
        "msgspec",
        "rich",
        "asyncio",
        "sqlite3",
        "msgpack",
        "json.tool",
    }
    code = f"import sys; from mesh.cli.__main__ import run; run(['--help']); print(*({heavy} & set(sys.modules)))"
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True, cwd=ROOT
    ).stdout
    assert told.splitlines()[-1] == ""


async def test_keys_and_priorities(node: FakeNode) -> None:
    assert await gossamer("send", "bob", "2", "--priority", "high", "--key", "k") == 0 and node.how == ("high", "k")
    assert await gossamer("request", "bob", "sum", "2", "--key", "r") == 0 and node.how == ("normal", "r")
    assert await gossamer("send", "bob", "2", "--priority", "higher") == 2
    assert await gossamer("send", "bob", "2", "--key", "k" * 129) == 1


@pytest.mark.parametrize("kind", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_and_completes(kind: str) -> None:
    assert "_GOSSAMER_COMPLETE" in shell("completion", kind).stdout
    at = "me" if kind == "fish" else "1"  # fish tells the word, the others its place
    told = shell(_GOSSAMER_COMPLETE=f"{kind}_complete", COMP_WORDS="gossamer me", COMP_CWORD=at).stdout
    assert "members" in told


async def test_a_shell_completes_keys_of_the_running_node(node: FakeNode) -> None:
    await gossamer("put", "greeting", "hello")
    await gossamer("put", "gloss", "x")
    told = await asyncio.to_thread(
        shell, _GOSSAMER_COMPLETE="bash_complete", COMP_WORDS="gossamer get gr", COMP_CWORD="2"
    )
    assert told.stdout == "plain,greeting\n"


def test_every_command_is_on_its_page() -> None:
    from mesh.cli.commands import gossamer as root

    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    names = root.list_commands(click.Context(root))
    assert "up" in names and "demo" in names
    assert [name for name in names if f"`{name}" not in page] == []


def test_a_bench_that_is_none_is_used_wrongly_and_those_that_are_exist() -> None:
    from bench.__main__ import BENCHES

    done = shell("bench", "nothing")
    assert done.returncode == 2 and "messages" in done.stderr
    told = shell("bench", "--help").stdout
    assert [name for name in BENCHES if name not in told or not (ROOT / "bench" / f"{name}.py").is_file()] == []


def test_version() -> None:
    assert shell("--version").stdout.startswith("gossamer ")


def test_a_reader_that_has_enough_is_no_error() -> None:
    done = subprocess.run(
        f"{sys.executable} -m mesh.cli completion bash | head -c 1", shell=True, capture_output=True, text=True,
        timeout=30, check=True, cwd=ROOT,
    )  # fmt: skip
    assert done.stderr == ""
