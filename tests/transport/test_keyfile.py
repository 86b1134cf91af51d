"""The key file: whole or absent, 0600, and refused when others can read it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from transport.errors import KeyFileUnsafe
from transport.identity import Identity
from transport.keyfile import load_key, load_or_create_key


def drawn(count: int) -> bytes:
    return bytes(range(7, 7 + count))


def test_made_once_with_0600_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "node.key"
    one = load_or_create_key(path, drawn)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    again = load_or_create_key(path, lambda count: pytest.fail("a key was there"))
    assert again.id == one.id and again.sign(b"p", b"m", b"x") == one.sign(b"p", b"m", b"x")
    assert [each.name for each in path.parent.iterdir()] == ["node.key"]
    assert str(one.id) in path.read_text()


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666, 0o610])
def test_refused_when_others_can_get_at_it(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "node.key"
    load_or_create_key(path, drawn)
    path.chmod(mode)
    with pytest.raises(KeyFileUnsafe, match="chmod 600") as caught:
        load_or_create_key(path, drawn)
    assert caught.value.path == str(path)
    assert stat.S_IMODE(path.stat().st_mode) == mode  # nothing was changed behind the user's back


@pytest.mark.parametrize("damage", [b"", b"seed \n", b"\xff" * 9000, b"node x\nseed aaaa\n"])
def test_a_damaged_file_is_never_replaced_by_a_new_key(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "node.key"
    path.write_bytes(damage)
    path.chmod(0o600)
    with pytest.raises(KeyFileUnsafe, match="backup"):
        load_or_create_key(path, drawn)
    assert path.read_bytes() == damage


def test_every_flipped_character_of_the_seed_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    load_or_create_key(path, drawn)
    text = path.read_text()
    start = text.index("seed ") + 5
    for at in range(start, len(text) - 1):
        path.write_text(text[:at] + ("a" if text[at] != "a" else "b") + text[at + 1 :])
        with pytest.raises(KeyFileUnsafe):
            load_key(path)


def test_the_seed_shows_in_no_error(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    load_or_create_key(path, drawn)
    seed = path.read_text().split()[-1]
    path.write_text(path.read_text().replace("node ", "node a"))
    with pytest.raises(KeyFileUnsafe) as caught:
        load_key(path)
    assert seed not in str(caught.value) + repr(caught.value)


def test_the_first_of_two_that_create_it_at_once_wins(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    other: list[Identity | None] = []

    def entropy(count: int) -> bytes:
        if not other:  # the other process gets in between our look and our link
            other.append(None)
            other.append(load_or_create_key(path, lambda count: bytes([9]) * count))
        return drawn(count)

    mine = load_or_create_key(path, entropy)
    theirs = other[1]
    assert theirs is not None and mine.id == theirs.id


def test_a_directory_or_a_pipe_is_no_key(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    with pytest.raises(KeyFileUnsafe, match="regular"):
        load_key(pipe)
