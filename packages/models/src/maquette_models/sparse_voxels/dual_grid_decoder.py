"""Voxel surfaces to meshes with vertex colours, open where the surface is open."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from maquette.errors import MaquetteError
from maquette.types import Mesh
from maquette_kernels.ops import dual_grid_decode
from maquette_models.sparse_voxels.voxel_surface import VoxelSurface


@dataclass
class DualGridConfig:
    """Nothing to set: the surface says all."""


class DualGrid:
    """Calls give the quads of a voxel surface's crossed edges, two triangles each, as a Mesh in the unit cube."""

    def __init__(self, config: DualGridConfig) -> None:
        self.config = config

    def __call__(self, surface: VoxelSurface) -> Mesh:
        """The mesh of a surface; crossed edges that lack one of their four voxels give nothing.

        Raises:
            MaquetteError: no edge has all of its four voxels, or values that are not finite.
        """
        vertices, faces, sources = dual_grid_decode(
            surface.voxels, surface.points.float(), surface.edges, surface.signs, resolution=surface.resolution
        )
        if not len(faces):
            raise MaquetteError("surface extraction: the voxels hold no surface; try another seed or train longer")
        rgb = (surface.color.float().clamp(0, 1) * 255).round().to(torch.uint8)[sources.long()]
        opaque = np.full((len(rgb), 1), 255, np.uint8)
        colors = np.concatenate([rgb.cpu().numpy(), opaque], axis=1)
        return Mesh(vertices.cpu().numpy(), faces.cpu().numpy(), colors)

    def mesh_or_none(self, surface: VoxelSurface) -> Mesh | None:
        """The mesh of a surface, None where there is none."""
        try:
            return self(surface)
        except MaquetteError:
            return None
