"""Activation checkpointing: less is kept, gradients are the same to the last bit, names stay."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from maquette.activation_checkpointing import apply_checkpointing, checkpoint_blocks
from maquette.compilation import apply_compile
from maquette.engine import randomness
from maquette.engine.randomness import drawing
from maquette.precision import Precision
from maquette.precision.fp8 import at_least, swap_linears
from maquette.testing import TinyTransformer, tiny_batch

MODES = ("none", "full", "selective")


def built(precision: Precision, depth: int = 4) -> nn.Module:
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = TinyTransformer(width=32, depth=depth)
    apply_checkpointing(model, precision)
    apply_compile(model, precision)
    return model


def forward(model: nn.Module, rows: int = 4) -> torch.Tensor:
    return model(tiny_batch(rows)["x"], torch.linspace(0, 1, rows)).square().mean()


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    model.zero_grad()
    forward(model).backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def kept_bytes(model: nn.Module) -> int:
    """What a forward pass allocates and a backward pass will find, by torch's own account of its allocator."""
    forward(model).backward()  # compiles
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        loss = forward(model)
    events = profiler.profiler.kineto_results.events()
    assert loss.requires_grad
    return sum(event.nbytes() for event in events if event.name() == "[memory]")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("compiled", [False, True])
def test_gradients_and_names_are_those_of_a_model_that_keeps_everything(mode, compiled):
    plain = built(Precision())
    model = built(Precision(checkpointing=mode, compile=compiled, backend="aot_eager"))
    assert list(model.state_dict()) == list(plain.state_dict())
    expected, found = gradients(plain), gradients(model)
    assert {name for name in expected if not torch.equal(expected[name], found[name])} == set()


@pytest.mark.parametrize("compiled", [False, True])
def test_the_more_is_computed_again_the_less_is_kept(compiled):
    kept = {
        mode: kept_bytes(built(Precision(checkpointing=mode, compile=compiled, backend="aot_eager"))) for mode in MODES
    }
    assert kept["full"] < 0.5 * kept["none"], kept
    assert kept["full"] < 0.9 * kept["selective"], kept
    assert kept["selective"] < 0.9 * kept["none"], kept


def test_a_memory_budget_bounds_what_a_compiled_block_keeps():
    expected = gradients(built(Precision()))
    kept = []
    for budget in (1.0, 0.5, 0.1):
        model = built(Precision(checkpointing="budget", compile=True, backend="aot_eager", memory_budget=budget))
        found = gradients(model)
        assert all(torch.allclose(expected[name], found[name], rtol=1e-5, atol=1e-7) for name in expected)
        kept.append(kept_bytes(model))
    assert kept[2] < kept[1] < kept[0], kept
    apply_checkpointing(model, Precision())
    assert torch._functorch.config.activation_memory_budget == 1.0, "another run in this process keeps everything"


class Noisy(nn.Module):
    """Draws both kinds of noise: the samples' own, by name, and torch's."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(2))

    def blocks(self) -> list[nn.Module]:
        return [self]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layers[0](x) * randomness.normal("inside", x.shape)
        return self.layers[1](F.dropout(x, 0.5).square())


@pytest.mark.parametrize("mode", MODES)
def test_noise_is_the_same_in_the_second_pass_although_the_batch_is_over(mode):
    def run(mode):
        torch.manual_seed(0)
        model = Noisy()
        checkpoint_blocks([model], mode)
        x = torch.randn(3, 16)
        with drawing(5, [7, 8, 9]):
            loss = model(x).sum()
        with drawing(6, [1, 2, 3]):  # the next batch's, say, of a pipeline
            loss.backward()
        return loss.detach(), *(parameter.grad for parameter in model.parameters())

    assert all(torch.equal(a, b) for a, b in zip(run("none"), run(mode), strict=True))


@pytest.mark.parametrize("mode", MODES)
def test_fp8_layers_are_computed_again_exactly(mode):
    def run(mode):
        model = built(Precision())
        assert swap_linears(model, at_least(32))
        checkpoint_blocks(model.blocks(), mode)
        with torch.autocast("cpu", torch.bfloat16):
            return gradients(model)

    expected, found = run("none"), run(mode)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_nothing_is_kept_for_a_pass_without_gradients():
    model = built(Precision(checkpointing="full"))
    with torch.no_grad():
        assert not forward(model).requires_grad
