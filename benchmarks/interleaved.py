"""Times several ways to do the same work in turn, in random order within each round, so that whatever else the
machine does falls on all of them alike; and writes their ratios with the spread.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping

Times = dict[str, list[float]]


def measure(
    contestants: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    warmup: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> Times:
    """Seconds that each contestant took in each round; rounds of warming up are not kept.

    Args:
        contestants: name -> one step of work.
        rounds: rounds to keep.
        warmup: rounds to drop: caches, compilation, first touch of memory.
        clock: ``time.process_time`` counts this process alone, which neighbours disturb least.
    """
    shuffled = random.Random(0)
    times: Times = {name: [] for name in contestants}
    for turn in range(warmup + rounds):
        for name in shuffled.sample(list(contestants), len(contestants)):
            began = clock()
            contestants[name]()
            if turn >= warmup:
                times[name].append(clock() - began)
    return times


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """First quartile, median and third quartile."""
    ordered = sorted(values)
    low, high = (ordered[int((len(ordered) - 1) * share + 0.5)] for share in (0.25, 0.75))
    return low, statistics.median(ordered), high


def ratio(times: Times, peer: str, ours: str) -> tuple[float, float, float]:
    """How many times as long the peer takes as we do: quartiles and median over rounds."""
    return quartiles([theirs / own for theirs, own in zip(times[peer], times[ours], strict=True)])


def ratio_line(times: Times, peer: str, ours: str) -> str:
    """Median milliseconds of both, and the ratio peer / ours with its quartiles."""
    low, middle, high = ratio(times, peer, ours)
    theirs, own = (statistics.median(times[name]) * 1e3 for name in (peer, ours))
    spread = f"{middle:.2f} ({low:.2f}-{high:.2f}, n {len(times[ours])})"
    return f"{peer} {theirs:9.2f} ms   {ours} {own:9.2f} ms   ratio {spread}"
