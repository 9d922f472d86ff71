"""The specification of ``sparse_marching_cubes``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from maquette_kernels import triton_support
from maquette_kernels.call import Call, on_cpu
from maquette_kernels.implementation import twins
from maquette_kernels.operation import NoSettings, Operation
from maquette_kernels.surface import laws
from maquette_kernels.surface.sparse_marching_cubes.reference import reference

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


def validate(call: Call) -> str | None:
    """What is wrong with a call as such, or None."""
    values, coords, clearance = call["values"], call["coords"], call.scalars["clearance"]
    if len(values.shape) != 1 or values.dtype not in {torch.float32, torch.float64}:
        return f"values must be float32 or float64 [N], got {values.dtype} {tuple(values.shape)}"
    if coords.shape != (*values.shape, 4) or coords.dtype != torch.int32:
        return f"coords must be int32 [{values.shape[0]}, 4], got {coords.dtype} {tuple(coords.shape)}"
    return None if 0 <= clearance < 0.5 else f"clearance must be in [0, 0.5), got {clearance}"


def fake(values: Tensor, coords: Tensor, level: float, clearance: float) -> tuple[Tensor, Tensor, Tensor]:
    """Vertices and their edges; faces, whose number data decides too."""
    found, triangles = (torch.library.get_ctx().new_dynamic_size() for _ in range(2))
    faces = values.new_empty(triangles, 3, dtype=torch.int32)
    return values.new_empty(found, 3), faces, values.new_empty(found, 2, dtype=torch.int64)


def cost(call: Call) -> tuple[int, int]:
    """Samples are read once, sorted once, and looked up by the cells of their seven lower neighbours."""
    return 8 * call["values"].numel, call["values"].bytes + 3 * call["coords"].bytes


def _ball(counts: tuple[int, int, int], radius: float, thick: float) -> tuple[Tensor, Tensor]:
    """Samples [N, 4] within `thick` of a ball's surface, and their distances from it."""
    axes = torch.meshgrid(*(torch.arange(n) for n in counts), indexing="ij")
    centre = [(n - 1) / 2 + 0.13 for n in counts]
    distance = torch.stack([axis - c for axis, c in zip(axes, centre, strict=True)]).norm(dim=0) - radius
    kept = distance.abs() < thick
    coords = torch.nn.functional.pad(kept.nonzero(), (1, 0)).int()
    return distance[kept], coords


def example(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
    """A shell of samples around a small ball."""
    values, coords = _ball((7, 7, 7), 2.37, 1.9)
    return values.to(device, dtype), coords.to(device), 0.0, 0.01


def workload(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
    """A shell of 800 thousand samples around a ball, of 512 samples a side."""
    values, coords = _ball((256, 256, 256), 102.4, 2.0)
    return values.to(device, dtype), coords.to(device), 0.0, 0.01


def inputs(dtype: torch.dtype) -> SearchStrategy[tuple[Any, ...]]:
    """Noise on full and thinned grids, none and one sample, negative coordinates, two elements that overlap."""
    from hypothesis import strategies as st

    shapes = [(0, 0, 0), (1, 1, 1), (2, 2, 2), (3, 4, 5), (5, 5, 5), (2, 3, 43), (8, 8, 9)]

    @st.composite
    def draw_arguments(draw: Any) -> tuple[Any, ...]:
        shape = draw(st.sampled_from(shapes))
        batches = draw(st.sampled_from([1, 1, 3])) if max(shape) < 6 else 1
        share = draw(st.sampled_from([1.0, 0.95, 0.6]))
        generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
        coords = (torch.rand(batches, *shape, generator=generator) < share).nonzero()
        coords += torch.tensor([draw(st.sampled_from([0, 2])), *(draw(st.integers(-9, 3)) for _ in range(3))])
        if draw(st.booleans()):
            coords = coords[torch.randperm(len(coords), generator=generator)]
        values = torch.randn(len(coords), generator=generator)
        level = draw(st.sampled_from([0.0, 0.5]))
        return (values + level).to(dtype), coords.int(), level, draw(st.sampled_from([0.01, 0.0, 0.25]))

    return draw_arguments()


def _supports_cpu(call: Call) -> str | None:
    dtype = call["values"].dtype
    return on_cpu(call) if dtype == torch.float32 else f"values are {dtype}; it takes float32"


def _supports_triton(call: Call) -> str | None:
    return triton_support.refusal(call, rows=())


SPARSE_MARCHING_CUBES = Operation(
    name="sparse_marching_cubes",
    reference=reference,
    keeps=(2,),
    constants=("coords",),
    fake=fake,
    validate=validate,
    inputs=inputs,
    example=example,
    workload=workload,
    cost=cost,
    dtypes=(torch.float32,),
    laws=(laws.sparse_ignores_order, laws.sparse_moves, laws.sparse_batches),
    implementations=twins(__package__, _supports_triton, cpu=_supports_cpu, backward=True),
)


def build(config: NoSettings) -> Operation:
    """Triangle surface of sparse samples on a grid, differentiable in the samples."""
    return SPARSE_MARCHING_CUBES
