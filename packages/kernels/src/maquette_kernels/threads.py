"""Runs compiled CPU code over parts of its work in plain threads."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


def in_chunks(ask: Callable[[int, int], None], count: int, chunk: int = 1024) -> None:
    """``ask(start, stop)`` over runs of ``chunk`` that cover ``count`` items, in as many threads as torch may use.

    Runs are the same for any number of threads, and so are results that do not cross them. Plain threads, for
    compiled code releases the interpreter's lock (``nogil=True``): numba's own pools do not survive a fork.
    """
    runs = [(start, min(start + chunk, count)) for start in range(0, count, chunk)]
    threads = min(_allowed(), len(runs))
    if threads <= 1:
        for start, stop in runs:
            ask(start, stop)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda run: ask(*run), runs):
            pass


def _allowed() -> int:
    """As many threads as torch may use, without importing torch for it: workers that build shards do without."""
    torch = sys.modules.get("torch")
    if torch is not None:
        return int(torch.get_num_threads())
    return int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
