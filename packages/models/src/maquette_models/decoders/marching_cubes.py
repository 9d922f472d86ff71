"""Distance grids to closed, outward-facing meshes with vertex colours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from maquette.errors import MaquetteError
from maquette.types import Mesh
from maquette_kernels.surface.functions import marching_cubes

CLEARANCE = 0.01  # least magnitude of a sample: a surface through a sample itself would give coinciding vertices
GRAY = 190


@dataclass
class MarchingCubesConfig:
    """Closed pieces with less than `min_component` of the largest piece's volume are left out; 0 keeps
    all."""

    min_component: float = 0.02

    def __post_init__(self) -> None:
        if not 0 <= self.min_component < 1:
            raise ValueError(f"'min_component' is {self.min_component}; it must be in [0, 1)")


class MarchingCubes:
    """Calls give the zero surface of a grid as a Mesh in the unit cube."""

    def __init__(self, config: MarchingCubesConfig) -> None:
        self.config = config

    def __call__(self, tsdf: Tensor | NDArray[np.float32], color: Tensor | NDArray[np.float32] | None = None) -> Mesh:
        """The surface of a grid, closed also where it reaches the border of the cube.

        Args:
            tsdf: [R,R,R] or [1,R,R,R], cell-centred, negative inside; clipped to [-1,1].
            color: RGB in [0,1], [3,S,S,S] at any resolution S, or None for gray.

        Raises:
            MaquetteError: the grid has no inside, or values that are not finite.
        """
        field = as_array(tsdf).reshape(tsdf.shape[-3:])
        vertices, faces = extract(field)
        if self.config.min_component > 0:
            vertices, faces = without_crumbs(vertices, faces, self.config.min_component)
        if color is None:
            colors = np.full((len(vertices), 4), (GRAY, GRAY, GRAY, 255), np.uint8)
        else:
            colors = colors_at(vertices, as_array(color))
        return Mesh(vertices.astype(np.float32), faces.astype(np.int32), colors)


def as_array(x: Tensor | NDArray[np.float32]) -> NDArray[np.float32]:
    """A float32 array of a tensor or an array."""
    return np.asarray(x.detach().float().cpu() if isinstance(x, torch.Tensor) else x, np.float32)


def extract(field: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Vertices [V,3] in the unit cube and faces [F,3], counter-clockwise from outside.

    Sample i of R lies at (i+0.5)/R-0.5. A border of outside samples closes the surface; since values are
    clipped to [-1,1] it never leaves the cube.
    """
    if not np.isfinite(field).all():
        raise MaquetteError("surface extraction: the distance grid has values that are NaN or infinite")
    if not (field < 0).any():
        raise MaquetteError(
            "surface extraction: the distance grid is empty (nothing is inside); try another seed or train longer"
        )
    padded = np.pad(np.clip(field, -1, 1), 1, constant_values=1.0)
    # In float32, which the compiled kernel takes.
    padded = np.where(np.abs(padded) < CLEARANCE, np.copysign(np.float32(CLEARANCE), padded), padded)
    vertices, faces = (found.numpy() for found in marching_cubes(torch.from_numpy(padded)))
    placed = (vertices.astype(np.float64) - 0.5) / np.array(field.shape) - 0.5
    return placed, faces.astype(np.int64)


def signed_volumes(vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> NDArray[np.float64]:
    """The volume that each face spans with the origin; over a closed, outward mesh they add up to its
    volume."""
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    return np.einsum("fi,fi->f", a, np.cross(b, c)) / 6


def without_crumbs(
    vertices: NDArray[np.float64], faces: NDArray[np.int64], share: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Keep the closed pieces, cavities included, whose volume is at least `share` of the largest one's."""
    count = len(vertices)
    links = coo_array((np.ones(len(faces) * 2), (faces[:, [0, 1]].ravel(), faces[:, [1, 2]].ravel())), (count, count))
    pieces, label = connected_components(links, directed=False)
    if pieces == 1:
        return vertices, faces
    volume = np.abs(np.bincount(label[faces[:, 0]], signed_volumes(vertices, faces), pieces))
    kept = volume >= share * volume.max()
    faces = faces[kept[label[faces[:, 0]]]]
    used = np.zeros(count, bool)
    used[faces] = True
    return vertices[used], (np.cumsum(used) - 1)[faces]


def colors_at(vertices: NDArray[np.float64], color: NDArray[np.float32]) -> NDArray[np.uint8]:
    """RGBA uint8 [V,4] by trilinear interpolation of a cell-centred grid [3,S,S,S]."""
    where = ((vertices + 0.5) * color.shape[-1] - 0.5).T
    rgb = np.stack([map_coordinates(channel, where, order=1, mode="nearest") for channel in color], axis=1)
    opaque = np.full((len(vertices), 1), 255, np.uint8)
    return np.concatenate([np.rint(np.clip(rgb, 0, 1) * 255).astype(np.uint8), opaque], axis=1)
