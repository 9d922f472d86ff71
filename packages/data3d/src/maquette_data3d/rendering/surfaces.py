"""Triangles with everything that their picture needs: colours or images, metallic and roughness, smooth normals."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from maquette.types import Mesh
from maquette_data3d.ingest.colors import to_srgb
from maquette_data3d.rendering import raster
from maquette_data3d.rendering.textures import Textures, decoded

if TYPE_CHECKING:
    from maquette.types import Material
    from maquette_data3d.geometry.repair import CleanMesh
    from maquette_data3d.ingest.scene import Scene

_GREY = 158
_CREASE = 40.0
_SEEN = ("base_color", "metallic_roughness", "emissive")
_DIELECTRIC = (1.0, 1.0, 1.0, 0.0, 0.6, 0.0, 0.0, 0.0)


class Look(NamedTuple):
    """What compiled code reads a surface's colours from.

    Attributes:
        corner_colors: uint8 [F, 3, 3] sRGB; uv: float32 [F, 3, 2]; material: int32 [F], a row of the tables.
        factors: float64 [M, 8]: base colour, metallic, roughness, emission; images: int32 [M, 3]: place of the
            base colour's, the metallic-roughness' and the emission's image, -1 without.
        cut: bool [M], nothing is there where the image's alpha is below one half.
        textures: the images.
    """

    corner_colors: np.ndarray
    uv: np.ndarray
    material: np.ndarray
    factors: np.ndarray
    images: np.ndarray
    cut: np.ndarray
    textures: Textures

    def plain(self) -> tuple[Any, ...]:
        """The same as nested plain tuples: numba's cache on disk would name our classes, and fail when they move."""
        return (*self[:-1], tuple(self.textures))


@dataclass(frozen=True, eq=False)
class Surface:
    """A surface to be seen.

    Attributes:
        vertices: float64 [V, 3] in the unit cube; faces: int32 [F, 3].
        corner_colors: uint8 [F, 3, 3] sRGB, seen where no image is.
        uv: float32 [F, 3, 2], (0, 0) is the upper left of an image, None without images.
        material: int32 [F] place in `materials`, -1 for a plain dielectric, None where every face is.
        materials: as `maquette.types.Material`.
        images: encoded PNG, JPEG or WebP files that the materials speak of; decoded when they are first seen.

    A material without an image for its base colour shows the corner colours: they hold its factor already.
    """

    vertices: np.ndarray
    faces: np.ndarray
    corner_colors: np.ndarray
    uv: np.ndarray | None = None
    material: np.ndarray | None = None
    materials: tuple[Material, ...] = ()
    images: tuple[bytes, ...] = ()

    @classmethod
    def of_mesh(cls, mesh: Mesh) -> Surface:
        """A mesh with its materials and images, elsewhere its vertex colours, grey where it has none."""
        faces = np.ascontiguousarray(mesh.faces, np.int32)
        colors = np.full((len(faces), 3, 3), _GREY, np.uint8)
        if mesh.colors is not None:
            colors = np.ascontiguousarray(mesh.colors[:, :3][faces], np.uint8)
        vertices = np.ascontiguousarray(mesh.vertices, np.float64)
        if mesh.material is None or not mesh.materials:
            return cls(vertices, faces, colors)
        factors = to_srgb(np.array([material.base_color[:3] for material in mesh.materials]))
        colors = np.where((mesh.material >= 0)[:, None, None], factors[mesh.material][:, None], colors)
        uv = None if mesh.uv is None else np.ascontiguousarray(mesh.uv)
        return cls(vertices, faces, colors, uv, mesh.material, mesh.materials, mesh.images if uv is not None else ())

    @classmethod
    def of_scene(cls, clean: CleanMesh, scene: Scene) -> Surface:
        """A repaired mesh with the materials and images of the file that it came from."""
        used = _used_images(scene)
        uv = None if scene.uv is None else scene.uv[clean.source_face]
        if uv is not None:
            uv = np.nan_to_num(np.where(clean.turned[:, None, None], uv[:, ::-1], uv), posinf=0.0, neginf=0.0)
        return cls(
            np.ascontiguousarray(clean.vertices, np.float64),
            np.ascontiguousarray(clean.faces, np.int32),
            np.ascontiguousarray(clean.corner_colors, np.uint8),
            None if uv is None else np.ascontiguousarray(uv, np.float32),
            scene.material[clean.source_face].astype(np.int32),
            tuple(_renumbered(material, used) for material in scene.materials),
            tuple(scene.images[number] for number in used) if uv is not None else (),
        )

    @cached_property
    def normals(self) -> np.ndarray:
        """Smooth normals float32 [F, 3, 3] of each face's corners; edges of more than 40 degrees stay sharp."""
        return raster.smooth_normals(self.vertices, self.faces, _CREASE)

    @cached_property
    def look(self) -> Look:
        """The colours as flat tables.

        Raises:
            MaquetteError: an image cannot be read.
        """
        uv, material = self.uv, self.material
        plain = len(self.materials)
        if material is None:
            material = np.full(len(self.faces), plain, np.int32)
        factors = [(*m.base_color[:3], m.metallic, m.roughness, *m.emissive) for m in self.materials]
        images = [[m.textures.get(role, -1) for role in _SEEN] for m in self.materials]
        if uv is None or not self.images:
            images = [[-1] * 3 for _ in self.materials]
        cut = [m.alpha_mode != "opaque" for m in self.materials]
        return Look(
            self.corner_colors,
            np.zeros((1, 3, 2), np.float32) if uv is None else uv,
            np.where(material < 0, plain, material).astype(np.int32),
            np.array([*factors, _DIELECTRIC], np.float64),
            np.array([*images, [-1] * 3], np.int32),
            np.array([*cut, False]),
            decoded(self.images),
        )


def _used_images(scene: Scene) -> list[int]:
    """Images that a picture reads, in order; the others need not be decoded."""
    named = {m.textures[role] for m in scene.materials for role in _SEEN if role in m.textures}
    return sorted(number for number in named if 0 <= number < len(scene.images))


def _renumbered(material: Material, used: list[int]) -> Material:
    places = {number: place for place, number in enumerate(used)}
    kept = {role: places[n] for role, n in material.textures.items() if role in _SEEN and n in places}
    return replace(material, textures=kept)
