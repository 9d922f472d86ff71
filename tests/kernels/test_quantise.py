"""Rows in 8 bits against the format's own table, and the fused way into an fp8 linear layer."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from maquette.errors import MaquetteError
from maquette.precision.fp8_product import quantize
from maquette_kernels.resolution import fixed
from maquette_kernels.transformer.functions import (
    fp8_modulated_linear,
    gated_norm_modulate,
    gated_norm_modulate_quantise,
    quantise_rowwise,
)
from maquette_kernels.transformer.gated_norm_modulate_quantise import GATED_NORM_MODULATE_QUANTISE
from maquette_kernels.transformer.quantise_rowwise import QUANTISE_ROWWISE

IMPLEMENTATIONS = ["cpu", "reference"]
E4M3 = torch.float8_e4m3fn


def table() -> Tensor:
    """Every finite number of e4m3 from its definition: 4 bits of exponent biased by 7, 3 of mantissa."""
    numbers = [m * 2.0**-9 for m in range(8)]
    numbers += [(8 + m) * 2.0 ** (e - 10) for e in range(1, 16) for m in range(8) if (e, m) != (15, 7)]
    return torch.tensor(numbers + [-n for n in numbers], dtype=torch.float64)


def nearest(x: Tensor) -> Tensor:
    """The nearest number of e4m3, ties to the even mantissa, by search in the table."""
    numbers = table()
    distance = (x.double().unsqueeze(-1) - numbers).abs()
    tied = distance == distance.amin(-1, keepdim=True)
    odd = torch.arange(len(numbers)) % (len(numbers) // 2) % 2  # the mantissa's last bit
    return numbers[(tied * (2 - odd)).argmax(-1)]


def operands(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x, h = torch.randn(2, *shape, generator=generator).to(dtype)
    gate, scale, shift = 0.5 * torch.randn(3, shape[0], shape[-1], generator=generator).to(dtype)
    return [x, h, gate, scale, shift]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@given(st.lists(st.floats(-448, 448, width=32), min_size=1, max_size=30))
def test_elements_become_the_nearest_number(implementation: str, numbers: list[float]) -> None:
    x = torch.tensor([[448.0, *numbers]])  # so that the scale is 1
    with fixed(QUANTISE_ROWWISE, implementation):
        values, scale = quantise_rowwise(x)
    assert scale.tolist() == [1.0]
    assert torch.equal(values.double(), nearest(x))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_scales(implementation: str, dtype: torch.dtype) -> None:
    x = torch.tensor([[1.0, -3.5], [448.0, 7.0], [0.0, -0.0], [-450.0, 1.0]], dtype=dtype)
    with fixed(QUANTISE_ROWWISE, implementation):
        values, scale = quantise_rowwise(x)
        _, exact = quantise_rowwise(x, power_of_two=False)
    assert scale.tolist() == [2.0**-7, 1.0, 2.0**-100, 2.0]
    assert exact.tolist() == pytest.approx([3.5 / 448, 1.0, 2.0**-100, x[3, 0].abs().item() / 448])
    assert values.dtype == E4M3
    assert values[2].float().tolist() == [0.0, 0.0]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_conventions_are_those_of_training_in_fp8(implementation: str) -> None:
    x = torch.randn(7, 50, generator=torch.Generator().manual_seed(0)) * torch.logspace(-30, 30, 7)[:, None]
    with fixed(QUANTISE_ROWWISE, implementation):
        values, scale = quantise_rowwise(x)
    expected, expected_scale = quantize(x)
    assert torch.equal(values.view(torch.uint8), expected.view(torch.uint8))
    assert torch.equal(scale.unsqueeze(-1), expected_scale)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_flawed_row_shows_and_others_do_not_suffer(implementation: str) -> None:
    x = torch.ones(4, 3)
    x[0, 1], x[2, 0], x[3, 2] = float("nan"), float("inf"), -float("inf")
    with fixed(QUANTISE_ROWWISE, implementation):
        values, scale = quantise_rowwise(x)
        assert quantise_rowwise(x[1])[1].shape == ()
    assert values.float().isnan().all(-1).tolist() == [True, False, True, True]
    assert scale.isnan().tolist() == [True, False, True, True]


TRITON_ROUNDS = """
import torch
from maquette_kernels.transformer.quantise_rowwise import triton_kernels
x = torch.cat([torch.arange(2**15, dtype=torch.int32) << 16, (torch.arange(2**15, dtype=torch.int32) << 16) + 0x8001])
x = x.view(torch.float32)
x = x[x <= 448.0]
x = torch.cat([torch.tensor([448.0]), x, -x]).unsqueeze(0)
for power in (True, False):
    values, scale = triton_kernels.forward(x, power)
    assert scale.item() == 1.0
    assert torch.equal(values.view(torch.uint8), x.to(torch.float8_e4m3fn).view(torch.uint8))
"""


def test_bytes_made_by_triton_are_those_of_torchs_conversion() -> None:
    pytest.importorskip("triton")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", TRITON_ROUNDS], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("ragged", [False, True])
def test_fused_quantisation_is_that_of_the_norm(implementation: str, ragged: bool) -> None:
    x, h, gate, scale, shift = operands(3, 5, 40)
    offsets = torch.tensor([0, 4, 4, 15]) if ragged else None
    if ragged:
        x, h = x.flatten(0, 1), h.flatten(0, 1)
    y, normed = gated_norm_modulate(x, h, gate, scale, shift, offsets)
    with fixed(GATED_NORM_MODULATE_QUANTISE, implementation):
        found, values, rows = gated_norm_modulate_quantise(x, h, gate, scale, shift, offsets)
    expected, expected_rows = quantise_rowwise(normed)
    torch.testing.assert_close(found, y)
    assert torch.equal(rows, expected_rows)
    assert (values.float() != expected.float()).float().mean() < 0.01


def linear_in_full(*operands: Tensor) -> tuple[Tensor, Tensor]:
    y, normed = gated_norm_modulate(*operands[:5])
    return y, F.linear(normed, *operands[5:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_fused_linear_is_the_linear_within_eight_bits(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(1)
    given_ = operands(2, 24, 64, dtype=dtype)
    weight, bias = torch.randn(48, 64, generator=generator).div(8).to(dtype), torch.randn(48, generator=generator)
    leaves = [t.clone().requires_grad_() for t in (*given_, weight, bias.to(dtype))]
    above = [torch.randn(2, 24, d, generator=generator).to(dtype) for d in (64, 48)]
    results, gradients = [], []
    for function in (fp8_modulated_linear, linear_in_full):
        outputs = function(*leaves)
        results.append(outputs)
        gradients.append(torch.autograd.grad(outputs, leaves, above))
    (y, out), (y_full, out_full) = results
    torch.testing.assert_close(y, y_full)

    def apart(a: Tensor, b: Tensor) -> float:
        return ((a.double() - b.double()).norm() / b.double().norm()).item()

    # Rounding to 3 bits of mantissa is off by 2^-4 * 0.3 or so for each operand, independently.
    assert 0.01 < apart(out, out_full) < 0.05
    ours, full = gradients
    for name, a, b in zip("x h gate scale shift".split(), ours, full, strict=False):
        assert apart(a, b) < 0.05, name
    exact = 1e-5 if dtype == torch.float32 else 0.01
    assert apart(ours[5], full[5]) < exact  # the weight's gradient is not in 8 bits
    assert apart(ours[6], full[6]) < exact


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 99))
def test_the_fused_linear_multiplies_what_was_quantised(seed: int) -> None:
    x, h, gate, scale, shift = operands(2, 5, 32, seed=seed)
    weight = torch.randn(16, 32, generator=torch.Generator().manual_seed(seed))
    offsets = torch.tensor([0, 3, 10])
    x, h = x.flatten(0, 1), h.flatten(0, 1)
    _, out = fp8_modulated_linear(x, h, gate, scale, shift, weight, offsets=offsets)
    _, values, rows = gated_norm_modulate_quantise(x, h, gate, scale, shift, offsets)
    weights, columns = quantise_rowwise(weight)
    expected = (values.double() * rows.double()[:, None]) @ (weights.double() * columns.double()[:, None]).t()
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-5)


def test_autocast_and_missing_gradients() -> None:
    leaves = [t.requires_grad_() for t in operands(2, 5, 32)]
    weight = torch.randn(16, 32).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y, out = fp8_modulated_linear(*leaves, weight)
    assert (y.dtype, out.dtype) == (torch.float32, torch.bfloat16)
    only_y = torch.autograd.grad(y.sum(), [*leaves, weight], allow_unused=True, retain_graph=True)
    torch.testing.assert_close(only_y[0], torch.ones_like(y))
    assert only_y[5] is None or not only_y[5].any()
    only_out = torch.autograd.grad(out.float().square().sum(), [*leaves, weight])
    assert all(g.isfinite().all() and g.any() for g in only_out)
    assert only_out[5].dtype == torch.float32


def test_the_fused_linear_compiles_into_one_graph() -> None:
    leaves = [t.requires_grad_() for t in (*operands(2, 5, 32), torch.randn(16, 32))]
    compiled = torch.compile(fp8_modulated_linear, fullgraph=True, backend="aot_eager")
    for plain, graph in zip(fp8_modulated_linear(*leaves), compiled(*leaves), strict=True):
        assert torch.equal(plain, graph)
    sums = [sum(o.sum() for o in f(*leaves)) for f in (fp8_modulated_linear, compiled)]
    for plain, graph in zip(*(torch.autograd.grad(s, leaves) for s in sums), strict=True):
        assert torch.equal(plain, graph)


def test_what_does_not_fit_is_told() -> None:
    x, h, gate, scale, shift = operands(2, 5, 32)
    with pytest.raises(MaquetteError, match=r"weight must be \[M, 32\], got \[16, 31\]"):
        fp8_modulated_linear(x, h, gate, scale, shift, torch.zeros(16, 31))
    with pytest.raises(MaquetteError, match="has no gradients; use fp8_modulated_linear"):
        gated_norm_modulate_quantise(x.requires_grad_(), h, gate, scale, shift)
    with pytest.raises(MaquetteError, match="must be a floating-point"):
        quantise_rowwise(torch.ones(3, dtype=torch.int32))
