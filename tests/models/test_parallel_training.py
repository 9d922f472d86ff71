"""The real transformer under the engine: every kind of layout gives one process's losses, norms and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from maquette import plugins
from maquette.config import ParallelConfig, TrainConfig
from maquette.engine.step_engine import StepEngine
from maquette.parallel.parallelism import Parallelism
from maquette.precision import Precision
from maquette.testing import run_ranks
from maquette_models.objectives.flow_matching import FlowMatching, FlowMatchingConfig
from maquette_models.transformer.dit import DiT, DiTConfig
from maquette_models.transformer.mixture_of_experts import MixtureConfig

CONDITIONER = {"name": "class_caption", "classes": ["a", "b"], "vocabulary": ["red"], "width": 16, "max_words": 3}
ROWS, MICRO_BATCHES = 8, 4


def build(mlp: str) -> DiT:
    torch.manual_seed(0)
    sizes = {"latent_channels": 3, "latent_resolution": 4, "width": 32, "depth": 4, "heads": 4, "mlp_hidden": 32}
    mixture, conditioner = MixtureConfig(experts=4, last=2), {**CONDITIONER, "depth": 1}
    model = DiT(DiTConfig(**sizes, mlp=mlp, moe=mixture, conditioner=conditioner))
    with torch.no_grad():
        for parameter in model.parameters():  # the head starts at zero: nothing would flow
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def batch(micro: int, rank: int, world: int) -> dict[str, Any]:
    latent = torch.randn(ROWS, 3, 4, 4, 4, generator=torch.Generator().manual_seed(micro))
    own = slice(rank * ROWS // world, (rank + 1) * ROWS // world)
    captions = ["red", "a red b", "", "blue"] * 2
    place = torch.arange(micro * ROWS, (micro + 1) * ROWS)
    class_id = torch.arange(ROWS) % 2
    return {"latent": latent[own], "class_id": class_id[own], "caption": captions[own], "position": place[own]}


def train(strategy: str, sizes: dict[str, Any], mlp: str) -> dict[str, Any]:
    parallelism = Parallelism(ParallelConfig(**sizes), plugins.build("strategies", {"name": strategy}), Precision())
    objective = FlowMatching(FlowMatchingConfig(balance_weight=0.5))
    parts = parallelism.build(lambda: build(mlp), lambda part: None, objective)
    settings = TrainConfig(steps=2, accumulate=2, clip_norm=0.1, ema_decays=[0.9])
    optimizer = plugins.build("optimizers", {"name": "adamw", "learning_rate": 1e-3})
    engine = StepEngine(parts, objective, settings, optimizer, seed=3, parallelism=parallelism)
    losses, norms, gradients = [], [], []

    def update() -> None:
        gradients.append({name: whole(parameter.grad) for name, parameter in engine.named.items()})
        engine.optimizer.step()

    for micro in range(MICRO_BATCHES):
        metrics = engine.run(batch(micro, parallelism.rank, parallelism.world), update)
        losses.append(engine.average_over_samples({"loss": metrics["loss"]})["loss"])
        norms += [float(metrics["grad_norm"])] if "grad_norm" in metrics else []
    return {"losses": losses, "norms": norms, "gradients": gradients}


def whole(gradient: Any) -> torch.Tensor:
    return gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient.clone()


@pytest.fixture(scope="module")
def one() -> dict[str, dict[str, Any]]:
    return {mlp: train("ddp", {}, mlp) for mlp in ("dense", "moe")}


@pytest.mark.parametrize(
    ("mlp", "strategy", "sizes", "world"),
    [
        ("dense", "ulysses", {}, 2),
        ("dense", "ring", {}, 2),
        ("dense", "fsdp", {"tensor": 2}, 4),
        ("dense", "fsdp", {"pipeline": 2, "schedule": "interleaved"}, 4),
        ("moe", "tp", {}, 2),
        ("moe", "fsdp", {"context": 2, "attention": "all_gather"}, 4),
        ("moe", "ep", {}, 2),
        ("moe", "fsdp", {"expert": 2}, 4),
    ],
    ids=str,
)
def test_the_transformer_trains_like_one_process(mlp, strategy, sizes, world, one):
    for result in run_ranks(train, world, strategy, sizes, mlp):
        assert result["losses"] == pytest.approx(one[mlp]["losses"], rel=1e-5)
        assert result["norms"] == pytest.approx(one[mlp]["norms"], rel=1e-5)
        for mine, theirs in zip(result["gradients"], one[mlp]["gradients"], strict=True):
            for name, gradient in mine.items():
                torch.testing.assert_close(
                    gradient, theirs[name], rtol=1e-5, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}"
                )
