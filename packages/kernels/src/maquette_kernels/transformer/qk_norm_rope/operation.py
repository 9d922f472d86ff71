"""The specification of ``qk_norm_rope``: shapes, cost, test inputs, and its implementations in order of
preference.
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
from maquette_kernels.transformer.qk_norm_rope.reference import reference, residuals, working_dtype

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

SPACE_DIMS = 3
MAX_DIM = 512


def validate(call: Call) -> str | None:
    """What is wrong with the shapes of a call, or None."""
    q, k, positions = call["q"], call["k"], call["positions"]
    if len(q.shape) != 4 or q.shape != k.shape:
        return f"q and k must share a shape [B, N, H, D], got {tuple(q.shape)} and {tuple(k.shape)}"
    batch, tokens, _, dim = q.shape
    if dim % 2 or dim == 0:
        return f"D must be even, got {dim}; rotations act on pairs"
    if tuple(positions.shape) not in ((tokens, SPACE_DIMS), (batch, tokens, SPACE_DIMS)):
        return f"positions must be [{tokens}, 3] or [{batch}, {tokens}, 3], got {tuple(positions.shape)}"
    for name in ("q_weight", "k_weight"):
        if tuple(call[name].shape) != (dim,):
            return f"{name} must be [{dim}], got {tuple(call[name].shape)}"
    if q.dtype != k.dtype or call["q_weight"].dtype != call["k_weight"].dtype:
        return f"q and k, and both weights, must share a dtype, got {q.dtype} and {k.dtype}"
    return None


def fake(
    q: Tensor, k: Tensor, q_weight: Tensor, k_weight: Tensor, positions: Tensor, eps: float, theta: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Outputs like q and k, then a reciprocal root mean square for each row."""
    rows = q.new_empty(q.shape[:-1], dtype=working_dtype(q, q_weight))
    return torch.empty_like(q), torch.empty_like(k), rows, rows


def cost(call: Call) -> tuple[int, int]:
    """About 9 flops an element: square and add, normalise, weigh, rotate. Each tensor is read or written
    once.
    """
    q = call["q"]
    rest = sum(call[name].bytes for name in ("q_weight", "k_weight", "positions"))
    return 2 * 9 * q.numel, 4 * q.bytes + rest


def example(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
    """One block's call of a small transformer: views of a fused projection, the rest float32."""
    batch, tokens, heads, dim = 2, 64, 4, 32
    generator = torch.Generator().manual_seed(0)
    fused = torch.randn(batch, tokens, 3, heads, dim, generator=generator).to(device, dtype)
    weights = 1 + 0.1 * torch.randn(2, dim, generator=generator).to(device)
    positions = 8 * torch.rand(tokens, SPACE_DIMS, generator=generator).to(device)
    return fused[:, :, 0], fused[:, :, 1], weights[0], weights[1], positions, 1e-6, 10000.0


def inputs(dtype: torch.dtype) -> SearchStrategy[tuple[Any, ...]]:
    """Sizes 0, 1, primes and neighbours of powers of two; positions by token or by batch and token."""
    from hypothesis import strategies as st

    @st.composite
    def draw_arguments(draw: Any) -> tuple[Any, ...]:
        batch = draw(st.sampled_from([0, 1, 2, 3]))
        tokens = draw(st.sampled_from([0, 1, 2, 7, 15, 16, 17, 31]))
        heads = draw(st.sampled_from([1, 2, 3, 5]))
        dim = draw(st.sampled_from([4, 6, 8, 14, 16, 18, 26, 32, 34, 64]))
        generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
        scale = draw(st.sampled_from([1.0, 1e-2, 30.0]))
        q, k = scale * torch.randn(2, batch, tokens, heads, dim, generator=generator)
        weights = 1 + 0.5 * torch.randn(2, dim, generator=generator)
        if draw(st.booleans()):
            weights = weights.to(dtype)
        leading = (batch,) if draw(st.booleans()) else ()
        positions = 16 * torch.rand(*leading, tokens, SPACE_DIMS, generator=generator) - 8
        theta = draw(st.sampled_from([10000.0, 100.0]))
        return q.to(dtype), k.to(dtype), weights[0], weights[1], positions, 1e-6, theta

    return draw_arguments()


def _supports_triton(call: Call) -> str | None:
    dim = call["q"].shape[-1]
    if dim > MAX_DIM:
        return f"D is {dim}; one program holds at most {MAX_DIM}"
    return triton_support.refusal(call, rows=("q", "k"))


QK_NORM_ROPE = Operation(
    name="qk_norm_rope",
    reference=reference,
    residuals=residuals,
    constants=("positions",),
    fake=fake,
    validate=validate,
    inputs=inputs,
    example=example,
    cost=cost,
    implementations=twins(__package__, _supports_triton, backward=True),
)


def build(config: NoSettings) -> Operation:
    """RMSNorm of queries and keys, then rotary embedding of 3D positions."""
    return QK_NORM_ROPE
