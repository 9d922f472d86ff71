"""What a mesh's materials are at points of its surface."""

# Compiled functions take all arguments by position.
# ruff: noqa: PLR0917
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from maquette.types import Material, Mesh
from maquette_data3d.finishing.selection import areas
from maquette_data3d.rendering.textures import LINEAR, decoded, level_of, texel_mix

ROLES = ("base_color", "metallic_roughness", "emissive", "normal")
_PLAIN = Material(roughness=0.6)
_BYTES = (np.arange(256) / 255).astype(np.float32)


@dataclass(frozen=True)
class Samples:
    """Of P points.

    Attributes:
        base_color: float64 [P, 4], linear light and opacity.
        metallic_roughness: float64 [P, 2].
        emissive: float64 [P, 3], linear light.
        normal: float64 [P, 3], in tangent space; (0, 0, 1) where there is no map.
        has_normals: some material has a normal map.
    """

    base_color: np.ndarray
    metallic_roughness: np.ndarray
    emissive: np.ndarray
    normal: np.ndarray
    has_normals: bool


def material_samples(mesh: Mesh, face: np.ndarray, weights: np.ndarray, texel: float) -> Samples:
    """Materials of a mesh at points of it; a face without one has its vertices' colours, or is white.

    Args:
        face: int [P]; weights: float [P, 3], barycentric.
        texel: side of what a point stands for, in the mesh's unit: finer texture is averaged.

    Raises:
        MaquetteError: an image cannot be read.
    """
    kinds = np.full(len(mesh.faces), -1) if mesh.material is None else mesh.material
    kinds = np.where(kinds < 0, len(mesh.materials), kinds)
    every = (*mesh.materials, _PLAIN)
    maps = [[m.textures.get(role, -1) if mesh.uv is not None else -1 for role in ROLES] for m in every]
    images, kind = np.array(maps, np.int64)[kinds], kinds[face]
    textures = decoded(mesh.images)
    uv = np.zeros((1, 3, 2)) if mesh.uv is None else mesh.uv.astype(np.float64)
    base = np.array([m.base_color for m in every])[kind]
    if mesh.colors is not None:
        plain = kind == len(mesh.materials)
        base[plain] = _vertex_colors(mesh, face[plain], weights[plain])
    found = np.ones((len(ROLES), len(face), 4))
    size = areas(mesh.vertices, mesh.faces) * 2 / texel**2
    for number, role in enumerate(ROLES):
        linear = LINEAR if role in ("base_color", "emissive") else _BYTES
        if (images[:, number] >= 0).any():
            _look_up(
                textures.texels, textures.levels, images[:, number], uv, size, face, weights, linear, found[number]
            )
    rough = np.array([(m.metallic, m.roughness) for m in every])[kind]
    bumpy = images[face, 3] >= 0
    return Samples(
        base_color=base * found[0],
        metallic_roughness=rough * found[1][:, [2, 1]],
        emissive=np.array([m.emissive for m in every])[kind] * found[2][:, :3],
        normal=np.where(bumpy[:, None], found[3][:, :3] * 2 - 1, (0.0, 0.0, 1.0)),
        has_normals=bool(bumpy.any()),
    )


def _vertex_colors(mesh: Mesh, face: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Linear light and opacity [P, 4] of vertex colours, mixed as they are stored."""
    assert mesh.colors is not None
    mixed = np.einsum("pk,pkc->pc", weights, mesh.colors[mesh.faces[face]].astype(np.float64)) / 255
    rgb = mixed[:, :3]
    mixed[:, :3] = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return mixed


@njit(cache=True)
def _look_up(texels, levels, image, uv, size, face, weights, linear, out):
    """RGBA of each point's image into ``out`` float64 [P, 4]; points without one are left.

    Args:
        size: float64 [F], twice the area of each face in what a point stands for.
    """
    for p in range(len(face)):
        f = face[p]
        if image[f] < 0:
            continue
        a, b, c = weights[p, 0], weights[p, 1], weights[p, 2]
        u = a * uv[f, 0, 0] + b * uv[f, 1, 0] + c * uv[f, 2, 0]
        v = a * uv[f, 0, 1] + b * uv[f, 1, 1] + c * uv[f, 2, 1]
        twice = (uv[f, 1, 0] - uv[f, 0, 0]) * (uv[f, 2, 1] - uv[f, 0, 1])
        twice -= (uv[f, 1, 1] - uv[f, 0, 1]) * (uv[f, 2, 0] - uv[f, 0, 0])
        level = level_of(levels, image[f], twice, size[f])
        out[p, 0], out[p, 1], out[p, 2], out[p, 3] = texel_mix(texels, levels, image[f], level, u, v, linear)
