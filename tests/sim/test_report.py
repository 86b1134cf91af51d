"""The report is one inert file, and looking at a run does not change it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from sim import World, scenario
from sim.cli import group
from sim.plan import Plan
from sim.record import Recorder
from sim.report import data_of, inert, page
from sim.scenario import find
from sim.scenarios.split import everybody_sees_everybody

EVIL = "</script><img src=x onerror=alert(1)><!--\u2028&"


def data_in(html: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)
    assert found is not None
    return json.loads(found[1])


@given(text=st.text())
def test_any_text_is_data_and_never_markup(text: str) -> None:
    said = inert({"a": [text, EVIL]})
    assert not set(said) & set("<>&\u2028\u2029")
    assert json.loads(said)["a"][1] == EVIL


@scenario(nodes=2)
def malice(world: World) -> None:
    """Writes markup."""
    world.run_until(everybody_sees_everybody)
    for each in world.nodes:
        each.node.register(EVIL).set(EVIL)
    world.note(f"said {EVIL}".replace("\u2028", ""))
    world.run_for(1.0)


def test_what_peers_made_stays_inert_and_whole() -> None:
    recorder = Recorder()
    html = page(data_of(malice, malice.tell(1, recorder=recorder), recorder, EVIL))
    data = data_in(html)
    assert data["again"] == EVIL and "<img src=x" not in html and html.count("</script>") == 2
    states = [json.loads(data["texts"][look[4]]) for look in data["looks"][0]]
    assert states[-1][EVIL] == EVIL


def test_only_the_pages_own_script_may_run_and_nothing_is_fetched() -> None:
    html = page({"held": True})
    script = re.search(r"<script>(.*?)</script>", html, re.S)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in html
    assert not re.search(r"(src|href)=|https?:|@import|url\(|innerHTML|insertAdjacent|document\.write|eval\(", html)


@pytest.mark.parametrize("name", ["maelstrom-g-set", "lost-disk", "clock-jump"])
def test_recording_changes_nothing(name: str) -> None:
    told, recorder = find(name), Recorder()
    outcome = told.tell(4, recorder=recorder)
    plain = told.tell(4)
    assert outcome.trace_hash == plain.trace_hash and outcome.plan() == plain.plan()
    assert outcome.stats["faults"] == plain.stats["faults"]


def test_the_report_shows_what_happened() -> None:
    recorder, told = Recorder(), find("split")
    outcome = told.tell(3, recorder=recorder)
    data = data_in(page(data_of(told, outcome, recorder, told.replay(3))))
    began, took, senders, receivers, *_ = data["messages"]
    frames = outcome.stats["frames"]
    assert sum(each >= 0 for each in took) == frames["delivered"] + outcome.stats["datagrams"]["delivered"]
    (cut,) = data["faults"]
    assert [sorted(side) for side in cut["nodes"]] == [[0, 1, 2], [3, 4]] and cut["fired"] > 0
    left = {0, 1, 2}
    across = [
        arrived for at, lasts, a, b in zip(began, took, senders, receivers, strict=True)
        if lasts >= 0 and (a in left) != (b in left) and cut["from"] < (arrived := at + lasts) < cut["to"]
    ]  # fmt: skip
    assert not across  # no arrow ends on the other side of a cut
    assert [each["held"] for each in data["demands"] + data["ends"]] == [True] * 6
    last = [data["texts"][rows[-1][3]] for rows in data["looks"]]
    assert len(set(last)) == 1
    assert any(data["texts"][each].startswith("member.down member=n") for each in data["events"][3])


def test_run_and_replay_write_it(tmp_path: Path) -> None:
    saved, one, other = tmp_path / "a.json", tmp_path / "a.html", tmp_path / "b.html"
    run = CliRunner().invoke(group, ["run", "split", "--seed", "2", "--report", str(one), "--save", str(saved)])
    assert run.exit_code == 0, run.output
    again = CliRunner().invoke(group, ["replay", str(saved), "--report", str(other)])
    assert again.exit_code == 0, again.output
    first, second = data_in(one.read_text()), data_in(other.read_text())
    assert second["again"] == f"gossamer sim replay {saved}" and first["hash"] == second["hash"]
    assert Plan.decode(saved.read_text()).scenario == "split"


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here to open the page with")
def test_a_browser_runs_the_page(tmp_path: Path) -> None:
    """Under its own content policy, without a network: what the script puts on the page is there."""
    file, told, recorder = tmp_path / "run.html", find("split"), Recorder()
    outcome = told.tell(3, recorder=recorder)
    file.write_text(page(data_of(told, outcome, recorder, told.replay(3))), encoding="utf-8")
    assert CHROMIUM is not None
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    shown = subprocess.run(
        [CHROMIUM, *options, f"{file.as_uri()}#at=20&node=n4"], capture_output=True, text=True, timeout=120, check=False
    ).stdout
    text = re.sub(r"<script.*?</script>|<[^>]+>", " ", shown, flags=re.S)
    assert "<title>split, seed 3: held</title>" in shown
    assert "It held" in text and "everybody sees everybody" in text and "20.000000 s" in text
    assert re.search(r"sees down\s+n1, n2, n3", text), text[-3000:]  # n4, at that moment
    assert re.search(r"[\d,]+ of [\d,]+ events", text) and "partition" in text
