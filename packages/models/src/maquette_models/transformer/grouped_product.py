"""Products of rows with a matrix each out of a stack, as one operator that compilers and planners can trace."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import register_flop_formula

# torch's own operator has a shape function for bfloat16 alone, so that a float32 model could be neither compiled nor
# planned with it.
_grouped_mm: Any = getattr(F, "grouped_mm", None) or torch._grouped_mm


@torch.library.custom_op(
    "maquette_models::grouped_product", mutates_args=(), schema="(Tensor rows, Tensor matrices, Tensor ends) -> Tensor"
)
def grouped_product(rows: Tensor, matrices: Tensor, ends: Tensor) -> Tensor:
    """[R,W] and [E,W,H] -> [R,H]: matrix e multiplies the rows before `ends[e]` that no matrix before it did.

    Args:
        rows: float32 or bfloat16.
        matrices: of the same dtype.
        ends: int32 [E], never falling, the last one R.
    """
    return _grouped_mm(rows.contiguous(), matrices, offs=ends)


@torch.library.custom_op(
    "maquette_models::grouped_outer", mutates_args=(), schema="(Tensor rows, Tensor others, Tensor ends) -> Tensor"
)
def grouped_outer(rows: Tensor, others: Tensor, ends: Tensor) -> Tensor:
    """[R,W] and [R,H] -> [E,W,H]: the sum of outer products of each group's rows."""
    out: Tensor = _grouped_mm(rows.contiguous().t(), others.contiguous(), offs=ends)
    empty = ends == torch.cat([ends.new_zeros(1), ends[:-1]])
    return out.masked_fill_(empty[:, None, None], 0)  # no kernel promises to write what it has no rows for


@grouped_product.register_fake
def _(rows: Tensor, matrices: Tensor, ends: Tensor) -> Tensor:
    return rows.new_empty(rows.shape[0], matrices.shape[2])


@grouped_outer.register_fake
def _(rows: Tensor, others: Tensor, ends: Tensor) -> Tensor:
    return rows.new_empty(ends.shape[0], rows.shape[1], others.shape[1])


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
    rows, matrices, ends = ctx.saved_tensors
    to_rows, to_matrices, _ = ctx.needs_input_grad
    return (
        grouped_product(gradient, matrices.transpose(1, 2), ends) if to_rows else None,
        grouped_outer(rows, gradient, ends) if to_matrices else None,
        None,
    )


grouped_product.register_autograd(_backward, setup_context=_save)


@register_flop_formula([torch.ops.maquette_models.grouped_product, torch.ops.maquette_models.grouped_outer])
def _flops(rows: tuple[int, ...], others: tuple[int, ...], *_: Any, **__: Any) -> int:
    return 2 * rows[0] * rows[1] * others[-1]
