"""Many seeds: in order, on as many processes as asked for, each process fresh after a batch of seeds."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sim.scenario import find

BATCH = 20  # seeds per process: what one run leaves behind in globals reaches few others


class Result(NamedTuple):
    """One seed's outcome, small enough to cross a process."""

    seed: int
    broke: str  # one paragraph; empty if it held
    replay: str
    trace_hash: str
    seconds: float  # of the world's time


def run_batch(name: str, seeds: Sequence[int]) -> list[Result]:
    """Tell the scenario for these seeds, here."""
    told = find(name)
    results = []
    for seed in seeds:
        outcome = told.tell(seed)
        broke = "" if outcome.error is None else outcome.explain()
        results.append(Result(seed, broke, told.replay(seed), outcome.trace_hash, outcome.seconds))
    return results


def _batch(work: tuple[str, Sequence[int]]) -> list[Result]:
    return run_batch(*work)


def swarm(name: str, seeds: Sequence[int], jobs: int = 1) -> Iterator[Result]:
    """Results as they come, seeds in order. With one job all runs in this process."""
    find(name)  # an unknown name fails here, not in every process
    batches = [(name, seeds[at : at + BATCH]) for at in range(0, len(seeds), BATCH)]
    if jobs == 1:
        for work in batches:
            yield from _batch(work)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(min(jobs, len(batches) or 1), maxtasksperchild=1) as pool:
        for results in pool.imap(_batch, batches):
            yield from results
