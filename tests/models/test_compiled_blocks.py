"""The blocks of our models compile as whole graphs, one for all of a kind, with the gradients of the eager ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from maquette.activation_checkpointing import checkpoint_blocks
from maquette.compilation import compile_blocks
from maquette.precision.fp8 import at_least, swap_linears
from maquette_models.grid.grid_vae import GridVAE, GridVAEConfig
from maquette_models.transformer.dit import DiT, DiTConfig

WIDTH = 32


def dit(**options) -> nn.Module:
    conditioner = {"name": "class_caption", "classes": ["chair"], "width": WIDTH}
    config = DiTConfig(
        latent_channels=2, latent_resolution=2, patch=1, width=WIDTH, heads=2, conditioner=conditioner, **options
    )
    model = DiT(config).eval()
    for layer in (model.head, model.modulation, model.head_modulation):
        nn.init.normal_(layer.weight, std=0.1)
    return model


def dit_loss(model: nn.Module) -> Tensor:
    x = torch.randn(2, 2, 2, 2, 2, generator=torch.Generator().manual_seed(0))
    condition = model.conditioner.prepare({"class_id": [0, 0]})
    loss = model(x, torch.tensor([0.2, 0.7]), condition).square().mean()
    balance = model.balance()
    return loss if balance is None else loss + balance


def vae() -> nn.Module:
    config = GridVAEConfig(resolution=8, patch=2, width=8, deep_width=16, color_width=8)
    return GridVAE(config).eval()


def vae_loss(model: nn.Module) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    out = model(torch.randn(1, 1, 8, 8, 8, generator=generator), torch.rand(1, 3, 4, 4, 4, generator=generator))
    return out.tsdf.square().mean() + out.color.square().mean()


def gradients(model: nn.Module, loss, autocast: bool) -> list[Tensor]:
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        value = loss(model)
    value.backward()
    return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


def assert_compiles(model: nn.Module, loss, graphs: int, *, autocast: bool = False, backend: str = "aot_eager") -> None:
    torch._dynamo.reset()
    counters.clear()
    expected = gradients(model, loss, autocast)
    compile_blocks(model.blocks(), backend)
    found = gradients(model, loss, autocast)
    assert counters["stats"]["unique_graphs"] == graphs
    a, b = (torch.cat([gradient.flatten() for gradient in each]) for each in (found, expected))
    assert (a - b).norm() < (0.05 if autocast else 1e-5) * b.norm()


@pytest.mark.parametrize("mode", ["none", "selective"])
def test_the_dits_blocks_are_two_graphs_at_any_depth(mode):
    """Those with cross-attention and those without."""
    model = dit(depth=6)
    checkpoint_blocks(model.blocks(), mode)
    assert_compiles(model, dit_loss, graphs=2)


@pytest.mark.parametrize("mode", ["none", "full"])
def test_mixtures_of_experts_compile_with_what_they_note_on_the_side(mode):
    """Their balance is an attribute that the block's forward sets and the objective reads."""
    model = dit(depth=2, mlp="moe")
    checkpoint_blocks(model.blocks(), mode)
    assert_compiles(model, dit_loss, graphs=2)
    assert all(mixture.router.weight.grad.abs().max() > 0 for mixture in model.mixtures())


def test_the_dits_blocks_compile_with_fp8_layers_under_autocast():
    model = dit(depth=2)
    assert len(swap_linears(model, at_least(WIDTH))) == 16
    assert_compiles(model, dit_loss, graphs=2, autocast=True)


def test_the_autoencoders_blocks_compile():
    assert_compiles(vae(), vae_loss, graphs=len({block.conv.in_channels for block in vae().blocks()}) + 1)


@pytest.mark.slow
@pytest.mark.parametrize("autocast", [False, True])
def test_inductor_gives_the_dits_gradients(autocast):
    assert_compiles(dit(depth=4), dit_loss, graphs=2, autocast=autocast, backend="inductor")
