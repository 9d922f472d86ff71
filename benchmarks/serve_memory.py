"""Does memory grow with each generation? An engine and its worker, many requests of mixed length, four under way.

python benchmarks/serve_memory.py RUN [generations=500] [steps=3]

Prints the slope of the engine's and of the worker's resident memory, in MB a generation, by least squares over all but
the first fifth.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from maquette.assets import open_pipeline
from maquette.types import Request
from maquette_serve.engine.call_pool import CallPool
from maquette_serve.engine.engine import Engine
from maquette_serve.engine.job import ENDS, Event, Order
from maquette_serve.engine.memory import resident

UNDER_WAY = 4


def followed(engine: Engine, generations: int, steps: int, folder: Path) -> list[tuple[int, int, int]]:
    """Generations that were over, and the engine's and the worker's memory [bytes] then."""
    free, notes, failed = threading.Semaphore(UNDER_WAY), [], []

    def report(event: Event) -> None:
        if event.kind in ENDS:
            failed.extend([event.error] if event.kind != "succeeded" else [])
            free.release()

    for number in range(generations):
        free.acquire()
        request = Request("a red chair", seed=number, steps=1 + number % steps)
        engine.submit(Order("run", request, files=("model.glb", "thumbnail.png"), folder=folder), report)
        if number % 10 == 0 and (workers := multiprocessing.active_children()):
            notes.append((number, resident(), resident(workers[0].pid)))
    for _ in range(UNDER_WAY):
        free.acquire()
    for error in failed:  # so few steps may come to nothing
        print(f"failed: {error}")
    return notes


def slope(number: Sequence[int], size: Sequence[int]) -> float:
    """MB a generation."""
    return float(np.polyfit(number, np.array(size) / 1e6, 1)[0])


def main() -> None:
    run, *words = sys.argv[1:]
    given = {"generations": 500, "steps": 3, **{k: int(v) for k, v in (word.split("=") for word in words)}}
    pool = CallPool(1)
    engine = Engine({"run": open_pipeline(run)}, pool)
    thread = threading.Thread(target=engine.run)
    thread.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            notes = followed(engine, given["generations"], given["steps"], Path(folder))
    finally:
        engine.close()
        thread.join()
        pool.shutdown()
    number, own, worker = zip(*notes[len(notes) // 5 :], strict=True)
    print(f"engine {own[0] / 1e6:.0f} -> {own[-1] / 1e6:.0f} MB, {slope(number, own):+.4f} MB a generation")
    print(f"worker {worker[0] / 1e6:.0f} -> {worker[-1] / 1e6:.0f} MB, {slope(number, worker):+.4f} MB a generation")
    print(f"n {given['generations']}")


if __name__ == "__main__":
    main()
