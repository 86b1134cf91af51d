"""Where nodes keep their data."""

from __future__ import annotations

import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.cli import places

names = st.text(min_size=1, max_size=12)


@given(names, names)
def test_a_name_is_one_folder_of_its_own(one: str, other: str) -> None:
    folder = places.folder_name(one)
    assert Path(folder).name == folder
    assert folder not in {".", ".."}
    assert not folder.startswith(".")
    assert (folder == places.folder_name(other)) == (one == other)


def test_the_state_folder_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert places.data_directory("lab", "ann") == tmp_path / "gossamer" / "lab" / "ann"
    assert places.data_directory("../lab", "a/b") == tmp_path / "gossamer" / "%2e.%2flab" / "a%2fb"


def test_names_follow_the_host() -> None:
    assert list(islice(places.names_after("rack1.example.org"), 3)) == ["rack1", "rack1-2", "rack1-3"]


def test_a_node_elsewhere_is_found_by_its_announcement(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    data = tmp_path / "elsewhere"
    data.mkdir()
    (data / places.SOCKET).touch()
    link = places.announce(data)
    assert link is not None
    assert places.data_directories() == [data]
    link.unlink()
    assert places.data_directories() == []
    assert places.announce(places.data_directory("m", "n")) is None


def test_announcements_of_dead_nodes_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        pass
    old = tmp_path / "state" / "gossamer" / ".running" / str(dead.pid)
    old.parent.mkdir(parents=True)
    old.symlink_to(tmp_path)
    assert places.announce(tmp_path / "elsewhere") is not None
    assert not old.is_symlink()
