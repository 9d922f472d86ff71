"""A strategy, alone or in a product with others, must train as one process does on the same global batch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from maquette import plugins
from maquette.compilation import apply_compile
from maquette.config import ParallelConfig, TrainConfig
from maquette.engine.step_engine import StepEngine
from maquette.parallel.parallelism import Parallelism
from maquette.precision import Precision
from maquette.testing.ranks import run_ranks
from maquette.testing.tiny_transformer import TinyObjective, TinyTransformer, tiny_batch

ROWS, STEPS, ACCUMULATE = 8, 3, 2

Result = dict[str, Any]


def check_strategy(
    strategy: Mapping[str, Any], sizes: Mapping[str, Any], world: int, files: Sequence[str] = ()
) -> None:
    """Train a tiny transformer over ``world`` processes and in one, and compare losses, norms and every gradient.

    Three optimizer steps of two micro-batches each, clipped, in float32.

    Args:
        strategy: its block, e.g. ``{"name": "fsdp"}``.
        sizes: the block ``parallel``, e.g. ``{"tensor": 2}``.
        world: how many processes, at most 8.
        files: loose-file plugins that the processes need.
    """
    one = train_tiny({"name": "ddp"}, {}, 1)
    assert_trains_alike(run_ranks(train_tiny, world, dict(strategy), dict(sizes), world, {}, list(files)), one)


def assert_trains_alike(ranks: Sequence[Result], one: Result) -> None:
    """All processes' results are those of one process, to a relative 1e-5."""
    seen: set[str] = set()
    for rank, result in enumerate(ranks):
        for key in ("losses", "norms", "validation"):
            pairs = list(zip(result[key], one[key], strict=True))
            assert all(math.isclose(a, b, rel_tol=1e-5) for a, b in pairs), f"{key} on rank {rank}: {pairs}"
        for mine, theirs in zip(result["gradients"], one["gradients"], strict=True):
            seen |= mine.keys()
            for name, gradient in mine.items():
                off = (gradient - theirs[name]).abs() - 1e-5 * theirs[name].abs()
                assert off.max() < 2e-6, f"the gradient of '{name}' on rank {rank} is off by {off.max():.1e}"
    missing = one["gradients"][0].keys() - seen
    assert not missing, f"no process trains {sorted(missing)}"


def tiny_engine(
    strategy: Mapping[str, Any], sizes: Mapping[str, Any], world: int, train: Mapping[str, Any] | None = None
) -> StepEngine:
    """The engine of a tiny transformer; ``train`` overrides keys of the block of that name."""
    options = {"steps": STEPS, "accumulate": ACCUMULATE, "clip_norm": 0.5, "ema_decays": [0.9], **(train or {})}
    settings = TrainConfig(**options)
    own, precision = plugins.build("strategies", dict(strategy)), Precision.of(settings)
    parallelism = Parallelism(ParallelConfig(**sizes), own, precision, world=world)
    objective = TinyObjective()
    parts = parallelism.build(_build, lambda part: apply_compile(part, precision), objective)
    optimizer = plugins.build("optimizers", {"name": "adamw", "learning_rate": 1e-2, "warmup_steps": 0})
    return StepEngine(parts, objective, settings, optimizer, seed=5, parallelism=parallelism)


def train_tiny(
    strategy: Mapping[str, Any],
    sizes: Mapping[str, Any],
    world: int,
    train: Mapping[str, Any] | None = None,
    files: Sequence[str] = (),
) -> Result:
    """Losses of the micro-batches, gradient norms and clipped gradients of the steps, and a validation loss.

    One of ``world`` processes calls it, each with its share of the same batches.
    """
    plugins.load_files(list(files))
    engine = tiny_engine(strategy, sizes, world, train)
    rank, own = engine.parallelism.rank, ROWS // engine.parallelism.world
    result: Result = {"losses": [], "norms": [], "gradients": []}

    def update() -> None:
        result["gradients"].append({name: _whole(p.grad) for name, p in engine.named.items()})
        engine.optimizer.step()

    for micro in range(STEPS * engine.train.accumulate):
        batch = {
            key: value[rank * own : (rank + 1) * own] for key, value in tiny_batch(ROWS, first=micro * ROWS).items()
        }
        metrics = engine.run(batch, update)
        result["losses"].append(engine.average_over_samples({"loss": metrics["loss"]})["loss"])
        result["norms"] += [float(metrics["grad_norm"])] if "grad_norm" in metrics else []
    result["validation"] = [float(engine.validate(tiny_batch(4, first=1000), 0)["loss"])]
    return result


def _build() -> TinyTransformer:
    torch.manual_seed(3)
    return TinyTransformer()


def _whole(gradient: Any) -> Tensor:
    whole: Tensor = gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient
    return whole.detach().clone()
