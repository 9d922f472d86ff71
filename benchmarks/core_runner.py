"""What the runner costs: a step through Trainer.fit with our engine, over a bare PyTorch loop on the same work.

    python benchmarks/core_runner.py [steps=30] [rounds=7]

The bare loop does forward, backward, clipping and the optimizer's step, and nothing else: no averaged weights, no
finite check, no logs, no signals, no progress. Rounds of both are interleaved in one process; the ratio is that of the
medians of each round, and its spread is over the rounds.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import lightning.pytorch as pl
import torch
from torch import nn

from maquette import hookimpl, plugins, runner, session
from maquette.config import RunConfig, checked, load, read_words

BATCH = 24


@dataclass
class BenchmarkConfig:
    """Steps a round, and rounds."""

    steps: int = 30
    rounds: int = 7


@dataclass
class FixedLatentsConfig:
    """The same random latents for both sides."""


class FixedLatents(pl.LightningDataModule):
    """Batches of random latents with captions."""

    def __init__(self, config: FixedLatentsConfig) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.batch = {
            "latent": torch.randn(BATCH, 6, 8, 8, 8),
            "class_id": torch.randint(0, 2, (BATCH,)),
            "caption": ["a red chair", "a mug"] * (BATCH // 2),
        }

    def facts(self):
        return {"classes": ["chair", "mug"], "vocabulary": ["a", "chair", "mug", "red"]}

    def train_dataloader(self):
        while True:
            yield self.batch

    def val_dataloader(self):
        return []

    def state_dict(self):
        return {}


class Plugin:
    @hookimpl
    def register_datasets(self, register):
        register("fixed_latents", FixedLatentsConfig, FixedLatents)


CONDITIONER = {"name": "class_caption", "classes": "${facts:classes}", "vocabulary": "${facts:vocabulary}"}
RUN = {
    "data": {"name": "fixed_latents"},
    "model": {"name": "dit", "latent_channels": 6, "conditioner": CONDITIONER},
    "objective": {"name": "flow_matching"},
}


class StepTimes(pl.Callback):
    """Seconds from the end of one step to the end of the next."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *args) -> None:
        self.ends.append(time.perf_counter())

    @property
    def median(self) -> float:
        return statistics.median(b - a for a, b in pairwise(self.ends))


def fit_seconds(folder: Path, steps: int, times: StepTimes) -> float:
    """The median step through the whole runner."""
    overrides = {"folder": str(folder), "train": {"steps": steps, "checkpoint_every": steps, "validate_every": 0}}
    runner.train(load(RunConfig, RUN, overrides))
    return times.median


def bare_seconds(steps: int) -> float:
    """The median step of a plain loop."""
    data = plugins.build("datasets", RUN["data"])
    torch.manual_seed(0)
    conditioner = {**CONDITIONER, **{key: data.facts()[key] for key in ("classes", "vocabulary")}}
    model: nn.Module = plugins.build("architectures", {**RUN["model"], "conditioner": conditioner})
    objective = plugins.build("objectives", RUN["objective"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    ends = []
    for _, batch in zip(range(steps), data.train_dataloader(), strict=False):
        objective(model, batch)["loss"].backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        ends.append(time.perf_counter())
    return statistics.median(b - a for a, b in pairwise(ends))


def main() -> None:
    config: BenchmarkConfig = checked(load(BenchmarkConfig, read_words(sys.argv[1:])))
    plugins.manager().add(Plugin(), "benchmark")
    original = session.pl.Trainer
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(config.rounds):
            times = StepTimes()
            session.pl.Trainer = lambda times=times, **k: original(**{**k, "callbacks": [*k["callbacks"], times]})
            fit = fit_seconds(Path(folder) / str(number), config.steps, times)
            bare = bare_seconds(config.steps)
            ratios.append(fit / bare)
            print(f"round {number + 1}: fit {fit * 1e3:.1f} ms, bare {bare * 1e3:.1f} ms, ratio {ratios[-1]:.3f}")
    middle = statistics.median(ratios)
    print(f"ratio: median {middle:.3f}, min {min(ratios):.3f}, max {max(ratios):.3f}, n={config.rounds}")


if __name__ == "__main__":
    main()
