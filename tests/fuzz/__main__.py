"""``python -m tests.fuzz [TARGET…] [--seconds N] [--corpus DIR]``: the coverage-guided run, by atheris (libFuzzer).

Each target gets its share of the seconds, one process after the other. Exit 0: nothing was found. What is found is
written beside the corpus as ``crash-…`` and told; run it again with ``--replay FILE TARGET``.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
from pathlib import Path

SLOW_S = 10  # one input may not take longer
RSS_MB = 1500  # nor the process more, instrumentation and corpus included
INPUT_BYTES_MAX = 16_384


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    parser.add_argument("--seconds", type=int, default=120, help="for all of them together")
    parser.add_argument("--runs", type=int, help="inputs of each, however long they take; instead of --seconds")
    parser.add_argument("--corpus", type=Path, default=Path(".fuzz"), help="kept between runs")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--replay", type=Path, help="run this one input and no fuzzer")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)  # in a process of its own
    given = parser.parse_args()
    if given.one:
        bound = f"-max_total_time={given.seconds}" if given.runs is None else f"-runs={given.runs}"
        return fuzz(given.targets[0], bound, given.corpus, given.seed)
    from tests.fuzz.targets import TARGETS

    names = given.targets or list(TARGETS)
    if unknown := [each for each in names if each not in TARGETS]:
        parser.error(f"no target {unknown[0]}: there are {', '.join(TARGETS)}")
    if given.replay:
        for name in names:
            TARGETS[name].run(given.replay.read_bytes())
        return 0
    failed = []
    for name in names:
        share = max(1, given.seconds // len(names))
        bound = f"--seconds={share}" if given.runs is None else f"--runs={given.runs}"
        print(f"== {name}, {bound}", flush=True)
        command = [sys.executable, "-m", "tests.fuzz", name, "--one", bound, f"--corpus={given.corpus}",
                   f"--seed={given.seed}"]  # fmt: skip
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
    print(f"found something in: {', '.join(failed)}" if failed else "nothing found")
    return 1 if failed else 0


def fuzz(name: str, bound: str, corpus: Path, seed: int) -> int:
    """libFuzzer on one target; ends the process with its verdict."""
    import atheris

    with atheris.instrument_imports(include=["crdt", "transport", "mesh"], enable_loader_override=False):
        from tests.fuzz.mutants import bent
        from tests.fuzz.targets import TARGETS

    target = TARGETS[name]
    folder = corpus / name
    folder.mkdir(parents=True, exist_ok=True)
    for at, each in enumerate(target.seeds()):
        (folder / f"seed-{at:03}").write_bytes(each)

    def mutator(raw: bytes, size_max: int, draw: int) -> bytes:
        rng = random.Random(draw)
        if rng.random() < 0.6:
            made = bent(raw, rng)
            if len(made) <= size_max:
                return made
        return bytes(atheris.Mutate(raw, size_max))

    options = [
        bound, f"-timeout={SLOW_S}", f"-rss_limit_mb={RSS_MB}", f"-max_len={INPUT_BYTES_MAX}",
        f"-seed={seed}", f"-artifact_prefix={folder}/", "-print_final_stats=1", "-verbosity=0",
    ]  # fmt: skip
    structured = name not in ("history", "frame", "stub")
    atheris.Setup(
        ["tests.fuzz", *options, str(folder)], target.run, **({"custom_mutator": mutator} if structured else {})
    )
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
