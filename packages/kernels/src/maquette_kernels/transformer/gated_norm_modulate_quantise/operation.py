"""The specification of ``gated_norm_modulate_quantise``: shapes, cost, test inputs, and its implementations in order
of preference.
"""

# Implementations take all arguments by position, as torch's operators do.
# ruff: noqa: PLR0917
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from maquette_kernels import triton_support
from maquette_kernels.call import Call
from maquette_kernels.implementation import twins
from maquette_kernels.operation import NoSettings, Operation
from maquette_kernels.transformer.gated_norm_modulate import operation as unquantised
from maquette_kernels.transformer.gated_norm_modulate_quantise.reference import reference
from maquette_kernels.transformer.quantise_rowwise.reference import E4M3

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


def fake(
    x: Tensor,
    h: Tensor,
    gate: Tensor,
    scale: Tensor,
    shift: Tensor,
    offsets: Tensor | None,
    eps: float,
    power_of_two: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """One output like x, bytes like x, and a scale for each row."""
    rows = x.new_empty(x.shape[:-1], dtype=torch.float32)
    return x.new_empty(x.shape), x.new_empty(x.shape, dtype=E4M3), rows


def cost(call: Call) -> tuple[int, int]:
    """That of ``gated_norm_modulate`` and 4 flops an element; the norm is written in bytes and scales."""
    flops, moved = unquantised.cost(call)
    x = call["x"]
    return flops + 4 * x.numel, moved - x.bytes + x.numel + 4 * (x.numel // x.shape[-1])


def example(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
    """One block's call of a small transformer."""
    return *unquantised.example(device, dtype), True


def workload(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
    """One block's call of a large transformer; on a GPU 64 MB in bfloat16."""
    batch, tokens, dim = (2, 1024, 1024) if device.type == "cpu" else (4, 5472, 1536)
    generator = torch.Generator().manual_seed(0)
    x, h = torch.randn(2, batch, tokens, dim, generator=generator).to(device, dtype)
    gate, scale, shift = torch.randn(batch, 3 * dim, generator=generator).to(device, dtype).chunk(3, -1)
    return x, h, gate, scale, shift, None, 1e-6, True


def inputs(dtype: torch.dtype) -> SearchStrategy[tuple[Any, ...]]:
    """Those of ``gated_norm_modulate``, with either kind of scale."""
    from hypothesis import strategies as st

    return st.tuples(unquantised.inputs(dtype), st.booleans()).map(lambda drawn: (*drawn[0], drawn[1]))


def judge(arguments: tuple[Any, ...], results: tuple[Tensor, ...], oracles: tuple[Tensor, ...]) -> str | None:
    """y within two units in the last place of its largest value; scales within 1e-4, but for a row in a hundred that
    may be rounded to the next power of two; values one step of e4m3 apart where they differ, in at most one element
    of fifty: norms that differ in their last bits are rounded apart there.
    """
    (y, values, scale), (y_oracle, expected, expected_scale) = results, oracles
    if (y.shape, values.shape, scale.shape) != (y_oracle.shape, expected.shape, expected_scale.shape):
        return "shapes differ from the reference's"
    if not y.numel():
        return None
    error = (y.double() - y_oracle).abs().max().item()
    if not error <= 2 * torch.finfo(y.dtype).eps * y_oracle.abs().max().item():
        return f"y is off by {error:.2e}"
    same = (scale - expected_scale).abs() <= 1e-4 * expected_scale
    near = same | (scale == 2 * expected_scale) | (2 * scale == expected_scale)
    moved = int((~same).sum())
    if not bool(near.all()) or moved > 1 + scale.numel() // 100:
        return f"scales differ in {moved} of {scale.numel()} rows"
    found, wanted = (v.double() * s.double().unsqueeze(-1) for v, s in ((values, scale), (expected, expected_scale)))
    step = wanted.abs() / 7 + torch.maximum(scale, expected_scale).double().unsqueeze(-1) * 2.0**-8
    if not bool(((found - wanted).abs() <= step).all()):
        return "values are more than a step of e4m3 apart"
    apart = int((values.float() != expected.float())[same].sum())
    return f"values differ in {apart} of {y.numel()} elements" if apart > 2 + y.numel() // 50 else None


def _supports_triton(call: Call) -> str | None:
    dim = call["x"].shape[-1]
    if dim > unquantised.MAX_DIM:
        return f"D is {dim}; one program holds at most {unquantised.MAX_DIM}"
    return triton_support.refusal(call, rows=("x", "h", "gate", "scale", "shift", "offsets"))


GATED_NORM_MODULATE_QUANTISE = Operation(
    name="gated_norm_modulate_quantise",
    reference=reference,
    constants=("x", "h", "gate", "scale", "shift", "offsets"),
    fake=fake,
    validate=unquantised.validate,
    inputs=inputs,
    example=example,
    cost=cost,
    judge=judge,
    workload=workload,
    implementations=twins(__package__, _supports_triton),
)


def build(config: NoSettings) -> Operation:
    """``gated_norm_modulate`` whose modulated norm comes out in 8 bits, with a scale a row."""
    return GATED_NORM_MODULATE_QUANTISE
