"""Experts spread over processes: the same loss and the same gradients as on one, also with sharded parameters."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.tensor import DTensor

from maquette import plugins
from maquette.engine.randomness import drawing
from maquette.parallel.data_parallel import DataParallel
from maquette.parallel.expert import ExpertParallel
from maquette.parallel.layout import Layout
from maquette.parallel.mesh import Mesh
from maquette.parallel.sharded import ShardedConfig, Zero3
from maquette.precision import Precision
from maquette.testing import run_ranks
from maquette_models.objectives.flow_matching import FlowMatching, FlowMatchingConfig
from maquette_models.transformer.dit import DiT, DiTConfig
from maquette_models.transformer.mixture_of_experts import MixtureConfig

CONDITIONER = {"name": "class_caption", "classes": ["a", "b"], "vocabulary": ["red"], "width": 16, "max_words": 3}
ROWS = 8


def model(starved: bool = False) -> DiT:
    """With `starved`, all tokens go to the first two of four experts, so that a second process computes nothing."""
    torch.manual_seed(0)
    mixture = MixtureConfig(experts=4, last=2)
    sizes = {"latent_channels": 3, "latent_resolution": 4, "width": 32, "depth": 3}
    own = DiT(DiTConfig(**sizes, mlp="moe", mlp_hidden=32, moe=mixture, conditioner=CONDITIONER))
    with torch.no_grad():
        for parameter in own.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        for mixture in own.mixtures() if starved else []:
            mixture.router.weight.zero_()
    return own


def batch(first: int = 0, count: int = ROWS) -> dict[str, Any]:
    whole = torch.randn(ROWS, 3, 4, 4, 4, generator=torch.Generator().manual_seed(3))
    rows = slice(first, first + count)
    return {
        "latent": whole[rows],
        "class_id": (torch.arange(ROWS) % 2)[rows],
        "caption": ["red"] * count,
        "position": torch.arange(ROWS)[rows],
    }


def terms(own: nn.Module, data: dict[str, Any]) -> dict[str, torch.Tensor]:
    with drawing(5, data["position"].tolist()):
        found = FlowMatching(FlowMatchingConfig(balance_weight=0.5))(own, data)
    return {key: found[key] for key in ("loss", "balance")}


def gradients(own: nn.Module) -> dict[str, torch.Tensor]:
    found = {}
    for name, parameter in own.named_parameters():
        gradient = parameter.grad
        assert gradient is not None, name
        found[name] = gradient.full_tensor() if isinstance(gradient, DTensor) else gradient
    return found


def on_a_rank(cases: list[tuple[Layout, bool]]) -> list[tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]]:
    return [one_step(layout, starved) for layout, starved in cases]


def one_step(layout: Layout, starved: bool) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Losses and gradients of the whole batch, and nothing but this process's share computed here."""
    mesh, own, precision = Mesh(layout), model(starved), Precision()
    ExpertParallel().apply(own, mesh, precision)
    if layout.context > 1:
        plugins.build("strategies", {"name": "all_gather"}).apply(own, mesh, precision)
    assert layout.expert == 1 or all(
        p.to_local().shape[0] == 4 // layout.expert for e in own.expert_layers() for p in e.parameters()
    )
    outer = Zero3(ShardedConfig()) if layout.shard > 1 else DataParallel()
    outer.apply(own, mesh, precision)
    count = ROWS // mesh.data_world
    outer.before_backward(own, last=True)
    found = terms(own, batch(mesh.data_rank * count, count))
    (found["loss"] / mesh.data_world / layout.context).backward()
    outer.reduce_gradients(own, mesh)
    means = {key: mesh.sum(value.detach() / mesh.world) for key, value in found.items()}
    return means, gradients(own)


@pytest.mark.parametrize(
    "cases",
    [
        [(Layout(expert=2), False), (Layout(expert=2), True), (Layout(context=2), False)],
        [(Layout(expert=2, shard=2), False)],
    ],
)
def test_equals_one_process(cases: list[tuple[Layout, bool]]) -> None:
    for answers in run_ranks(on_a_rank, cases[0][0].world, cases):
        for (_, starved), (means, found) in zip(cases, answers, strict=True):
            own = model(starved)
            whole = terms(own, batch())
            whole["loss"].backward()
            assert found["layers.1.mlp.router.weight"].abs().max() > 1e-4, "the balance reaches the router"
            for key, value in means.items():
                torch.testing.assert_close(value, whole[key].detach(), rtol=1e-5, atol=1e-6)
            for name, expected in gradients(own).items():
                torch.testing.assert_close(
                    found[name], expected, rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}"
                )


def test_what_cannot_work_is_refused_with_the_sizes_that_would() -> None:
    strategy = ExpertParallel()
    assert strategy.refuses(Layout(expert=4), model(), Precision()) is None
    assert "can be 1, 2, 4" in (strategy.refuses(Layout(expert=3), model(), Precision()) or "")
    assert "no experts" in (strategy.refuses(Layout(expert=2), nn.Linear(1, 1), Precision()) or "")
    assert "parallel.tensor=2" in (strategy.refuses(Layout(expert=2, tensor=2), None, Precision()) or "")
    assert "train.compile=false" in (strategy.refuses(Layout(expert=2), None, Precision(compile=True)) or "")
    assert strategy.refuses(Layout(tensor=2), None, Precision()) is None
