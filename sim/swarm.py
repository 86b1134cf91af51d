"""Many seeds: in order, on as many processes as asked for, each process fresh after a batch of seeds.

One seed in twenty is told a second time in a process with another allocator and another past: its trace has to be the
same, else the seed would not bring the failure back.
"""

from __future__ import annotations

import logging
import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sim.determinism import check
from sim.errors import SimError
from sim.scenario import find
from sim.seed import Seed

BATCH = 20  # seeds per process: what one run leaves behind in globals reaches few others
STEP = 5  # seeds told between two words to the one who waits
CHECKED = 0.05  # of the seeds are also checked for determinism


class Result(NamedTuple):
    """One seed's outcome, small enough to cross a process."""

    seed: int
    broke: str  # one paragraph; empty if it held
    replay: str
    trace_hash: str
    seconds: float  # of the world's time
    where: str = ""  # the same for the same failure
    checked: bool = False  # told again elsewhere; a difference is in ``broke``


def is_checked(seed: int, share: float = CHECKED) -> bool:
    """Whether a swarm also checks this seed's determinism; decided by the seed, so that it is the same everywhere."""
    return int.from_bytes(Seed(seed).digest("checked", 4), "big") < share * (1 << 32)


def run_batch(name: str, seeds: Sequence[int], share: float = 0.0) -> Iterator[Result]:
    """Tell the scenario for these seeds, here, and check the determinism of a share of them."""
    told = find(name)
    for seed in seeds:
        outcome = told.tell(seed)
        broke, where = "", ""
        if outcome.broke is not None:
            broke, where = outcome.explain(), outcome.broke.where
        replay = told.replay(seed)
        checked = is_checked(seed, share)
        if checked and not broke:
            try:
                difference = check(name, seed).difference
            except SimError as wrong:
                difference = str(wrong)
            if difference:
                broke, where = f"seed {seed} is not one trace: {difference}", "not deterministic"
                replay = f"gossamer sim check-determinism {told.spelled} --seed {seed}"
        yield Result(seed, broke, replay, outcome.trace_hash, outcome.seconds, where, checked)


def _begin() -> None:
    """In each process: Ctrl-C is for the one who started it, which ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _batch(work: tuple[str, Sequence[int], float]) -> list[Result]:
    logging.getLogger("gossamer").addHandler(logging.NullHandler())  # what simulated nodes log is no output of ours
    return list(run_batch(*work))


def swarm(
    name: str, seeds: Sequence[int], jobs: int = 1, *, share: float = 0.0, fresh: bool = False
) -> Iterator[Result]:
    """Results as they come, seeds in order. With one job all runs in this process, unless ``fresh`` ones are asked."""
    find(name)  # an unknown name fails here, not in every process
    if jobs == 1 and not fresh:
        yield from run_batch(name, seeds, share)
        return
    size = max(1, min(STEP, len(seeds) // (4 * jobs)))  # small swarms still use every core
    batches = [(name, seeds[at : at + size], share) for at in range(0, len(seeds), size)]
    context = multiprocessing.get_context("spawn")
    with context.Pool(min(jobs, len(batches) or 1), initializer=_begin, maxtasksperchild=max(1, BATCH // size)) as pool:
        for results in pool.imap(_batch, batches):
            yield from results
