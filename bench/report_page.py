"""How long the simulator's report keeps a reader waiting: in a real Chromium, 50 nodes and 100,000 events.

    python -m bench.report_page [FILE.html]      # without a file: a made-up run of that size

Each figure is the longest of several turns of one thing a reader does: draw the whole run, scroll through it, zoom,
search, hide a kind or a node, scroll the list, look at another moment. The bound is 0.2 s.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import aiohttp

from sim.report import page

NODES, MESSAGES, EVENTS, SECONDS = 50, 90_000, 10_000, 60
PAUSE_MAX_MS = 200.0
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--window-size=1600,1200", "--remote-debugging-port=0",
)  # fmt: skip
MEASURE = """
(async () => {
  const frame = () => new Promise(done => requestAnimationFrame(() => setTimeout(done, 0)));
  const longest = async (turns, act) => {
    let most = 0;
    for (let i = 0; i < turns; i++) {
      await frame(); const began = performance.now(); act(i); await frame();
      most = Math.max(most, performance.now() - began);
    }
    return most;
  };
  const found = { events: M + E, nodes: N };
  found["draw all"] = await longest(5, () => view(0, T));
  found["scroll, far out"] = await longest(20, i => view(T * .01 * i, T * (.6 + .01 * i)));
  found["scroll, arrows"] = await longest(20, i => view(T * .04 * i, T * (.04 * i + .05)));
  found["zoom"] = await longest(20, i => zoom(.8, T / 3));
  view(0, T);
  found["search"] = await longest(6, i => { shown.text = "n" + i; change(); });
  shown.text = ""; change();
  found["hide a kind"] = await longest(6, i => { shown.kinds[0] ^= 1; change(); });
  found["one node"] = await longest(6, i => { shown.nodes.fill(0); shown.nodes[i] = 1; whoChips(); change(); });
  shown.nodes.fill(1); whoChips(); change();
  found["scroll the list"] = await longest(20, i => { document.getElementById("list").scrollTop = i * 90000; });
  found["look at a moment"] = await longest(20, i => look(T * i / 20, i));
  return JSON.stringify(found);
})()
"""


def made_up() -> dict[str, Any]:
    """The data of a run of that size: gossip, losses, facts, crashes, states that come and go."""
    rng = random.Random(1)
    at = sorted(rng.randrange(SECONDS * 1_000_000) for _ in range(MESSAGES))
    took = [-1 if rng.random() < 0.05 else 300 + int(rng.expovariate(1 / 20_000)) for _ in at]
    names = [f"n{number + 1}" for number in range(NODES)]
    texts = [f"n{one}>n{other}#1" for one in range(1, 51) for other in range(1, 51)]
    first = len(texts)
    texts += [f"member.down member=n{number} cause=timeout" for number in range(2000)]
    texts += [f"{rng.getrandbits(128):032x}" for _ in range(500)] + ['{"n": 5}', "n1:alive n2:alive"]
    senders = [rng.randrange(NODES) for _ in at]
    kinds = ["fact", "commit", "commit", "note", "warning"]
    looks = [
        [[when, 0, len(texts) - 2, first + 2000 + rng.randrange(500), len(texts) - 2, len(texts) - 1]
         for when in range(number * 1000, SECONDS * 1_000_000, 100_000)]
        for number in range(NODES)
    ]  # fmt: skip
    return {
        "name": "made-up", "moral": "A page as large as it has to bear.", "seed": "1", "held": True, "broke": "",
        "again": "", "seconds": SECONDS, "hash": "", "epoch": 0, "settings": [], "stats": {}, "demands": [], "ends": [],
        "operations": 0, "skipped": [0, 0, 0], "nodes": names, "looks": looks, "texts": texts,
        "lives": [[[0, "start"], [20_000_000, "crash"], [22_000_000, "start"]] for _ in names],
        "faults": [
            {"key": f"partition.{number}", "kind": "partition", "text": "n1|n2", "from": number * 5_000_000,
             "to": number * 5_000_000 + 3_000_000, "fired": 1, "muted": False,
             "nodes": [list(range(25)), list(range(25, 50))]}
            for number in range(10)
        ],
        "messages": [
            at, took, senders, [(each + rng.randrange(1, NODES)) % NODES for each in senders], [100] * MESSAGES,
            [rng.randrange(first) for _ in at], [int(rng.random() < 0.1) for _ in at],
        ],
        "events": [
            sorted(rng.randrange(SECONDS * 1_000_000) for _ in range(EVENTS)),
            [rng.choice(kinds) for _ in range(EVENTS)], [rng.randrange(NODES) for _ in range(EVENTS)],
            [first + rng.randrange(2000) for _ in range(EVENTS)],
        ],
    }  # fmt: skip


async def measure(file: Path) -> dict[str, float]:
    """Open ``file`` in a fresh Chromium and do what a reader does."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        raise SystemExit("there is no chromium here")
    with tempfile.TemporaryDirectory() as folder:
        browser = subprocess.Popen(  # noqa: ASYNC220 - nothing else runs meanwhile
            [program, *FLAGS, f"--user-data-dir={folder}", file.as_uri()],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert browser.stderr is not None
            line = next(each for each in browser.stderr if "DevTools listening on" in each)
            port = line.split("127.0.0.1:")[1].split("/")[0]
            async with aiohttp.ClientSession() as session:
                while True:
                    async with session.get(f"http://127.0.0.1:{port}/json") as told:
                        pages = [each for each in await told.json() if each["type"] == "page"]
                    if pages:
                        break
                    await asyncio.sleep(0.1)
                async with session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0) as talk:
                    number = 0

                    async def ask(method: str, **parameters: Any) -> dict[str, Any]:
                        nonlocal number
                        number += 1
                        await talk.send_json({"id": number, "method": method, "params": parameters})
                        while True:
                            answer: dict[str, Any] = await talk.receive_json()
                            if answer.get("id") == number:
                                return answer

                    for _ in range(100):
                        ready = await ask(
                            "Runtime.evaluate", expression="document.readyState === 'complete' && M + E > 0"
                        )
                        if ready["result"]["result"].get("value"):
                            break
                        await asyncio.sleep(0.1)
                    answer = await ask("Runtime.evaluate", expression=MEASURE, awaitPromise=True)
                    found: dict[str, float] = json.loads(answer["result"]["result"]["value"])
                    return found
        finally:
            browser.terminate()
            browser.wait(10)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else Path(folder) / "made-up.html"
        if len(sys.argv) <= 1:
            file.write_text(page(made_up()), encoding="utf-8")
        found = asyncio.run(measure(file))
    print(f"{found.pop('nodes'):.0f} nodes, {found.pop('events'):,.0f} events; the longest wait, ms")
    for what, ms in found.items():
        print(
            f"  {what:18} {ms:7.1f}  {ms / PAUSE_MAX_MS:5.2f} of the bound{'' if ms < PAUSE_MAX_MS else '  TOO LONG'}"
        )


if __name__ == "__main__":
    main()
