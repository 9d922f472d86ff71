"""Loads the next batches in threads while the present one is used, in order and without losing an error."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Work = TypeVar("Work")
Done = TypeVar("Done")


def ahead(load: Callable[[Work], Done], work: Iterator[Work], depth: int) -> Generator[tuple[Work, Done]]:
    """Each piece of work with its result, in order.

    Threads and no processes: reading is mapping and copying, both outside the interpreter's lock, and a batch would
    have to be copied once more to come from another process. What `load` raises is raised here, in its turn.

    Args:
        load: called in `depth` threads at once.
        work: gone through by the caller's thread.
        depth: how many results may be under way; 0 loads in the caller's thread.
    """
    if depth == 0:
        for piece in work:
            yield piece, load(piece)
        return
    pool = ThreadPoolExecutor(depth, thread_name_prefix="maquette-shards")
    waiting: deque[tuple[Work, Future[Done]]] = deque()
    try:
        for piece in work:
            waiting.append((piece, pool.submit(load, piece)))
            if len(waiting) > depth:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
