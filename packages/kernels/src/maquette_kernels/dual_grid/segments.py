"""Sums over groups of rows in Triton, in a fixed order, and the bookkeeping of expanding one item into several."""

# Kernels take each of their arrays by itself.
# ruff: noqa: PLR0917
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from maquette_kernels.triton_support import Compilation, interpreting

GROUPS = 16
"""Groups that one program sums."""


def expand(counts: Tensor) -> tuple[Tensor, Tensor]:
    """For items that each stand for several: the item of each one, and its number among them; int64 [sum of counts]."""
    ends = counts.cumsum(0)
    total = int(ends[-1]) if len(ends) else 0
    owner = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts, output_size=total)
    return owner, torch.arange(total, device=counts.device) - (ends - counts)[owner]


@triton.jit
def segment_sum_kernel(
    values, order, starts, out, groups, columns, GROUPS: tl.constexpr, COLUMNS: tl.constexpr
):  # fmt: skip
    group = tl.program_id(0).to(tl.int64) * GROUPS + tl.arange(0, GROUPS)
    column = tl.arange(0, COLUMNS)[None, :]
    live = group < groups
    first = tl.load(starts + group, mask=live, other=0)
    count = tl.load(starts + group + 1, mask=live, other=0) - first
    longest = tl.max(count, 0)
    total = tl.zeros((GROUPS, COLUMNS), tl.float64)
    step = longest * 0
    while step < longest:
        inside = live & (step < count)
        row = tl.load(order + first + step, mask=inside, other=0)
        mask = inside[:, None] & (column < columns)
        total += tl.load(values + row[:, None] * columns + column, mask=mask, other=0.0)
        step += 1
    tl.store(out + group[:, None] * columns + column, total, mask=live[:, None] & (column < columns))


def segment_sum(values: Tensor, groups: Tensor, count: int) -> Tensor:
    """Sums of the rows of each group, one after the other as they come.

    Args:
        values: float64 [K, C]; groups: int64 [K], the group of each row, `count` for none.

    Returns:
        float64 [count, C].
    """
    columns = values.shape[1]
    ordered, order = groups.sort(stable=True)
    starts = torch.searchsorted(ordered, torch.arange(count + 1, device=groups.device))
    out = values.new_empty(count, columns)
    if count:
        tile = 128 if interpreting() else GROUPS
        segment_sum_kernel[(triton.cdiv(count, tile),)](
            values, order, starts, out, count, columns, GROUPS=tile, COLUMNS=triton.next_power_of_2(columns)
        )
    return out


def compilation(columns: int) -> Compilation:
    """The sum as it runs on a GPU."""
    kinds = {"values": "*fp64", "order": "*i64", "starts": "*i64", "out": "*fp64", "groups": "i32", "columns": "i32"}
    sizes = {"GROUPS": GROUPS, "COLUMNS": triton.next_power_of_2(columns)}
    return Compilation(segment_sum_kernel, kinds, sizes)
