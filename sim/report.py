"""A run as one HTML file that needs nothing else: no network, no server, no library.

Everything a node, a peer or a story made goes in as data, never as markup: JSON with ``<``, ``>`` and ``&`` escaped,
put on the page by ``textContent`` and on a canvas. A content security policy lets only the page's own script run.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sim.clock import EPOCH
from sim.record import Recorder
from sim.scenario import Outcome, Scenario
from sim.shapes import RING_MIN

TEMPLATE = Path(__file__).with_name("report.html")
MESSAGES_MAX = 400_000  # the latest ones; how many were left out is said on the page
EVENTS_MAX = 200_000
_LIVES = frozenset({"start", "crash", "kill", "exit", "pause", "resume"})


class _Texts:
    """Each text once, by number."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        return self.numbers.setdefault(text, len(self.numbers))


def write(told: Scenario, outcome: Outcome, recorder: Recorder, again: str, file: Path) -> None:
    """Write the report of one run."""
    file.write_text(page(data_of(told, outcome, recorder, again)), encoding="utf-8")


def page(data: dict[str, Any]) -> str:
    """The template with ``data`` in it."""
    html = TEMPLATE.read_text(encoding="utf-8")
    script = re.search(r"<script>(.*?)</script>", html, re.S)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    return html.replace("SCRIPT-HASH", f"sha256-{digest}", 1).replace("REPORT-DATA", inert(data), 1)


def inert(data: Any) -> str:
    """JSON that no HTML parser sees markup in, whatever strings it holds."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text.encode("utf-8", "backslashreplace").decode("utf-8")  # half a surrogate pair is shown as its number


def data_of(told: Scenario, outcome: Outcome, recorder: Recorder, again: str) -> dict[str, Any]:
    """Everything the page shows, as plain values: times in us, nodes, kinds and texts by number."""
    world = outcome.world
    assert world is not None
    names = [each.name for each in world.nodes]
    texts = _Texts()
    messages, events, lives = _told(outcome.lines, names, texts)
    events += [
        [fact.at // 1000, "fact" if fact.level != "warning" else "warning", names.index(fact.node),
         texts.number(_readable(fact.text, recorder.names))]
        for fact in recorder.facts
    ]  # fmt: skip
    events.sort(key=lambda each: each[0])
    skipped = max(0, len(messages) - MESSAGES_MAX), max(0, len(events) - EVENTS_MAX)
    messages, events = messages[skipped[0] :], events[skipped[1] :]
    looks = {
        name: [
            [
                each.at // 1000,
                each.error // 1000,
                *map(texts.number, (each.clock, each.digest, each.value, each.members)),
            ]
            for each in rows
        ]
        for name, rows in recorder.looks.items()
    }
    return {
        "name": told.name, "moral": told.moral, "seed": str(outcome.seed), "held": outcome.error is None,
        "broke": outcome.explain() if outcome.error is not None else "", "again": again,
        "seconds": outcome.seconds, "hash": outcome.trace_hash, "epoch": EPOCH // 1000, "settings": world.settings(),
        "stats": {key: value for key, value in outcome.stats.items() if isinstance(value, dict) and key != "faults"},
        "demands": [
            {"name": each.name, "at": each.began // 1000, "within": each.within, "held": each.held, "took": each.took}
            for each in world.demands
        ],
        "ends": _ends(outcome),
        "faults": [
            {
                "key": each.key, "kind": each.kind, "text": each.text, "from": each.began // 1000,
                "to": None if each.ended is None else each.ended // 1000, "fired": each.fired, "muted": each.muted,
                "nodes": _about(each.text, names),
            }
            for each in world.faults
        ],
        "nodes": names, "lives": lives, "looks": [looks.get(name, []) for name in names],
        "messages": list(map(list, zip(*messages, strict=True))) or [[], [], [], [], [], [], []],
        "events": list(map(list, zip(*events, strict=True))) or [[], [], [], []],
        "texts": list(texts.numbers), "skipped": [*skipped, recorder.left_out],
        "operations": len(world.operations),
    }  # fmt: skip


def _ends(outcome: Outcome) -> list[dict[str, Any]]:
    """What every world demands when it ends."""
    kind = None if outcome.error is None else type(outcome.error).__name__
    bit = {None: True, "NeverFired": False}.get(kind)  # any other failure ended the run before that was asked
    return [
        {"name": "no node raised what nobody handled", "held": kind != "NodeFailed"},
        {"name": "every fault that was asked for bit", "held": bit},
        {"name": "the story and its checkers reached their end", "held": kind is None},
    ]


def _about(text: str, names: Sequence[str]) -> list[list[int]]:
    """The nodes a fault is about, by side, read from its own text."""
    known = {name: number for number, name in enumerate(names)}
    if text.startswith("ring ") and len(names) >= RING_MIN:
        return [[known[name]] for name in text.removeprefix("ring ").split("~") if name in known]
    head = text.split(" ", 1)[0]
    sides = [[known[name] for name in re.split(r"[,]", side) if name in known] for side in re.split(r"[|>]", head)]
    return [side for side in sides if side]


def _readable(text: str, names: dict[str, str]) -> str:
    """Ids of this world's nodes by their names."""
    return re.sub(r"[a-z2-7]{40,}", lambda found: _name(found[0], names), text)


def _name(text: str, names: dict[str, str]) -> str:
    for known, name in names.items():
        if text.startswith(known[:40]):
            return name if text == known else f"{name}·{text[-4:]}"
    return text[:8]


def _told(lines: Iterable[str], names: Sequence[str], texts: _Texts) -> tuple[list[Any], list[Any], list[Any]]:
    """Messages (sent, took or -1, sender, receiver, size, text, kind), events (at, kind, node, text), lives by node."""
    known = {name: number for number, name in enumerate(names)}
    messages: list[list[int]] = []
    events: list[list[Any]] = []
    lives: list[list[list[Any]]] = [[] for _ in names]
    under_way: dict[tuple[str, str], deque[int]] = {}
    for line in lines:
        when, source, text = line.split(" ", 2)
        at = int(when) // 1000
        what, _, rest = text.partition(" ")
        sender, arrow, receiver = source.partition(">")
        if arrow and sender in known and receiver in known:
            if what in ("send", "datagram"):
                size = int(rest.split(" ")[-2])
                under_way.setdefault((source, rest), deque()).append(len(messages))
                kind = 0 if what == "send" else 1
                label = rest.rsplit(" ", 2)[0] if what == "send" else "datagram"
                messages.append([at, -1, known[sender], known[receiver], size, texts.number(label), kind])
            elif what in ("recv", "heard") and (sent := under_way.get((source, rest))):
                message = messages[sent.popleft()]
                message[1] = at - message[0]
            elif what == "open":
                events.append([at, "open", known[sender], texts.number(text)])
        elif source in known:
            node = known[source]
            if what in _LIVES:
                lives[node].append([at, what])
                events.append([at, what if what in ("crash", "kill") else "life", node, texts.number(text)])
            elif " commit " in text:
                events.append([at, "commit", node, texts.number(text)])
            else:
                events.append([at, "note", node, texts.number(text)])
        else:
            events.append([at, "world", -1, texts.number(text)])
    return messages, events, lives
