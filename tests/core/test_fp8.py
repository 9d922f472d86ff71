"""fp8 linear layers: how far they may be off, that gradients are those of the product, and what is swapped."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from maquette.activation_checkpointing import apply_checkpointing
from maquette.compilation import apply_compile
from maquette.engine.randomness import drawing
from maquette.errors import MaquetteError
from maquette.parallel.layout import Layout
from maquette.parallel.mesh import Mesh
from maquette.parallel.tensor import TensorParallel
from maquette.precision import Precision
from maquette.precision.fp8 import Fp8Linear, apply_fp8, at_least, survey, swap_linears
from maquette.precision.fp8_product import (
    E4M3,
    emulated_matmul,
    fp8_product,
    matmul,
    power_of_two,
    quantize,
    scaled_matmul,
)
from maquette.testing import TinyObjective, TinyTransformer, run_ranks, tiny_batch

shapes = st.tuples(st.integers(1, 9), st.integers(1, 40))
seeds = st.integers(0, 2**32 - 1)


def numbers(shape, seed):
    """Rows of very different size, with zeros, zero rows and outliers among them."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    x *= 10.0 ** torch.randint(-12, 12, (shape[0], 1), generator=generator)
    x[torch.rand(shape, generator=generator) < 0.1] = 0
    x[torch.rand(shape, generator=generator) < 0.05] *= 1e4
    x[torch.rand(shape[0], generator=generator) < 0.1] = 0
    return x.float()


def doubt(x, dim=-1):
    """The most that quantising may change each entry."""
    _, scale = quantize(x, dim)
    return x.double().abs() / 16 + scale.double() / 1024


@given(st.floats(2.0**-100, 2.0**100))
def test_scales_are_the_next_power_of_two(value):
    x = torch.tensor([value], dtype=torch.float32)
    scale = power_of_two(x)
    mantissa, _ = torch.frexp(scale)
    assert mantissa.item() == 0.5
    assert x <= scale < 2 * x


@given(shapes, seeds, st.sampled_from([0, 1]))
def test_quantised_numbers_are_near_and_zeros_stay(shape, seed, dim):
    x = numbers(shape, seed)
    values, scale = quantize(x, dim)
    assert values.dtype == E4M3
    assert scale.shape == (shape[0], 1) if dim == 1 else (1, shape[1])
    back = values.double() * scale.double()
    assert bool((((back - x.double()).abs()) <= doubt(x, dim)).all())
    assert bool((back[x == 0] == 0).all())


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 40), seeds)
def test_products_are_within_the_bound_of_8_bits(rows, columns, inner, seed):
    a, b = numbers((rows, inner), seed), numbers((columns, inner), seed + 1)
    off_a, off_b = doubt(a), doubt(b)
    bound = off_a @ b.double().abs().t() + a.double().abs() @ off_b.t() + off_a @ off_b.t()
    exact = a.double() @ b.double().t()
    error = (matmul(a, b, fast=True).double() - exact).abs()
    assert bool((error <= bound * 1.0001 + 1e-30).all())


@given(st.integers(-40, 40), seeds)
def test_a_row_times_a_power_of_two_gives_exactly_that_many_times_the_result(power, seed):
    torch.manual_seed(seed)
    a, b = torch.randn(5, 24), torch.randn(7, 24)
    assert torch.equal(matmul(a * 2.0**power, b, fast=False), matmul(a, b, fast=False) * 2.0**power)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_so(bad):
    a, b = torch.randn(3, 16), torch.randn(4, 16)
    a[1, 2] = bad
    found = matmul(a, b, fast=False).isfinite().all(dim=1)
    assert found.tolist() == [True, False, True], "the finite check of the step must see it"


@pytest.mark.parametrize(("rows", "columns", "inner"), [(32, 48, 64), (16, 16, 24), (48, 32, 7)])
def test_the_emulation_is_what_the_scaled_product_of_torch_gives(rows, columns, inner):
    """torch._scaled_mm has a CPU path with the GPU's contract: scales by row and column, second operand transposed."""
    torch.manual_seed(0)
    qa, scale_a = quantize(torch.randn(rows, inner) * torch.rand(rows, 1) * 9)
    qb, scale_b = quantize(torch.randn(columns, inner) * torch.rand(columns, 1))
    wanted = emulated_matmul(qa, qb, scale_a, scale_b)
    torch.testing.assert_close(scaled_matmul(qa, qb, scale_a, scale_b, True).float(), wanted, rtol=8e-3, atol=1e-2)


@given(seeds, st.booleans(), st.sampled_from([torch.float32, torch.bfloat16]))
def test_gradients_are_those_of_the_product_within_the_bound(seed, exact_weight, dtype):
    torch.manual_seed(seed)
    x, weight = torch.randn(2, 6, 24).to(dtype), torch.randn(8, 24).to(dtype)
    above = torch.randn(2, 6, 8).to(dtype)
    found = [tensor.clone().requires_grad_() for tensor in (x, weight)]
    fp8_product(*found, exact_weight).backward(above)
    rows, gradient = x.flatten(0, 1), above.flatten(0, 1)
    products = {
        0: (gradient, weight.t(), found[0].grad.flatten(0, 1)),
        1: (gradient.t(), rows.t(), found[1].grad),
    }
    for which, (a, b, got) in products.items():
        exact = a.double() @ b.double().t()
        if which == 1 and exact_weight:
            torch.testing.assert_close(got, gradient.t() @ rows)
            continue
        off_a, off_b = doubt(a), doubt(b)
        bound = off_a @ b.double().abs().t() + a.double().abs() @ off_b.t() + off_a @ off_b.t()
        assert bool(((got.double() - exact).abs() <= bound * 1.0001 + exact.abs() / 100).all())
        assert got.dtype == dtype


def test_frozen_weights_and_inputs_get_no_gradient():
    x, weight = torch.randn(4, 16, requires_grad=True), torch.randn(8, 16)
    fp8_product(x, weight).sum().backward()
    assert x.grad is not None
    x, weight = torch.randn(4, 16), torch.randn(8, 16, requires_grad=True)
    fp8_product(x, weight).sum().backward()
    assert weight.grad is not None


@pytest.mark.parametrize("bias", [True, False])
def test_a_swapped_layer_keeps_names_parameters_and_meaning(bias):
    torch.manual_seed(0)
    linear = nn.Linear(32, 48, bias=bias).eval()
    new = Fp8Linear.of(linear)
    x = torch.randn(3, 5, 32)
    assert new.weight is linear.weight
    assert list(new.state_dict()) == list(linear.state_dict())
    assert not new.training
    assert (new(x) - linear(x)).norm() < 0.06 * linear(x).norm()
    part = linear.weight[:16]
    assert (new.product(x, part) - F.linear(x, part)).norm() < 0.06 * F.linear(x, part).norm()
    with torch.autocast("cpu", torch.bfloat16):
        assert new(x).dtype == torch.bfloat16
    assert new(x).dtype == torch.float32


def test_only_layers_of_blocks_that_are_wide_enough_are_swapped():
    model = TinyTransformer(width=32, depth=2, values=32)
    names = list(model.state_dict())
    swapped = swap_linears(model, at_least(32))
    assert list(model.state_dict()) == names
    assert sorted(swapped) == sorted(
        f"layers.{block}.{layer}"
        for block in range(2)
        for layer in (
            *(f"attention.{name}" for name in ("to_query", "to_key", "to_value", "out")),
            "mlp.up",
            "mlp.down",
        )
    )
    assert type(model.embed) is nn.Linear, "the first layer stays"
    assert type(model.head) is nn.Linear, "the last layer stays"
    assert swap_linears(model, at_least(32)) == [], "twice is once"


class Delicate(nn.Module):
    """A block with layers that must stay."""

    def __init__(self) -> None:
        super().__init__()
        self.modulation = nn.Linear(32, 64)
        self.router = nn.Linear(32, 32)
        self.odd = nn.Linear(32, 40)
        self.narrow = nn.Linear(16, 64)
        self.good = nn.Linear(32, 64)

    def blocks(self):
        return [self]


def test_a_survey_says_why_each_layer_stays():
    assert survey(Delicate(), at_least(32)) == {
        "modulation": "a modulation stays exact",
        "router": "a router stays exact",
        "odd": "32 x 40 is no multiple of 16",
        "narrow": "16 x 64 is narrower than 32",
        "good": None,
    }


def test_fp8_that_would_change_nothing_is_refused():
    with pytest.raises(MaquetteError, match=r"narrower than 1536.*train\.precision=bf16"):
        apply_fp8(TinyTransformer(width=32), Precision("fp8"))
    with pytest.raises(MaquetteError, match="it has none"):
        apply_fp8(nn.Linear(4096, 4096), Precision("fp8"))
    assert apply_fp8(TinyTransformer(width=32), Precision("bf16", min_width=16)) == []


PLANS = (
    Precision("fp8", min_width=32, recipe="rowwise_with_gw_hp", checkpointing="selective"),
    Precision("fp8", min_width=32, compile=True, backend="aot_eager"),
)


def gradients(precision: Precision, tensor: int) -> torch.Tensor:
    """All of the tiny model's, one after the other, with its layers over ``tensor`` processes."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    model, mesh, strategy = TinyTransformer(width=32, depth=2), Mesh(Layout(tensor=tensor)), TensorParallel()
    apply_fp8(model, precision)
    strategy.apply(model, mesh, precision)
    apply_checkpointing(model, precision)
    apply_compile(model, precision)
    batch = tiny_batch(4)
    with drawing(1, batch["position"].tolist()), precision.context("cpu"):
        loss = TinyObjective()(model, batch)["loss"] / tensor
    loss.backward()
    strategy.reduce_gradients(model, mesh)
    found = [parameter.grad for parameter in model.parameters()]
    return torch.cat([(g.full_tensor() if hasattr(g, "full_tensor") else g).flatten() for g in found])


def split_gradients() -> list[torch.Tensor]:
    return [gradients(precision, 2) for precision in PLANS]


def test_layers_split_over_two_processes_multiply_in_8_bits_too():
    ranks = run_ranks(split_gradients, 2)
    exact = gradients(Precision(), 1)
    for precision, first, second in zip(PLANS, *ranks, strict=True):
        one = gradients(Precision("fp8", min_width=32, recipe=precision.recipe), 1)
        assert torch.equal(first, second)
        assert (first - one).norm() < 0.1 * one.norm(), "scales of rows that are split differ, the meaning does not"
        assert 0.005 * exact.norm() < (first - exact).norm() < 0.15 * exact.norm()
