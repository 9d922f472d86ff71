"""How fast batches of 3D samples reach the main process, beside other formats for training data.

    python benchmarks/data3d_stream.py --samples 1000 --rounds 3

A sample is 655 KB: 32k surface points with normals and 32k field queries, float16. Every reader shuffles and delivers
batches of 16 as tensors in the main process, from a warm page cache, one thread for arithmetic. All readers stay open
and take turns, an epoch each a round. Given are the first epoch, in which pages are mapped for the first time, medians
of the later ones with their spread, and medians of the ratios within rounds. Peers that are not installed are left out;
each counts with the better of 0 and 2 worker processes, and so does the plain mapped file behind a DataLoader. The copy
loop is the bare floor: rows of one mapped file copied into a batch, without fields, names or captions.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import statistics
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from data3d_stream_readers import BATCH, POINTS, SHARD, WINDOW, Absent, Ours, Plain, peers, readers

from maquette_data3d.stream.order import epoch_order


def speed(reader: Any, count: int) -> tuple[float, float, float]:
    """Seconds to the first batch; then samples a second, whoever loaded ahead, and a CPU second of this process."""
    begin = time.perf_counter()
    batches = reader.epoch()
    touched = float(_first(next(batches)).reshape(-1)[0])
    first, busy = time.perf_counter(), time.process_time()
    done = 0
    for batch in islice(batches, count // BATCH - 4):  # workers that do not share evenly give fewer
        touched += float(_first(batch).reshape(-1)[0])
        done += BATCH
    seconds, busy = time.perf_counter() - first, time.process_time() - busy
    for _ in batches if not isinstance(reader, Ours) else ():
        pass
    assert np.isfinite(touched)
    return first - begin, done / seconds, done / busy


def _first(batch: Any) -> torch.Tensor:
    return batch if isinstance(batch, torch.Tensor) else batch["surface"]


def compare(folder: Path, points: int, count: int, rounds: int) -> None:
    """Prints one table."""
    turns = readers(folder, points)
    speeds: dict[str, list[float]] = {name: [] for name in turns}
    thrift: dict[str, list[float]] = {name: [] for name in turns}
    firsts: dict[str, float] = {}
    for _ in range(rounds + 1):
        for name, reader in turns.items():
            first, found, a_cpu_second = speed(reader, count)
            firsts.setdefault(name, first)
            speeds[name].append(found)
            thrift[name].append(a_cpu_second)
    print(f"\n{points} of {POINTS} points, {count} samples, {rounds} epochs after the first, samples a second")
    heads = f"{'median':>8} {'lowest':>8} {'highest':>8} {'1st epoch':>10} {'/CPU s':>8} {'1st batch, ms':>14}"
    print(f"{'reader':30} {heads}")
    for name, (mapping, *later) in speeds.items():
        middle = f"{statistics.median(later):8.0f} {min(later):8.0f} {max(later):8.0f}"
        # Workers' CPU time is not this process's.
        cpu = "-" if name.endswith("2 workers") else f"{statistics.median(thrift[name][1:]):.0f}"
        print(f"{name:30} {middle} {mapping:10.0f} {cpu:>8} {1000 * firsts[name]:14.0f}")
    in_process = {name: values for name, values in thrift.items() if not name.endswith("2 workers")}
    for kind in ("stored", "float32"):
        for other in ("copy loop", Plain.name, *(peer.name for peer in peers())):
            if any(name.startswith(other) for name in speeds):
                wall, cpu = (_ratios(found, f"maquette {kind}", other) for found in (speeds, in_process))
                print(f"maquette {kind} / {other}: {wall}; by CPU time, no workers: {cpu}")


def _ratios(speeds: dict[str, list[float]], ours: str, theirs: str) -> str:
    first, *later = (a / b for a, b in zip(_best(speeds, ours), _best(speeds, theirs), strict=True))
    return f"{statistics.median(later):.2f} ({min(later):.2f} to {max(later):.2f}, first epoch {first:.2f})"


def _best(speeds: dict[str, list[float]], prefix: str) -> list[float]:
    """Round by round, the fastest setting of a reader."""
    return [max(values) for values in zip(*(v for n, v in speeds.items() if n.startswith(prefix)), strict=True)]


def spread_of_batches(count: int) -> None:
    """Prints how many shards a batch of 16 touches under each shuffle."""
    shards = np.arange(count) // SHARD
    means = {}
    for shuffle in ("full", "window"):
        order = epoch_order(shuffle, (0, 0, 0), shards)
        batches = shards[order][: count // BATCH * BATCH].reshape(-1, BATCH)
        means[shuffle] = np.mean([len(set(batch)) for batch in batches.tolist()])
    share = means["window"] / means["full"]
    print(
        f"{count} samples, {count // SHARD} shards: a batch of {BATCH} touches {means['full']:.1f} shards (full), "
        f"{means['window']:.1f} (window): {share:.0%}"
    )


def resume(folder: Path, count: int, rounds: int) -> None:
    """Prints the time from nothing to the first batch in the middle of a later epoch."""
    seconds = []
    for turn in range(rounds):
        begin = time.perf_counter()
        next(Ours(folder, "float32", 2, WINDOW).begin(10 * count + turn * BATCH))
        seconds.append(time.perf_counter() - begin)
    print(f"\nresume in epoch 11: first batch after {1000 * statistics.median(seconds):.0f} ms")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--samples", type=int, default=1000)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--folder", type=Path, default=None, help="where to write the samples; a temporary one")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    sys.meta_path.insert(0, Absent())
    logging.disable(logging.WARNING)
    os.environ["LITDATA_DISABLE_VERSION_CHECK"] = "1"
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        for kind in (Ours, Plain, *peers()):
            kind.write(folder, options.samples)
        for points in (POINTS, WINDOW):
            compare(folder, points, options.samples, options.rounds)
        resume(folder, options.samples, options.rounds)
    finally:
        shutil.rmtree(folder)
    for count in (2048, 100_000):
        spread_of_batches(count)


if __name__ == "__main__":
    main()
