"""Paint laid out in textures: which texel shows which point of a mesh, and the images and material that come of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from maquette.types import Material, Mesh
from maquette_kernels.raster.atlas import dilate, texel_surface
from maquette_models.texturing.view_attributes import encoded, to_bytes

Paint = Callable[[Tensor, Tensor], Tensor]
"""paint(places [Q,3], normals [Q,3]) -> [Q,6] in [0,1], see `painted_points.CHANNELS`."""
KEPT_TEXTURES = ("normal", "occlusion")
OPAQUE = 0.9  # what a model gives for opaque surfaces is a little less than 1
NEAR = 0.02  # of the unit cube's side: a texel shows a point when it is of a place as near
FINE = 512  # texels a side at which coordinates are tried, so that it is not the size that decides
SHOWN = 0.95  # of the surface, which coordinates must show for paint to go by them


@dataclass(frozen=True, eq=False)
class Layout:
    """The texels of one texture: float32 weights [S,S,3] of the corners of mesh faces int64 [S,S], -1 where there is
    none; and int64 [F], the faces that it is of."""

    own: NDArray[np.int64]
    face: Tensor
    weights: Tensor

    @property
    def covered(self) -> Tensor:
        """bool [S,S]."""
        return self.face >= 0


def layouts(mesh: Mesh, size: int) -> list[Layout]:
    """A texture for the faces of each of a mesh's materials, by its texture coordinates."""
    material = np.zeros(len(mesh.faces), np.int32) if mesh.material is None else mesh.material
    found = []
    for place in np.unique(material):
        own = np.flatnonzero(material == place)
        face, weights = texel_surface(torch.from_numpy(mesh.uv[own]), size)
        numbers = torch.from_numpy(own)[face.long().clamp(min=0)]
        found.append(Layout(own, torch.where(face >= 0, numbers, -1), weights))
    return found


def share_shown(mesh: Mesh, picked: tuple[NDArray[np.int64], NDArray[np.float64]]) -> tuple[float, str]:
    """How much of the surface texels of its own can show, in [0,1], and in words why not all of it.

    Args:
        mesh: in the unit cube, with texture coordinates.
        picked: points, even by area: their faces [P] and weights of the corners [P,3].
    """
    faces, weights = picked
    uv = np.einsum("pc,pci->pi", weights, mesh.uv[faces].astype(np.float64))
    inside = ((uv >= 0) & (uv <= 1)).all(axis=1)
    corners = torch.from_numpy(mesh.vertices[mesh.faces])
    asked = torch.einsum("pc,pci->pi", torch.from_numpy(weights).float(), corners[faces])
    shown = np.zeros(len(faces), bool)
    for part in layouts(mesh, FINE):
        mine = inside & np.isin(faces, part.own)
        column, row = np.minimum((uv[mine] * FINE).astype(np.int64), FINE - 1).T
        face, share = part.face[row, column], part.weights[row, column]
        found = torch.einsum("pc,pci->pi", share, corners[face.clamp(min=0)])
        near = (found - asked[mine]).norm(dim=1) < NEAR
        shown[mine] = (near & (face >= 0)).numpy()
    if inside.mean() < SHOWN:
        return float(shown.mean()), "its texture coordinates leave the unit square"
    return float(shown.mean()), "faces share texels"


def corner_normals(mesh: Mesh) -> Tensor:
    """Unit normals of faces, float32 [F,3]."""
    corners = torch.from_numpy(mesh.vertices[mesh.faces])
    return F.normalize(torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), dim=1)


def baked(mesh: Mesh, cube: Mesh, parts: Sequence[Layout], paint: Paint) -> Mesh:
    """A mesh with a material and two images for each of its textures; its normal and occlusion maps stay.

    Args:
        mesh: what is to be painted, whatever its size and place.
        cube: the same in the unit cube.
        parts: see `layouts`.
        paint: of the surface.
    """
    corners, normals = torch.from_numpy(cube.vertices[cube.faces]), corner_normals(cube)
    material = np.zeros(len(mesh.faces), np.int32)
    materials: list[Material] = []
    images: list[bytes] = []
    for part in parts:
        face, weights = part.face[part.covered], part.weights[part.covered]
        values = paint(torch.einsum("pc,pci->pi", weights, corners[face]), normals[face])
        old = _material_of(mesh, part)
        textures = {}
        for role in KEPT_TEXTURES:
            if old is not None and role in old.textures:
                textures[role] = len(images)
                images.append(mesh.images[old.textures[role]])
        pictures, opaque = pictures_of(values, part.covered)
        textures |= {"base_color": len(images), "metallic_roughness": len(images) + 1}
        images += pictures
        material[part.own] = len(materials)
        materials.append(
            Material(
                name="painted" if old is None or not old.name else old.name,
                metallic=1.0,
                roughness=1.0,
                alpha_mode="opaque" if opaque else "blend",
                double_sided=old is not None and old.double_sided,
                textures=textures,
            )
        )
    return replace(
        mesh,
        colors=vertex_colors(cube, normals, paint),
        material=material,
        materials=tuple(materials),
        images=tuple(images),
    )


def pictures_of(values: Tensor, covered: Tensor) -> tuple[list[bytes], bool]:
    """PNG files of base colour with alpha and of roughness (green) and metallic (blue), from paint [P,6] at the covered
    texels, bool [S,S]; and whether all is opaque. Texels that nothing covers are as the nearest that something does."""
    image = torch.zeros(*covered.shape, values.shape[1])
    image[covered] = values
    whole = dilate(image, covered).double().numpy()
    opaque = bool((values[:, 5] >= OPAQUE).all())
    alpha = np.ones_like(whole[..., 5:]) if opaque else whole[..., 5:]
    material = np.concatenate([np.zeros_like(alpha), whole[..., 4:5], whole[..., 3:4]], axis=-1)
    color = whole[..., :3] if opaque else np.concatenate([whole[..., :3], alpha], axis=-1)
    return [encoded(to_bytes(color)), encoded(to_bytes(material))], opaque


def vertex_colors(cube: Mesh, normals: Tensor, paint: Paint) -> NDArray[np.uint8]:
    """sRGB and alpha uint8 [V,4], for those who do not look at materials."""
    index = torch.from_numpy(cube.faces.astype(np.int64)).flatten()
    sums = torch.zeros(len(cube.vertices), 3).index_add(0, index, normals.repeat_interleave(3, dim=0))
    color = paint(torch.from_numpy(cube.vertices), F.normalize(sums, dim=1))[:, [0, 1, 2, 5]].numpy()
    color[:, 3] = np.where(color[:, 3] >= OPAQUE, 1, color[:, 3])
    return to_bytes(color)


def _material_of(mesh: Mesh, part: Layout) -> Material | None:
    place = -1 if mesh.material is None else int(mesh.material[part.own[0]])
    return mesh.materials[place] if place >= 0 else None
