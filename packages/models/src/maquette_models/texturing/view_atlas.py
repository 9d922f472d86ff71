"""The texels of a mesh's atlas as points of its surface, and a mesh painted by them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from maquette.errors import MaquetteError, unknown_name
from maquette.finishing import finish
from maquette.types import Asset, Material, Mesh
from maquette_kernels.raster.atlas import dilate, texel_surface
from maquette_models.texturing.view_attributes import encoded, to_bytes
from maquette_models.texturing.view_projection import SurfacePoints

KEEP = ("auto", "always", "never", True, False)
SLACK = 1e-4
"""How far texture coordinates may pass the unit square, in its sides: what rounding leaves."""


@dataclass(frozen=True)
class Atlas:
    """The P texels of a square texture that lie on a surface.

    Attributes:
        covered: bool [S,S], which they are, row by row.
        face: int64 [P], and share: float32 [P,3], weights of its corners.
        points: where they are.
    """

    covered: Tensor
    face: Tensor
    share: Tensor
    points: SurfacePoints


def with_uv(mesh: Mesh, keep: str | bool) -> Mesh:
    """The mesh with texture coordinates in the unit square: its own, or else unwrapped.

    Args:
        keep: its own: "auto", where they lie in the unit square; "always" or true; "never" or false.

    Raises:
        MaquetteError: its own are to be kept and leave the unit square, or it cannot be unwrapped.
    """
    if keep not in KEEP:
        raise unknown_name("keep_uv", str(keep), [word for word in KEEP if isinstance(word, str)])
    fits = mesh.uv is not None and mesh.uv.min(initial=0) >= -SLACK and mesh.uv.max(initial=0) <= 1 + SLACK
    if mesh.uv is None or keep in ("never", False) or (keep == "auto" and not fits):
        return finish(Asset(mesh), ["unwrap"]).mesh
    if not fits:
        raise MaquetteError(
            "the mesh's texture coordinates leave the unit square, so that places of its surface share texels; lay its "
            "texture out anew with keep_uv=never"
        )
    return mesh


def atlas_of(mesh: Mesh, normals: Tensor, size: int) -> Atlas:
    """The atlas of a mesh with texture coordinates, `size` texels a side.

    Args:
        normals: of the faces' corners [F,3,3].

    Raises:
        MaquetteError: no texel lies on the surface.
    """
    if mesh.uv is None:
        raise MaquetteError("the mesh has no texture coordinates; unwrap it first")
    face, share = texel_surface(torch.from_numpy(mesh.uv), size)
    covered = face >= 0
    if not bool(covered.any()):
        raise MaquetteError("no texel lies on the mesh; its texture coordinates have no area in the unit square")
    return Atlas(covered, face[covered].long(), share[covered], points_on(mesh, normals, face[covered], share[covered]))


def points_on(mesh: Mesh, normals: Tensor, face: Tensor, share: Tensor) -> SurfacePoints:
    """Points of faces [P], by weights of their corners [P,3]."""
    corners = torch.from_numpy(mesh.vertices[mesh.faces])[face.long()]
    positions = torch.einsum("pc,pci->pi", share, corners)
    smooth = F.normalize(torch.einsum("pc,pci->pi", share, normals[face.long()]), dim=1)
    both = torch.zeros(len(mesh.faces), dtype=torch.bool)
    if mesh.material is not None:
        sides = np.array([*(material.double_sided for material in mesh.materials), False])
        both = torch.from_numpy(sides[mesh.material])
    return SurfacePoints(positions, smooth, both[face.long()])


def painted(mesh: Mesh, atlas: Atlas, values: Tensor, name: str = "painted") -> Mesh:
    """The mesh with one material whose images show base colour, metallic and roughness [P,5] of the atlas's texels.

    What no chart covers is filled from the nearest texel. Vertex colours, for those who do not look at materials, are
    those of texels at the vertices.
    """
    image = torch.zeros(*atlas.covered.shape, values.shape[1])
    image[atlas.covered] = values
    whole = dilate(image, atlas.covered).double().numpy()
    look = np.zeros((*atlas.covered.shape, 3))
    look[..., 1], look[..., 2] = whole[..., 4], whole[..., 3]  # glTF: roughness is green, metallic blue
    sides = any(material.double_sided for material in mesh.materials)
    textures = {"base_color": 0, "metallic_roughness": 1}
    material = Material(name, metallic=1.0, roughness=1.0, double_sided=sides, textures=textures)
    return replace(
        mesh,
        colors=vertex_colors(mesh, atlas, values),
        material=np.zeros(len(mesh.faces), np.int32),
        materials=(material,),
        images=(encoded(to_bytes(whole[..., :3])), encoded(to_bytes(look))),
    )


def vertex_colors(mesh: Mesh, atlas: Atlas, values: Tensor) -> np.ndarray:
    """uint8 [V,4]: the mean base colour of texels by how near their face's corner is; grey where no texel is."""
    vertex = mesh.faces.astype(np.int64)[atlas.face.numpy()]
    share = atlas.share.numpy().astype(np.float64) ** 4 + 1e-12
    total, weight = np.zeros((len(mesh.vertices), 3)), np.zeros(len(mesh.vertices))
    for corner in range(3):
        np.add.at(total, vertex[:, corner], share[:, corner, None] * values[:, :3].numpy())
        np.add.at(weight, vertex[:, corner], share[:, corner])
    mean = np.where(weight[:, None] > 0, total / np.maximum(weight, 1e-30)[:, None], 0.62)
    return np.concatenate([to_bytes(mean), np.full((len(mean), 1), 255, np.uint8)], axis=1)
