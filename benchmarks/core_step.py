"""What the step engine costs: its step over a bare PyTorch loop's, and a 2-process FSDP step over plain DDP's.

    python benchmarks/core_step.py [rounds=9] [steps=20] [width=128] [depth=6] [rows=8] [tokens=128]

The bare loop does forward, backward, clipping and torch's fused AdamW. The engine does the same and checks that all is
finite, and keeps no averages, which a bare loop has not either. Both draw the same named noise. Steps of
the two sides alternate; a round's ratio is that of the medians of its steps; told are the median of the rounds' ratios
and their quartiles.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from maquette import plugins
from maquette.config import ParallelConfig, TrainConfig, checked, load, read_words
from maquette.engine.randomness import drawing
from maquette.engine.step_engine import StepEngine
from maquette.parallel.parallelism import Parallelism
from maquette.precision import Precision
from maquette.testing import TinyObjective, TinyTransformer, run_ranks, tiny_batch


@dataclass
class BenchmarkConfig:
    """Rounds, steps a round, and the sizes of the transformer and of each process's batch."""

    rounds: int = 9
    steps: int = 20
    width: int = 128
    depth: int = 6
    rows: int = 8
    tokens: int = 128


def build(config: BenchmarkConfig) -> nn.Module:
    torch.manual_seed(0)
    return TinyTransformer(config.width, config.depth, heads=4, tokens=config.tokens)


def bare_step(config: BenchmarkConfig, wrap: Callable[[nn.Module], nn.Module] = lambda model: model):
    """One step of a plain loop."""
    model, objective = wrap(build(config)), TinyObjective()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    batch = tiny_batch(config.rows, config.tokens)
    keys = batch["position"].tolist()

    def step() -> None:
        with drawing(0, keys):
            objective(model, batch)["loss"].backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def engine_step(config: BenchmarkConfig, strategy: str):
    """One step of our engine."""
    own = plugins.build("strategies", {"name": strategy})
    parallelism = Parallelism(ParallelConfig(), own, Precision())
    parts = parallelism.build(lambda: build(config), lambda part: None)
    train = TrainConfig(steps=10**6, ema_decays=[])
    optimizer = plugins.build("optimizers", {"name": "adamw", "learning_rate": 1e-3})
    engine = StepEngine(parts, TinyObjective(), train, optimizer, seed=0, parallelism=parallelism)
    batch = tiny_batch(config.rows, config.tokens, first=engine.mesh.rank * config.rows)
    return lambda: engine.run(batch)


def seconds(step: Callable[[], object]) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def compare(ours: Callable[[], object], theirs: Callable[[], object], config: BenchmarkConfig) -> list[tuple]:
    """(median seconds of ours, of theirs) for each round, step by step in turn; a first round warms up."""
    rounds = []
    for _ in range(config.rounds + 1):
        pairs = [(seconds(ours), seconds(theirs)) for _ in range(config.steps)]
        rounds.append(tuple(map(statistics.median, zip(*pairs, strict=True))))
    return rounds[1:]


def two_processes(config: dict) -> list[tuple]:
    """FSDP by our engine against torch's DistributedDataParallel in a plain loop, in this rank."""
    settings = BenchmarkConfig(**config)
    ours = engine_step(settings, "fsdp")  # starts the process group
    return compare(ours, bare_step(settings, DistributedDataParallel), settings)


def tell(name: str, rounds: list[tuple]) -> None:
    ratios = [ours / theirs for ours, theirs in rounds]
    low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    ours, theirs = (statistics.median(side) * 1e3 for side in zip(*rounds, strict=True))
    print(
        f"{name}: {ours:.2f} ms against {theirs:.2f} ms; ratio {middle:.3f} ({low:.3f} .. {high:.3f}), n={len(ratios)}"
    )


def main() -> None:
    config: BenchmarkConfig = checked(load(BenchmarkConfig, read_words(sys.argv[1:])))
    torch.set_num_threads(1)
    tell("engine / bare loop", compare(engine_step(config, "ddp"), bare_step(config), config))
    per_rank = run_ranks(two_processes, 2, asdict(config), timeout=1200)
    tell("FSDP / DDP, 2 processes", per_rank[0])


if __name__ == "__main__":
    main()
