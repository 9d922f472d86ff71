"""A kernel in a loose file: relu(x)^2 in one pass over memory, forwards and backwards, on a GPU by Triton.

    maquette --plugin examples/plugins/squared_relu.py kernels explain squared_relu
    maquette --plugin examples/plugins/squared_relu.py kernels bench squared_relu

The reference is obvious torch code and says what is right. `check_operation` of maquette_kernels.testing holds the
Triton kernel to it: values and gradients against double precision, odd strides, views between NaNs, no elements at
all, equal bits each time, one graph under torch.compile. Without a GPU set TRITON_INTERPRET=1 to try it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
import triton
import triton.language as tl
from hypothesis import strategies as st
from torch import Tensor

from maquette import hookimpl
from maquette_kernels.operation import Implementation, Operation
from maquette_kernels.triton_support import refusal

BLOCK = 1024


def squared_relu(x: Tensor) -> Tensor:
    """relu(x)^2 of [...] (So et al. 2021)."""
    return torch.relu(x).square()


@triton.jit
def forward_kernel(x, out, count, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = place < count
    positive = tl.maximum(tl.load(x + place, mask=live, other=0.0).to(tl.float32), 0.0)
    tl.store(out + place, positive * positive, mask=live)


@triton.jit
def backward_kernel(x, gradient, out, count, BLOCK: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = place < count
    positive = tl.maximum(tl.load(x + place, mask=live, other=0.0).to(tl.float32), 0.0)
    above = tl.load(gradient + place, mask=live, other=0.0).to(tl.float32)
    tl.store(out + place, 2.0 * positive * above, mask=live)


def forward(x: Tensor) -> Tensor:
    """The kernel reads plain memory, so other layouts are copied first."""
    x = x.contiguous()
    out = torch.empty_like(x)
    if x.numel():
        forward_kernel[(triton.cdiv(x.numel(), BLOCK),)](x, out, x.numel(), BLOCK=BLOCK)
    return out


def backward(arguments, residuals, gradients):
    """One gradient for the one argument. Nothing was kept of the forward pass: x is at hand."""
    x, gradient = arguments[0].contiguous(), gradients[0].contiguous()
    out = torch.empty_like(x)
    if x.numel():
        backward_kernel[(triton.cdiv(x.numel(), BLOCK),)](x, gradient, out, x.numel(), BLOCK=BLOCK)
    return (out,)


@dataclass(frozen=True)
class SquaredReluConfig:
    """Nothing to set."""


@cache
def build(config: SquaredReluConfig) -> Operation:
    return Operation(
        name="squared_relu",
        reference=squared_relu,
        inputs=lambda dtype: st.integers(0, 3000).map(lambda n: (torch.linspace(-3, 3, n).to(dtype),)),
        example=lambda device, dtype: (torch.linspace(-3, 3, 70, device=device).to(dtype),),
        workload=lambda device, dtype: (torch.randn(1 << 24, device=device, dtype=dtype),),
        cost=lambda call: (2 * call["x"].numel, 2 * call["x"].bytes),
        implementations=(Implementation("triton", forward, backward, supports=lambda call: refusal(call, rows=())),),
    )


@hookimpl
def register_kernels(register):
    register("squared_relu", SquaredReluConfig, build)
