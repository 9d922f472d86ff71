"""A coloured surface, open or closed, as a flexible dual grid, and the way there from a mesh.

O-Voxel of Xiang et al., "Native and Compact Structured Latents for 3D Generation" (TRELLIS.2), 2025. No inside is
needed, so open surfaces stay open and hidden ones stay.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maquette.errors import MaquetteError
from maquette.types import Mesh
from maquette_kernels.ops import closest_on_mesh, dual_grid_encode, nearest_neighbours

WELD = 1e-6  # corners that are nearer than this are one vertex: a seam in the colours is no border of the surface
GRAY = 190 / 255
DIELECTRIC, ROUGH = 0.0, 1.0  # the material of what has none: glTF's factors, but not metallic


@dataclass(frozen=True, eq=False)
class VoxelSurface:
    """A surface in a grid over the unit cube.

    Attributes:
        voxels: int32 [N,3], the cells that the surface touches.
        points: float32 [N,3], a point of the surface in each, 0..1 along the voxel.
        edges: bool [N,3], whether the surface crosses the edge that leaves the voxel's low corner along x, y, z.
        signs: bool [N,3], whether it looks along the axis there.
        color: float32 [N,3], sRGB in [0,1].
        material: float32 [N,2], metallic and roughness in [0,1].
        resolution: cells along the cube.
    """

    voxels: Tensor
    points: Tensor
    edges: Tensor
    signs: Tensor
    color: Tensor
    material: Tensor
    resolution: int

    def __len__(self) -> int:
        return len(self.voxels)

    def mirrored(self) -> VoxelSurface:
        """Its mirror image, left to right, along x.

        The edges along y and z on the low side of a cell lie on the high side of its image, so they are those of the
        next cell; all four cells around a crossed edge are there, so that one is.
        """
        voxels = torch.cat([self.resolution - 1 - self.voxels[:, :1], self.voxels[:, 1:]], dim=1)
        points = torch.cat([1 - self.points[:, :1], self.points[:, 1:]], dim=1)
        beyond = _found(self.voxels - self.voxels.new_tensor([1, 0, 0]), self.voxels, self.resolution)
        edges, signs = self.edges.clone(), self.signs.clone()
        signs[:, 0] = ~self.signs[:, 0] & self.edges[:, 0]
        for flags, own in ((edges, self.edges), (signs, self.signs)):
            flags[:, 1:] = False
            flags[beyond[beyond >= 0], 1:] = own[beyond >= 0, 1:]
        order = _keys(voxels, self.resolution).argsort()
        parts = (part[order] for part in (voxels, points, edges, signs, self.color, self.material))
        return VoxelSurface(*parts, self.resolution)

    @property
    def places(self) -> Tensor:
        """The points in the unit cube, float32 [N,3]."""
        return placed(self.voxels, self.points, self.resolution)


@dataclass(frozen=True, eq=False)
class SurfacePaint:
    """Colours and materials at points of a surface: float32 [P,3] in the unit cube, [P,3] sRGB and [P,2] in [0,1]."""

    points: Tensor
    color: Tensor
    material: Tensor

    def at(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Colour [N,3] and material [N,2] of the nearest point to each place [N,3]."""
        _, nearest = nearest_neighbours(places, self.points)
        return self.color[nearest[:, 0]], self.material[nearest[:, 0]]


def encode_mesh(mesh: Mesh, resolution: int, paint: SurfacePaint | None = None) -> VoxelSurface:
    """The voxels of a mesh.

    Args:
        mesh: in the unit cube; what lies outside is left out.
        resolution: cells along the cube, 1 to 2048.
        paint: colours and materials; the mesh's own vertex colours (gray without any) on a rough dielectric if None.

    Raises:
        MaquetteError: nothing of the mesh is in the cube.
    """
    vertices, faces = welded(mesh)
    voxels, points, edges, signs = dual_grid_encode(vertices, faces, resolution)
    if not len(voxels):
        raise MaquetteError("a mesh to encode has no surface in the unit cube; scale and centre it first")
    points = points.float()
    places = placed(voxels, points, resolution)
    color, material = own_paint(mesh, places) if paint is None else paint.at(places)
    return VoxelSurface(voxels, points, edges, signs, color, material, resolution)


def placed(voxels: Tensor, points: Tensor, resolution: int) -> Tensor:
    """Points [N,3] in their voxels [N,3] as places in the unit cube."""
    return (voxels + points) / resolution - 0.5


def _keys(voxels: Tensor, resolution: int) -> Tensor:
    """A number for each voxel [N,3], rising in lexicographic order: int64 [N]."""
    side = resolution + 1
    wide = voxels.long() + 1  # also for those one step outside
    return (wide[:, 0] * (side + 1) + wide[:, 1]) * (side + 1) + wide[:, 2]


def _found(asked: Tensor, voxels: Tensor, resolution: int) -> Tensor:
    """Where voxels [M,3] are among sorted ones [N,3], int64 [M]; -1 where they are not."""
    keys, wanted = _keys(voxels, resolution), _keys(asked, resolution)
    place = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
    return torch.where(keys[place] == wanted, place, -1)


def welded(mesh: Mesh) -> tuple[Tensor, Tensor]:
    """Vertices float64 [V,3] and faces int64 [F,3] of a mesh, corners in one place being one vertex."""
    grid = np.rint(mesh.vertices.astype(np.float64) / WELD).astype(np.int64)
    _, first, inverse = np.unique(grid, axis=0, return_index=True, return_inverse=True)
    vertices = mesh.vertices[first].astype(np.float64)
    return torch.from_numpy(vertices), torch.from_numpy(inverse.reshape(-1)[mesh.faces].astype(np.int64))


def own_paint(mesh: Mesh, places: Tensor) -> tuple[Tensor, Tensor]:
    """Colour [N,3] and material [N,2] of the nearest points of a mesh with vertex colours, blended over its faces."""
    material = torch.tensor([DIELECTRIC, ROUGH]).expand(len(places), 2)
    if mesh.colors is None:
        return torch.full((len(places), 3), GRAY), material
    vertices, faces = torch.from_numpy(mesh.vertices.copy()), torch.from_numpy(mesh.faces.astype(np.int64))
    _, face, weights = closest_on_mesh(places, vertices, faces)
    corners = torch.from_numpy(mesh.colors[:, :3].astype(np.float32) / 255)[faces[face.long()]]
    return torch.einsum("nc,ncd->nd", weights, corners), material


def borders(faces: NDArray[np.int64]) -> int:
    """How many edges belong to one face alone, of faces [F,3] that share vertices; 0 where nothing is open."""
    edges = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    _, count = np.unique(edges, axis=0, return_counts=True)
    return int((count == 1).sum())
