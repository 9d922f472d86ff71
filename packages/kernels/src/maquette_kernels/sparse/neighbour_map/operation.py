"""The specification of ``neighbour_map``: shapes, cost, test inputs, laws, and its implementations."""

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
from maquette_kernels.sparse.clouds import shell, voxels
from maquette_kernels.sparse.keys import wrong_coords
from maquette_kernels.sparse.neighbour_map.reference import reference

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


def validate(call: Call) -> str | None:
    """What is wrong with shapes, dtypes and sizes of a call, or None."""
    for name in ("coords", "queries"):
        wrong = wrong_coords(name, call[name]) if call.has(name) else None
        if wrong:
            return wrong
    for name, value in call.scalars.items():
        if value < 1:
            return f"{name} must be at least 1, got {value}"
    return None


def fake(coords: Tensor, queries: Tensor | None, kx: int, ky: int, kz: int, stride: int, dilation: int) -> Tensor:
    """One row a query, one column a tap."""
    asked = coords if queries is None else queries
    return coords.new_empty(asked.shape[0], kx * ky * kz)


def cost(call: Call) -> tuple[int, int]:
    """No arithmetic to speak of; coordinates are read and the map is written once."""
    asked = call["queries" if call.has("queries") else "coords"]
    taps = call.scalars["kx"] * call.scalars["ky"] * call.scalars["kz"]
    return 0, sum(operand.bytes for operand in call.given.values()) + asked.shape[0] * taps * 4


def example(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
    """Half of the places of two 4^3 grids, unsorted."""
    return voxels(64, side=4, batch=2, seed=0).to(device), None, 3, 3, 3, 1, 1


def workload(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
    """A spherical shell: of 256 voxels across on a CPU, of 1024 on a GPU."""
    return shell(256 if device.type == "cpu" else 1024).to(device), None, 3, 3, 3, 1, 1


def inputs(dtype: torch.dtype) -> SearchStrategy[tuple[Any, ...]]:
    """Few voxels in small grids, full and empty, sorted and not, at the corners of the range, equal in two batches;
    kernels even and odd; queries of their own with strides.
    """
    from hypothesis import strategies as st

    @st.composite
    def draw_arguments(draw: Any) -> tuple[Any, ...]:
        seed = draw(st.integers(0, 2**31))
        side, batch = draw(st.sampled_from([(1, 1), (2, 2), (3, 1), (5, 2), (5, 3)]))
        count = draw(st.sampled_from([0, 1, 2, 15, 16, 17, 31, 61, 128]))
        coords = voxels(count, side=side, batch=batch, seed=seed, ordered=draw(st.booleans()))
        coords[:, 1:] += draw(st.sampled_from([0, -2, -32768, 32768 - side]))
        kernel = draw(st.sampled_from([(3, 3, 3), (1, 1, 1), (2, 2, 2), (1, 2, 3), (3, 1, 4), (5, 3, 1)]))
        if draw(st.booleans()):
            return coords, None, *kernel, 1, draw(st.sampled_from([1, 2, 3]))
        stride = draw(st.sampled_from([1, 2]))
        queries = voxels(draw(st.sampled_from([0, 1, 17, 40])), side=side + 1, batch=batch + 1, seed=seed + 1)
        queries[:, 1:] += coords[:1, 1:] // stride if len(coords) else 0
        return coords, queries.clamp(-32768, 32767), *kernel, stride, draw(st.sampled_from([1, 2]))

    return draw_arguments()


def permuted_rows_permute_the_map(run: Any, arguments: tuple[Any, ...]) -> None:
    """Voxels in another order: the same map between renumbered voxels."""
    coords, queries, *rest = arguments
    if queries is not None:
        return
    (before,) = run(coords, None, *rest)
    order = torch.randperm(len(coords), generator=torch.Generator().manual_seed(len(coords))).to(coords.device)
    (after,) = run(coords[order], None, *rest)
    number = torch.cat([order.argsort(), order.new_tensor([-1])]).int()  # its last row is what -1 stands for
    assert torch.equal(after, number[before[order].long()]), "the map depends on the order of voxels"


def taps_mirror(run: Any, arguments: tuple[Any, ...]) -> None:
    """In an odd kernel, if b lies at a tap of a, then a lies at the opposite tap of b."""
    _, queries, kx, ky, kz, *_ = arguments
    if queries is not None or not kx * ky * kz % 2:
        return
    (found,) = run(*arguments)
    rows, taps = (found >= 0).nonzero(as_tuple=True)
    assert torch.equal(found[found[rows, taps].long(), found.shape[1] - 1 - taps].long(), rows), "taps do not mirror"


def ends_of_the_range_are_apart(run: Any, arguments: tuple[Any, ...]) -> None:
    """Beyond the last place of an axis lies nothing, not the first place of the next row, slab or batch element."""
    last, first = 32767, -32768
    places = [[0, last, 0, 0], [1, first, 0, 0], [0, 0, last, 0], [0, 1, first, 0], [0, 0, 0, last], [0, 0, 1, first]]
    coords = torch.tensor(places, dtype=torch.int32, device=arguments[0].device)
    (found,) = run(coords, None, 3, 3, 3, 1, 1)
    assert int((found >= 0).sum()) == len(places), "voxels at opposite ends of the range are taken for neighbours"


def _supports_triton(call: Call) -> str | None:
    if call.scalars["dilation"] > 16:
        return f"dilation is {call.scalars['dilation']}; the kernel steps over gaps of at most 16"
    return triton_support.refusal(call, rows=())


NEIGHBOUR_MAP = Operation(
    name="neighbour_map",
    reference=reference,
    constants=("coords", "queries"),
    fake=fake,
    validate=validate,
    inputs=inputs,
    example=example,
    workload=workload,
    cost=cost,
    dtypes=(torch.float32,),
    laws=(permuted_rows_permute_the_map, taps_mirror, ends_of_the_range_are_apart),
    implementations=twins(__package__, _supports_triton),
)


def build(config: NoSettings) -> Operation:
    """For every voxel and every tap of a kernel, which voxel lies there."""
    return NEIGHBOUR_MAP
