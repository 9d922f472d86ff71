"""The specification of ``gated_norm_modulate``: shapes, cost, test inputs, and its implementations in order
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
from maquette_kernels.transformer.gated_norm_modulate.reference import reference, residuals, working_dtype

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

MAX_DIM = 8192
RAGGED_RANK = 2
DENSE_RANK = 3


def validate(call: Call) -> str | None:
    """What is wrong with the shapes of a call, or None."""
    x, h, gate = call["x"], call["h"], call["gate"]
    ragged = call.has("offsets")
    layout = "[T, D] with offsets" if ragged else "[B, N, D] without offsets"
    if x.shape != h.shape or len(x.shape) != (RAGGED_RANK if ragged else DENSE_RANK):
        return f"x and h must be {layout}, got {tuple(x.shape)} and {tuple(h.shape)}"
    if x.dtype != h.dtype:
        return f"x and h must share a dtype, got {x.dtype} and {h.dtype}"
    if x.shape[-1] == 0:
        return "D is 0; there is nothing to normalise"
    if ragged and (len(call["offsets"].shape) != 1 or call["offsets"].dtype != torch.int64):
        return f"offsets must be int64 [B + 1], got {call['offsets'].dtype} {tuple(call['offsets'].shape)}"
    batch = call["offsets"].shape[0] - 1 if ragged else x.shape[0]
    for name in ("gate", "scale", "shift"):
        if tuple(call[name].shape) != (batch, x.shape[-1]):
            return f"{name} must be [{batch}, {x.shape[-1]}], got {tuple(call[name].shape)}"
    return None if gate.dtype == call["scale"].dtype == call["shift"].dtype else "gate, scale, shift must share a dtype"


def fake(
    x: Tensor, h: Tensor, gate: Tensor, scale: Tensor, shift: Tensor, offsets: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Two outputs like x, then a mean and a reciprocal standard deviation for each row."""
    rows = x.new_empty(x.shape[:-1], dtype=working_dtype(x, h, gate, scale, shift))
    return x, x, rows, rows


def cost(call: Call) -> tuple[int, int]:
    """About 11 flops an element: gate and add, two moments, normalise, modulate. Each tensor is read or
    written once.
    """
    x = call["x"]
    rest = sum(operand.bytes for name, operand in call.given.items() if name not in {"x", "h"})
    return 11 * x.numel, 4 * x.bytes + rest


def example(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
    """One block's call of a small transformer; gate, scale and shift are views of one projection."""
    batch, tokens, dim = 2, 64, 128
    generator = torch.Generator().manual_seed(0)
    x, h = torch.randn(2, batch, tokens, dim, generator=generator).to(device, dtype)
    gate, scale, shift = torch.randn(batch, 3 * dim, generator=generator).to(device, dtype).chunk(3, -1)
    return x, h, gate, scale, shift, None, 1e-6


def inputs(dtype: torch.dtype) -> SearchStrategy[tuple[Any, ...]]:
    """Sizes 0, 1, primes and neighbours of powers of two; dense, and ragged with empty sequences; large
    means.
    """
    from hypothesis import strategies as st

    @st.composite
    def draw_arguments(draw: Any) -> tuple[Any, ...]:
        batch = draw(st.sampled_from([1, 2, 3, 5]))
        dim = draw(st.sampled_from([1, 7, 16, 31, 32, 33, 64, 127, 130]))
        offsets = None
        if draw(st.booleans()):
            lengths = draw(st.lists(st.sampled_from([0, 1, 2, 7, 17, 33]), min_size=batch, max_size=batch))
            offsets = torch.tensor([0, *lengths]).cumsum(0)
            shape: tuple[int, ...] = (sum(lengths), dim)
        else:
            batch = draw(st.sampled_from([0, batch]))
            shape = (batch, draw(st.sampled_from([0, 1, 2, 7, 16, 17, 31])), dim)
        generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
        x, h = torch.randn(2, *shape, generator=generator)
        x = x * draw(st.sampled_from([1.0, 30.0])) + draw(st.sampled_from([0.0, 30.0]))
        gate, scale, shift = 0.5 * torch.randn(3, batch, dim, generator=generator)
        mixed = dtype if draw(st.booleans()) else torch.float32
        return x.to(dtype), h.to(dtype), gate.to(mixed), scale.to(mixed), shift.to(mixed), offsets, 1e-6

    return draw_arguments()


def _supports_triton(call: Call) -> str | None:
    dim = call["x"].shape[-1]
    if dim > MAX_DIM:
        return f"D is {dim}; one program holds at most {MAX_DIM}"
    return triton_support.refusal(call, rows=("x", "h", "gate", "scale", "shift", "offsets"))


GATED_NORM_MODULATE = Operation(
    name="gated_norm_modulate",
    reference=reference,
    residuals=residuals,
    keeps=(0,),  # y costs nothing: it is the next block's x, which is kept anyway
    constants=("offsets",),
    fake=fake,
    validate=validate,
    inputs=inputs,
    example=example,
    cost=cost,
    implementations=twins(__package__, _supports_triton, backward=True),
)


def build(config: NoSettings) -> Operation:
    """Gated residual, LayerNorm and modulation (adaLN) in one pass, dense or ragged."""
    return GATED_NORM_MODULATE
