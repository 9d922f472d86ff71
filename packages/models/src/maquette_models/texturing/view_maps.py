"""What cameras see of a mesh, by the kernels' rasteriser: faces, depths, positions and normals."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maquette.types import Mesh
from maquette_kernels.ops import rasterise
from maquette_models.texturing.view_cameras import ViewCameras

CREASE = math.cos(math.radians(40))
_WELD = 1e-6  # corners nearer than that share their normal


@dataclass(frozen=True)
class ViewMaps:
    """V pictures of S x S pixels; zero where nothing is seen.

    Attributes:
        face: int32 [V,S,S], -1 where nothing is seen.
        barycentric: float32 [V,S,S,3], weights of the face's corners.
        depth: float32 [V,S,S] along the view, inf where nothing is seen.
        position, normal: float32 [V,3,S,S]; normals are smooth, on the camera's side of the face.
    """

    face: Tensor
    barycentric: Tensor
    depth: Tensor
    position: Tensor
    normal: Tensor

    @property
    def covered(self) -> Tensor:
        """Which pixels see the mesh, bool [V,S,S]."""
        return self.face >= 0


def view_maps(mesh: Mesh, normals: Tensor, cameras: ViewCameras, size: int) -> ViewMaps:
    """The maps of a mesh.

    Args:
        normals: of the faces' corners, as `corner_normals` gives them.
        cameras: where from.
        size: S.
    """
    vertices, faces = torch.from_numpy(mesh.vertices), torch.from_numpy(mesh.faces)
    face, weights, _ = rasterise(cameras.clip(vertices).contiguous(), faces, size, size)
    seen = face >= 0
    number, share = face[seen].long(), weights[seen]
    position, normal = (face.new_zeros(*face.shape, 3, dtype=torch.float32) for _ in range(2))
    corners = vertices[faces.long()][number]
    position[seen] = torch.einsum("pc,pci->pi", share, corners)
    smooth = torch.einsum("pc,pci->pi", share, normals[number])
    toward = cameras.eyes()[:, None, None].expand_as(position)[seen] - position[seen]
    flat = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    smooth = torch.where((flat * toward).sum(dim=1, keepdim=True) < 0, -smooth, smooth)
    normal[seen] = smooth / smooth.norm(dim=1, keepdim=True).clamp(min=1e-12)
    depth = torch.full(face.shape, math.inf)
    along = cameras.matrices[:, None, None, 2].expand(*face.shape, 4)[seen]
    depth[seen] = (along[:, :3] * position[seen]).sum(dim=1) + along[:, 3]
    return ViewMaps(face, weights, depth, position.movedim(-1, 1), normal.movedim(-1, 1))


def corner_normals(mesh: Mesh) -> Tensor:
    """Normals float32 [F,3,3] of the faces' corners: those of their vertices where the face bends off them by less than
    40 degrees, else the face's own; vertices at one place are one."""
    corners = mesh.vertices.astype(np.float64)[mesh.faces]
    scaled = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    place = welded(mesh.vertices)[mesh.faces]
    sums = np.zeros((int(place.max(initial=-1)) + 1, 3))
    for corner in range(3):
        np.add.at(sums, place[:, corner], scaled)
    smooth, flat = _unit(sums)[place], _unit(scaled)[:, None]
    bent = (smooth * flat).sum(axis=-1, keepdims=True) < CREASE
    return torch.from_numpy(np.where(bent, flat, smooth).astype(np.float32))


def welded(vertices: NDArray[np.float32]) -> NDArray[np.int64]:
    """For each vertex the number of its place, vertices at one place being one, [V]."""
    _, place = np.unique(np.round(vertices.astype(np.float64) / _WELD).astype(np.int64), axis=0, return_inverse=True)
    return place.reshape(-1).astype(np.int64)


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-30)
