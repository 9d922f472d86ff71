"""The specification of ``coarsen``: shapes, cost, test inputs, laws, and its implementations."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from maquette_kernels import triton_support
from maquette_kernels.call import Call
from maquette_kernels.implementation import twins
from maquette_kernels.operation import NoSettings, Operation
from maquette_kernels.sparse.clouds import shell, voxels
from maquette_kernels.sparse.coarsen.reference import reference
from maquette_kernels.sparse.keys import wrong_coords

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


def validate(call: Call) -> str | None:
    """What is wrong with the coordinates, or None."""
    return wrong_coords("coords", call["coords"])


def fake(coords: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As many coarse voxels as the data says; a parent and an octant for each voxel."""
    count = torch.library.get_ctx().new_dynamic_size()
    index = coords.new_empty(coords.shape[0])
    return coords.new_empty(count, 4), index, index


def cost(call: Call) -> tuple[int, int]:
    """No arithmetic to speak of; coordinates are read, parents and octants written, and some coarse voxels."""
    return 0, call["coords"].bytes * 2


def example(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
    """Half of the places of two 4^3 grids, unsorted."""
    return (voxels(64, side=4, batch=2, seed=0).to(device),)


def workload(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
    """A spherical shell: of 256 voxels across on a CPU, of 1024 on a GPU."""
    return (shell(256 if device.type == "cpu" else 1024).to(device),)


def inputs(dtype: torch.dtype) -> SearchStrategy[tuple[Any, ...]]:
    """None, one and many voxels, sorted and not, negative and at the corners of the range."""
    from hypothesis import strategies as st

    @st.composite
    def draw_arguments(draw: Any) -> tuple[Any, ...]:
        count = draw(st.sampled_from([0, 1, 2, 15, 16, 17, 61, 127, 128, 129, 300]))
        batch, ordered = draw(st.sampled_from([1, 3])), draw(st.booleans())
        coords = voxels(count, side=6, batch=batch, seed=draw(st.integers(0, 2**31)), ordered=ordered)
        coords[:, 1:] += draw(st.sampled_from([0, -3, 1, -32768, 32768 - 6]))
        return (coords,)

    return draw_arguments()


def parent_and_octant_lead_back(run: Any, arguments: tuple[Any, ...]) -> None:
    """A voxel is twice its parent plus its octant's bits, and parents are strictly ascending."""
    (coords,) = arguments
    coarse, parent, octant = run(coords)
    bits = torch.stack([torch.zeros_like(octant), octant >> 2, octant >> 1 & 1, octant & 1], 1)
    doubled = coarse[parent.long()] * coarse.new_tensor([1, 2, 2, 2])
    assert torch.equal(doubled + bits, coords), "parent and octant do not lead back to the voxel"
    rows = coarse.tolist()
    assert all(a < b for a, b in itertools.pairwise(rows)), "coarse voxels do not ascend"


COARSEN = Operation(
    name="coarsen",
    reference=reference,
    constants=("coords",),
    fake=fake,
    validate=validate,
    inputs=inputs,
    example=example,
    workload=workload,
    cost=cost,
    dtypes=(torch.float32,),
    laws=(parent_and_octant_lead_back,),
    implementations=twins(__package__, lambda call: triton_support.refusal(call, rows=())),
)


def build(config: NoSettings) -> Operation:
    """Voxels of half the resolution, with each voxel's parent and octant."""
    return COARSEN
