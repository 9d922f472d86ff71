"""Surfaces of fields as plain functions."""

from __future__ import annotations

import torch
from torch import Tensor

from maquette_kernels.surface.edges import edge_weights, interpolate_on_edges
from maquette_kernels.surface.marching_cubes import MARCHING_CUBES
from maquette_kernels.surface.octree import OctreeOptions, octree_decode
from maquette_kernels.surface.sparse_marching_cubes import SPARSE_MARCHING_CUBES

__all__ = [
    "OctreeOptions",
    "edge_weights",
    "interpolate_on_edges",
    "marching_cubes",
    "marching_cubes_with_edges",
    "octree_decode",
    "sparse_marching_cubes",
]

CLEARANCE = 0.01


def marching_cubes(grid: Tensor, level: float = 0.0, *, clearance: float = CLEARANCE) -> tuple[Tensor, Tensor]:
    """The surface where a grid of samples crosses a level: closed except at the border, facing outwards.

    A sample is inside where it is below the level; one exactly at the level, or NaN, is outside. Each grid edge
    between an inside and an outside sample has one vertex, on the straight line between the two values. The
    tables of cases keep surfaces closed for any values; pad the grid by one outside sample to close them at the
    border too.

    Args:
        grid: [X, Y, Z], float32 or float64; narrower dtypes are widened to float32, in which vertices come too.
        level: the value on the surface.
        clearance: least distance, in voxels, of a vertex from the samples at the ends of its edge; in [0, 0.5).
            With 0 a sample at the level gives several vertices in one place and triangles without area. Where
            the clearance is kept the gradient is 0.

    Returns:
        vertices [V, 3] in voxels (sample [x, y, z] lies at (x, y, z)), in order of the sample that their edge
        leaves and then of its axis, differentiable in the grid; faces int32 [F, 3], in order of their cells.

    Raises:
        MaquetteError: shapes or dtypes that do not fit, or a clearance out of range.

    Source: Lorensen and Cline 1987, doi:10.1145/37402.37422.
    """
    return marching_cubes_with_edges(grid, level, clearance=clearance)[:2]


def marching_cubes_with_edges(
    grid: Tensor, level: float = 0.0, *, clearance: float = CLEARANCE
) -> tuple[Tensor, Tensor, Tensor]:
    """As :func:`marching_cubes`, and the edge that each vertex lies on.

    Returns:
        vertices, faces, and edges int64 [V, 2]: numbers of two samples of ``grid.flatten()``, the lower first.
        Attributes of samples come to vertices by :func:`interpolate_on_edges`.
    """
    return MARCHING_CUBES(_wide(grid), level, clearance)  # type: ignore[no-any-return]


def sparse_marching_cubes(
    values: Tensor, coords: Tensor, level: float = 0.0, *, clearance: float = CLEARANCE
) -> tuple[Tensor, Tensor, Tensor]:
    """The surface within those cells of a grid that have all eight samples.

    Where every cell that the surface passes through is there, vertices and faces are those of
    :func:`marching_cubes` on the dense grid, bit for bit and in the same order; batch elements follow one
    another.

    Args:
        values: samples [N], dtypes as there.
        coords: int32 [N, 3], or [N, 4] with the batch element first, in any order, none twice; coordinates
            in [-32768, 32768], batch elements in [0, 4096). The CPU path checks both.
        level: the value on the surface; samples below it are inside.
        clearance: as there.

    Returns:
        vertices [V, 3] in voxels (sample (x, y, z) lies there), differentiable in the values; faces int32 [F, 3];
        edges int64 [V, 2], numbers of the two samples that a vertex lies between. A vertex belongs to the batch
        element ``coords[edges[:, 0], 0]``.

    Raises:
        MaquetteError: shapes or dtypes that do not fit, or a clearance out of range.
    """
    if coords.dim() == 2 and coords.shape[1] == 3:
        coords = torch.nn.functional.pad(coords, (1, 0))
    return SPARSE_MARCHING_CUBES(_wide(values), coords, level, clearance)  # type: ignore[no-any-return]


def _wide(samples: Tensor) -> Tensor:
    return samples.float() if samples.dtype in {torch.bfloat16, torch.float16} else samples
