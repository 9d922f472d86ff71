"""Maps of one mesh's surface, read off another's: the nearest point of it, texel by texel."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

import numpy as np

from maquette.errors import MaquetteError
from maquette.types import Material, Mesh
from maquette_data3d.exporting.shading_normals import corner_normals
from maquette_data3d.finishing.material_samples import Samples, material_samples
from maquette_data3d.finishing.occlusion import openness
from maquette_data3d.finishing.selection import areas
from maquette_data3d.finishing.tangents import corner_tangents, frames
from maquette_data3d.finishing.transfer import nearest

CREASE = 40.0  # as the exporters shade
_FLAT = 1.5 / 255  # a normal map that nowhere leaves blue by more says nothing


@dataclass(frozen=True)
class Texels:
    """The covered texels of an atlas.

    Attributes:
        covered: bool [H, W].
        face, weights: int [P] and float64 [P, 3], where on the target each lies, row by row.
        points: float64 [P, 3]; normals: float64 [P, 3], unit, as it is shaded.
        at, at_weights: the nearest place of the source, int [P] and float64 [P, 3].
        distance: float32 [P], to it.
    """

    covered: np.ndarray
    face: np.ndarray
    weights: np.ndarray
    points: np.ndarray
    normals: np.ndarray
    at: np.ndarray
    at_weights: np.ndarray
    distance: np.ndarray


def texels_of(target: Mesh, source: Mesh, resolution: int) -> Texels:
    """Where each texel of the target's atlas lies on both meshes.

    Raises:
        MaquetteError: the target has no texture coordinates, or none in the unit square.
    """
    import torch

    from maquette_kernels.raster.atlas import texel_surface

    if target.uv is None:
        raise MaquetteError("the mesh has no texture coordinates to bake into: run the step 'unwrap' before")
    face, weights = (found.numpy() for found in texel_surface(torch.from_numpy(np.array(target.uv)), resolution))
    covered = face >= 0
    if not covered.any():
        raise MaquetteError("no texture coordinate lies in the unit square: run the step 'unwrap' before")
    face, weights = face[covered], weights[covered].astype(np.float64)
    points = np.einsum("pk,pkc->pc", weights, target.vertices[target.faces[face]].astype(np.float64))
    shading = corner_normals(target, CREASE)
    assert shading is not None
    normals = np.einsum("pk,pkc->pc", weights, shading[face].astype(np.float64))
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    found = nearest(source, _inset(target, face, points))
    return Texels(covered, face, weights, points, normals, found.face, found.weights.astype(np.float64), found.distance)


def bake(
    target: Mesh, source: Mesh, resolution: int, *, normal: bool = True, occlusion: int = 0
) -> tuple[Mesh, Texels]:
    """The target with one material whose textures show what the source is made of.

    Args:
        target: with ``uv`` in the unit square, without overlaps.
        source: in the same place.
        resolution: side of the textures.
        normal: with a normal map where the source's shading differs.
        occlusion: directions that are looked from for the map of occlusion; 0 for none.

    Raises:
        MaquetteError: no texture coordinates, or an image that cannot be read.
    """
    texels = texels_of(target, source, resolution)
    samples = material_samples(source, texels.at, texels.at_weights, _texel_side(target, len(texels.face)))
    opaque = bool((samples.base_color[:, 3] > 0.999).all())
    images = [_picture(texels.covered, _srgb(samples.base_color[:, : 3 if opaque else 4]))]
    textures = {"base_color": 0, "metallic_roughness": 1}
    shade = openness(source, texels.points, texels.normals, occlusion) if occlusion else np.ones(len(texels.face))
    data = np.concatenate([shade[:, None], samples.metallic_roughness[:, ::-1]], 1)  # red, green, blue
    images.append(_picture(texels.covered, data))
    if occlusion:
        textures["occlusion"] = 1
    if samples.emissive.any():
        textures["emissive"] = len(images)
        images.append(_picture(texels.covered, _srgb(samples.emissive.clip(0, 1))))
    map_of_normals = _tangent_normals(target, source, texels, samples) if normal else None
    if map_of_normals is not None:
        textures["normal"] = len(images)
        images.append(_picture(texels.covered, map_of_normals / 2 + 0.5))
    material = _material(source, textures, opaque)
    places = np.zeros(len(target.faces), np.int32)
    return replace(target, material=places, materials=(material,), images=tuple(images), colors=None), texels


def _material(source: Mesh, textures: dict[str, int], opaque: bool) -> Material:
    """The one material that shows the textures as they are."""
    return Material(
        name="baked",
        metallic=1.0,
        emissive=(1.0, 1.0, 1.0) if "emissive" in textures else (0.0, 0.0, 0.0),
        alpha_mode="opaque" if opaque else _alpha_mode(source),
        double_sided=any(m.double_sided for m in source.materials),
        textures=textures,
    )


def _texel_side(mesh: Mesh, texels: int) -> float:
    """How far texels lie from each other on the surface, about."""
    return max(float(np.sqrt(areas(mesh.vertices, mesh.faces).sum() / texels)), 1e-30)


def _inset(target: Mesh, face: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The points [P, 3] of faces moved a quarter of a texel inwards: on an edge, two faces are equally near."""
    inwards = target.vertices[target.faces[face]].mean(1, dtype=np.float64) - points
    length = np.maximum(np.linalg.norm(inwards, axis=1, keepdims=True), 1e-30)
    return points + inwards / length * np.minimum(0.25 * _texel_side(target, len(face)), 0.1 * length)


def _tangent_normals(target: Mesh, source: Mesh, texels: Texels, samples: Samples) -> np.ndarray | None:
    """The source's shading normals in the target's tangent space, unit [P, 3]; None where they are the target's."""
    shading, own = corner_normals(source, CREASE), corner_normals(target, CREASE)
    assert shading is not None and own is not None and target.uv is not None
    wanted = np.einsum("pk,pkc->pc", texels.at_weights, shading[texels.at].astype(np.float64))
    if samples.has_normals and source.uv is not None:
        theirs = corner_tangents(source.vertices, source.faces, source.uv, shading)
        axes = frames(theirs[texels.at], shading[texels.at].astype(np.float64), texels.at_weights)
        wanted = np.einsum("pij,pj->pi", axes, samples.normal)
    mine = corner_tangents(target.vertices, target.faces, target.uv, own)
    axes = frames(mine[texels.face], own[texels.face].astype(np.float64), texels.weights)
    wanted /= np.maximum(np.linalg.norm(wanted, axis=1, keepdims=True), 1e-12)
    local = np.linalg.pinv(axes, rcond=1e-4) @ wanted[..., None]
    local = local[..., 0]
    local[:, 2] = np.maximum(local[:, 2], 0.02)  # a tangent-space map cannot look behind the surface
    local /= np.maximum(np.linalg.norm(local, axis=1, keepdims=True), 1e-12)
    return local if (np.abs(local[:, :2]) > 2 * _FLAT).mean() > 1e-3 else None


def _picture(covered: np.ndarray, values: np.ndarray) -> bytes:
    """A PNG file of values [P, C] in [0, 1] at the covered texels, gutters filled."""
    import torch
    from PIL import Image

    from maquette_kernels.raster.atlas import dilate

    whole = np.zeros((*covered.shape, values.shape[1]), np.uint8)
    whole[covered] = np.round(values.clip(0, 1) * 255).astype(np.uint8)
    filled = dilate(torch.from_numpy(whole), torch.from_numpy(covered)).numpy()
    file = io.BytesIO()
    Image.fromarray(filled).save(file, "PNG", compress_level=6)
    return file.getvalue()


def _srgb(linear: np.ndarray) -> np.ndarray:
    """Linear light [P, 3 or 4] in [0, 1] as sRGB; opacity stays."""
    out = linear.copy()
    rgb = linear[:, :3].clip(0, 1)
    out[:, :3] = np.where(rgb <= 0.0031308, rgb * 12.92, 1.055 * rgb ** (1 / 2.4) - 0.055)
    return out


def _alpha_mode(mesh: Mesh) -> str:
    """What the source's transparent materials ask for."""
    modes = {material.alpha_mode for material in mesh.materials}
    return "blend" if "blend" in modes or modes <= {"opaque"} else "mask"
