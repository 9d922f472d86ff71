"""Launches the Triton kernels of ``ragged_attention``: sizes of blocks, strides, buffers."""

# Implementations take all arguments by position, as torch's operators do.
# ruff: noqa: PLR0917
from __future__ import annotations

import math
from typing import Any

import torch
import triton
from torch import Tensor

from maquette_kernels.transformer.ragged_attention.triton_kernels import (
    backward_keys_kernel,
    backward_queries_kernel,
    forward_kernel,
)
from maquette_kernels.triton_support import Compilation, interpreting

SMALLEST = 16
"""Rows that a matrix product of tensor cores takes at least."""

LOG2_E = math.log2(math.e)


def forward(
    q: Tensor, k: Tensor, v: Tensor, q_offsets: Tensor, k_offsets: Tensor, max_q: int, max_k: int, scale: float
) -> tuple[Tensor, Tensor]:
    """Outputs, then the logarithms of the sums of exponentials [H, T]."""
    tokens, heads, dim = q.shape
    out = q.new_empty(q.shape)
    sums = q.new_empty((heads, tokens), dtype=torch.float32)
    if q.numel() and max_q > 0:
        constants = _constants(q, max_q, max_k, rows_bytes=32768, keys_bytes=16384)
        blocks = triton.cdiv(max_q, constants["QUERIES"])
        forward_kernel[((len(q_offsets) - 1) * heads * blocks,)](
            q, k, v, q_offsets, k_offsets, out, sums, tokens, heads, dim, blocks, scale * LOG2_E,
            *_strides(q, k, v), **constants, **_options(constants["QUERIES"]),
        )  # fmt: skip
    return out, sums


def backward(
    arguments: tuple[Any, ...], residuals: tuple[Tensor, ...], gradients: tuple[Tensor | None, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v."""
    q, k, v, q_offsets, k_offsets, max_q, max_k, scale = arguments
    out, sums = residuals
    upstream = gradients[0]
    assert upstream is not None  # there is one output
    upstream = upstream if upstream.stride(-1) == 1 else upstream.contiguous()
    dq, dk, dv = (x.new_empty(x.shape) for x in (q, k, v))
    along = torch.empty_like(sums)
    tokens, heads, dim = q.shape
    constants = _constants(q, max_q, max_k, rows_bytes=16384, keys_bytes=16384)
    programs = (len(q_offsets) - 1) * heads
    numbers = (tokens, heads, dim)
    strides = _strides(q, k, v, upstream)
    if q.numel() and max_q > 0:
        blocks = triton.cdiv(max_q, constants["QUERIES"])
        backward_queries_kernel[(programs * blocks,)](
            q, k, v, q_offsets, k_offsets, out, sums, upstream, along, dq, *numbers, blocks, scale, scale * LOG2_E,
            *strides, **constants, **_options(constants["QUERIES"]),
        )  # fmt: skip
    if k.numel() and max_k > 0:
        blocks = triton.cdiv(max_k, constants["KEYS"])
        backward_keys_kernel[(programs * blocks,)](
            q, k, v, q_offsets, k_offsets, sums, upstream, along, dk, dv, *numbers, blocks, scale, scale * LOG2_E,
            *strides, **constants, **_options(constants["KEYS"]),
        )  # fmt: skip
    return dq, dk, dv


def _constants(q: Tensor, max_q: int, max_k: int, *, rows_bytes: int, keys_bytes: int) -> dict[str, Any]:
    """Blocks no larger than the longest sequence, whose tiles take at most so many bytes of shared memory."""
    padded = max(SMALLEST, triton.next_power_of_2(q.shape[2]))
    row = padded * q.element_size()
    return {
        "QUERIES": _block(max_q, min(128, rows_bytes // row)),
        "KEYS": _block(max_k, min(64, keys_bytes // row)),
        "DIM": padded,
        "UPCAST": interpreting() and q.dtype != torch.float32,
        "PRECISION": _precision(),
        "WHILE": interpreting(),
    }


def _block(longest: int, limit: int) -> int:
    """In the interpreter blocks are small, so that short sequences take several."""
    limit = SMALLEST if interpreting() else limit
    return max(SMALLEST, min(limit, triton.next_power_of_2(max(longest, 1))))


def _precision() -> str:
    """Of products of float32: torch's own choice for its matrix products."""
    exact = torch.get_float32_matmul_precision() == "highest" or torch.version.hip is not None
    return "ieee" if exact or interpreting() else "tf32"


def _options(rows: int) -> dict[str, int]:
    return {"num_warps": 8 if rows > 64 else 4, "num_stages": 2}


def _strides(*tensors: Tensor) -> list[int]:
    """Of rows and heads."""
    return [stride for x in tensors for stride in x.stride()[:2]]


def compilations() -> list[Compilation]:
    """All three kernels for long sequences of heads of 128 channels in bf16, for windows of 64 in bf16, and for small
    heads in float32.
    """
    kernels = (forward_kernel, backward_queries_kernel, backward_keys_kernel)
    cases = [("bf16", 2, 128, 8192), ("bf16", 2, 64, 64), ("fp32", 4, 64, 8192)]
    return [_compilation(kernel, *case) for kernel in kernels for case in cases]


def _compilation(kernel: Any, dtype: str, size: int, dim: int, longest: int) -> Compilation:
    rows_limit = (32768 if kernel is forward_kernel else 16384) // (dim * size)
    constants = {
        "QUERIES": min(128, rows_limit, longest),
        "KEYS": min(64, 16384 // (dim * size), longest),
        "DIM": dim,
        "UPCAST": False,
        "PRECISION": "ieee",
        "WHILE": False,
    }
    strides = tuple(name for name in kernel.arg_names if name.endswith(("_row", "_head")))
    options = _options(constants["KEYS" if kernel is backward_keys_kernel else "QUERIES"])
    return Compilation(kernel, _types(kernel, dtype), constants, ("dim", *strides), options)


def _types(kernel: Any, dtype: str) -> dict[str, str]:
    known = dict.fromkeys(("q", "k", "v", "out", "upstream", "dq", "dk", "dv"), f"*{dtype}")
    known |= dict.fromkeys(("q_offsets", "k_offsets"), "*i64")
    known |= dict.fromkeys(("sums", "along", "along_out"), "*fp32") | dict.fromkeys(("scale", "factor"), "fp32")
    return {name: known.get(name, "i32") for name in kernel.arg_names}
