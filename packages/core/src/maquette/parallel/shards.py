"""What this process holds of a tensor, plain or DTensor: which part, which elements, over whom it is sharded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, distributed
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset


def local(tensor: Tensor) -> Tensor:
    """This process's part, sharing memory; a plain tensor is its own part."""
    # Without autograd to_local is a mere look-up; optimizers do it for thousands of tensors.
    with torch.no_grad():
        return tensor.to_local() if isinstance(tensor, DTensor) else tensor.detach()


def sharded_dims(tensor: Tensor) -> list[int]:
    """The dimensions of a DTensor's mesh over which it is sharded; none for a plain tensor.

    Raises:
        ValueError: the tensor is a partial sum, which has no parts that belong to anybody.
    """
    if not isinstance(tensor, DTensor):
        return []
    if any(placement.is_partial() for placement in tensor.placements):
        raise ValueError(f"a tensor {tuple(tensor.shape)} is a partial sum over its mesh; reduce it first")
    sizes = tensor.device_mesh.shape
    return [d for d, placement in enumerate(tensor.placements) if not placement.is_replicate() and sizes[d] > 1]


def by_sharding(tensors: Sequence[Tensor]) -> dict[tuple[distributed.ProcessGroup, ...], list[int]]:
    """Which tensors are sharded over which process groups: sums over their parts must be added up over all of these."""
    groups: dict[Any, tuple[distributed.ProcessGroup, ...]] = {None: ()}
    found: dict[tuple[distributed.ProcessGroup, ...], list[int]] = {}
    for index, tensor in enumerate(tensors):
        layout = (tensor.device_mesh, tensor.placements) if isinstance(tensor, DTensor) else None
        if layout not in groups:
            assert isinstance(tensor, DTensor)
            groups[layout] = tuple(tensor.device_mesh.get_group(dim) for dim in sharded_dims(tensor))
        found.setdefault(groups[layout], []).append(index)
    return found


def place(tensor: DTensor) -> tuple[slice, ...]:
    """Where this process's part lies in the whole tensor."""
    shape, offset = compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)
    return tuple(slice(first, first + size) for first, size in zip(offset, shape, strict=True))


def element_numbers(tensor: Tensor) -> Tensor:
    """The number of each of this process's elements in the whole tensor, counted in row-major order.

    Returns:
        int64, of the local part's shape: what is computed from it is the same however the tensor is sharded.
    """
    part = local(tensor)
    if not isinstance(tensor, DTensor):
        return torch.arange(part.numel(), device=part.device).view(part.shape)
    numbers = torch.zeros((), dtype=torch.int64, device=part.device)
    for size, where in zip(tensor.shape, place(tensor), strict=True):
        along = torch.arange(where.start, where.stop, device=part.device)
        numbers = numbers[..., None] * size + along
    return numbers.view(part.shape)
