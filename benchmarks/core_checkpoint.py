"""What a checkpoint costs a run: the time a step waits for a save in the background, over that of a blocking save.

    python benchmarks/core_checkpoint.py [megabytes=400] [rounds=7] [folder=...]

Saves in the background and blocking ones alternate, with training (matrix products) between them; the stall is the time
that ``Saver.save`` takes to return, and the wait for the one before it is none, since the training in between is long
enough. The first save of each kind is left out: it makes the buffers and the plan. The blocking save is given the same
bytes, hashing, flushing to the disk and reading back. Also: torch.save with an fsync, and reading and verifying.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from maquette import checkpoint
from maquette.checkpoint import Saver
from maquette.config import checked, load, read_words

TENSORS = 48


@dataclass
class BenchmarkConfig:
    """Size of the state, rounds, and where to write."""

    megabytes: int = 400
    rounds: int = 7
    folder: str = ""


def make_state(megabytes: int) -> dict[str, dict[str, torch.Tensor]]:
    """Weights, their average and AdamW's two moments."""
    count = megabytes * 10**6 // 4 // 4 // TENSORS
    parts = ("model", "average_0.999", "optimizer/a", "optimizer/b")
    state: dict[str, dict[str, torch.Tensor]] = {}
    for part in parts:
        tensors = {f"block{i}.weight/{part[-1]}": torch.randn(count) for i in range(TENSORS)}
        state.setdefault(part.split("/")[0], {}).update(tensors)
    return state


def main() -> None:
    config = checked(load(BenchmarkConfig, read_words(sys.argv[1:])))
    state = make_state(config.megabytes)
    with tempfile.TemporaryDirectory(dir=config.folder or None) as temporary:
        folder = Path(temporary)
        stalls, writings, blockings, torch_saves, loads = [], [], [], [], []
        with Saver(folder / "a", keep=1) as behind, Saver(folder / "b", keep=1, background=False) as blocking:
            for step in range(config.rounds + 1):
                began = time.perf_counter()
                behind.save(step, state, {})
                stall = time.perf_counter() - began
                train_until(behind)
                writing = time.perf_counter() - began
                blocked = timed(lambda step=step: blocking.save(step, state, {}))
                torch_saved = timed(lambda: torch_save(state, folder / "plain.pt"))
                if step:
                    stalls.append(stall)
                    writings.append(writing)
                    blockings.append(blocked)
                    torch_saves.append(torch_saved)
            for _ in range(3):
                loads.append(timed(lambda: checkpoint.newest(folder / "a")[0].load_into(state)))
    show("stall, background save (s)", stalls)
    show("until that was on the disk, training meanwhile (s)", writings)
    show("blocking save (s)", blockings)
    show("torch.save + fsync (s)", torch_saves)
    show("verify and load (s)", loads)
    show("stall over blocking save", [a / b for a, b in zip(stalls, blockings, strict=True)])
    show("stall over torch.save + fsync", [a / b for a, b in zip(stalls, torch_saves, strict=True)])
    show("blocking save over torch.save + fsync", [a / b for a, b in zip(blockings, torch_saves, strict=True)])


def train_until(saver: Saver) -> None:
    """Work for the processor until the save is on the disk."""
    matrix = torch.randn(256, 256)
    while saver.busy:
        matrix = torch.tanh(matrix @ matrix)
    saver.wait()
    for warning in saver.poll():
        print(warning)


def torch_save(state: dict[str, dict[str, torch.Tensor]], path: Path) -> None:
    with path.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())


def timed(function) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def show(what: str, values: list[float]) -> None:
    print(f"{what}: median {statistics.median(values):.3f}, from {min(values):.3f} to {max(values):.3f}")


if __name__ == "__main__":
    main()
