"""Many views of one object with everything a pixel knows: colour, depth, normal, position, face and material."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from maquette.errors import MaquetteError
from maquette.types import Mesh
from maquette_data3d.rendering import frame, raster
from maquette_data3d.rendering.camera import Camera
from maquette_data3d.rendering.lights import Lighting, Lights, lighting, lights_of
from maquette_data3d.rendering.orbit import orbit
from maquette_data3d.rendering.surfaces import Surface

__all__ = ["Surface", "Views", "orbit", "render_views"]

_SHADOW_CELLS = 384


@dataclass(frozen=True)
class Views:
    """What cameras see; V views of S x S pixels. Everything but `rgb` is sampled at the middle of a pixel.

    Attributes:
        rgb: uint8 [V, S, S, 4], sRGB (not multiplied by alpha) and the share of the pixel that is covered.
        depth: float32 [V, S, S], distance along the view in the unit cube's units, inf where there is nothing.
        normal: float32 [V, S, S, 3], unit, in the object's space, on the camera's side of the face; zero where
            there is nothing.
        position: float32 [V, S, S, 3] in the object's space, zero where there is nothing.
        face: int32 [V, S, S], -1 where there is nothing.
        albedo: uint8 [V, S, S, 3], base colour in sRGB without any light, zero where there is nothing.
        metallic_roughness: uint8 [V, S, S, 2], in 1 / 255.
        cameras: float32 [V, 4, 4], world to camera: x right, y down, z along the view (`Camera.matrix`).
        intrinsics: float32 [V, 3, 3], camera to pixels (`Camera.intrinsics`).
    """

    rgb: np.ndarray
    depth: np.ndarray
    normal: np.ndarray
    position: np.ndarray
    face: np.ndarray
    albedo: np.ndarray
    metallic_roughness: np.ndarray
    cameras: np.ndarray
    intrinsics: np.ndarray


def render_views(
    surface: Surface | Mesh,
    cameras: Sequence[Camera],
    size: int,
    lights: str | Lights | None = "studio",
    *,
    picture: bool = True,
) -> Views:
    """Takes pictures of an object; the same ones every time.

    Args:
        surface: in the unit cube. A face with a corner behind a camera is not seen by it.
        cameras: where from.
        size: height and width in pixels.
        lights: "studio", "sun" or "flat" (the base colour as it is), or lights of one's own.
        picture: without it `rgb` stays zero, which saves most of the time.

    Raises:
        MaquetteError: no camera, a size below one, or no such light.
    """
    if not len(cameras) or size < 1:
        raise MaquetteError(f"render_views needs a camera and a size of at least 1, got {len(cameras)} and {size}")
    scenery = _Scenery.of(
        Surface.of_mesh(surface) if isinstance(surface, Mesh) else surface, lights_of(lights if picture else None)
    )
    views = _empty(cameras, size)
    for number, camera in enumerate(cameras):
        _measure(scenery, camera, views, number)
        if picture:
            _paint(scenery, camera, views, number)
    return views


def _empty(cameras: Sequence[Camera], size: int) -> Views:
    shape = (len(cameras), size, size)
    return Views(
        np.zeros((*shape, 4), np.uint8),
        np.full(shape, np.inf, np.float32),
        np.zeros((*shape, 3), np.float32),
        np.zeros((*shape, 3), np.float32),
        np.empty(shape, np.int32),
        np.zeros((*shape, 3), np.uint8),
        np.zeros((*shape, 2), np.uint8),
        np.stack([camera.matrix() for camera in cameras]).astype(np.float32),
        np.stack([camera.intrinsics(size) for camera in cameras]).astype(np.float32),
    )


@dataclass(frozen=True)
class _Scenery:
    """What all views of an object share.

    Attributes:
        cut: int64 [K], faces whose images may have holes; solid: int32 [F, 3], the faces without those, whose
            three corners are made equal: nothing of them is drawn, and the numbers of the others stay.
        lighting: for compiled code; rotation: float64 [3, 3], last row towards the first lamp; heights: its map of
            shadows; shade: how dark and how soft they are, darkness -1 without any light.
    """

    surface: Surface
    cut: np.ndarray
    solid: np.ndarray
    lighting: Lighting
    rotation: np.ndarray
    heights: np.ndarray
    shade: tuple[float, float]

    @classmethod
    def of(cls, surface: Surface, lights: Lights | None) -> _Scenery:
        look, solid = surface.look, surface.faces
        cut = np.flatnonzero((look.cut & (look.images[:, 0] >= 0))[look.material])
        if len(cut):
            solid = solid.copy()
            solid[cut] = solid[cut, :1]
        return cls(surface, cut, solid, *_lamps(surface, lights))


def _lamps(surface: Surface, lights: Lights | None) -> tuple[Lighting, np.ndarray, np.ndarray, tuple[float, float]]:
    """Lights with the shadow map of the first one, as `_Scenery` holds them."""
    none = np.zeros((1, 1), np.float32)
    if lights is None:
        return Lighting(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((2, 3))), np.eye(3), none, (-1.0, 0.0)
    if not lights.lamps or lights.shadow <= 0:
        return lighting(lights), np.eye(3), none, (0.0, 0.0)
    rotation = Camera(lights.lamps[0].azimuth, lights.lamps[0].elevation).pose()[0]
    local = surface.vertices @ rotation.T
    screen = (local[:, :2] + 1.0) * (_SHADOW_CELLS / 2)
    _, heights = raster.nearest(screen, local[:, 2] + 2.0, surface.faces, _SHADOW_CELLS, _SHADOW_CELLS)
    return lighting(lights), rotation, heights, (float(lights.shadow), float(lights.soft))


def _measure(scenery: _Scenery, camera: Camera, views: Views, number: int) -> None:
    """Geometry and material of one view, into its place."""
    surface = scenery.surface
    screen, inverse, triangle = _seen(scenery, camera, views.depth.shape[1])
    views.face[number] = triangle
    maps = (views.depth, views.normal, views.position, views.albedo, views.metallic_roughness)
    shape = (surface.look.plain(), surface.vertices, surface.normals, surface.faces)
    places = (values[number] for values in maps)
    frame.measure(*shape, screen, inverse, triangle, camera.pose()[1], *places)


def _paint(scenery: _Scenery, camera: Camera, views: Views, number: int) -> None:
    """The picture of one view, into its place."""
    surface = scenery.surface
    screen, inverse, triangle = _seen(scenery, camera, views.depth.shape[1] * frame.SAMPLES)
    shape = (surface.look.plain(), surface.vertices, surface.normals, surface.faces)
    light = (tuple(scenery.lighting), scenery.rotation, scenery.heights, scenery.shade)
    frame.paint(*shape, screen, inverse, triangle, camera.pose()[1], *light, views.rgb[number])


def _seen(scenery: _Scenery, camera: Camera, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixel positions and inverse depths of the vertices, and the triangle that each pixel sees."""
    surface = scenery.surface
    screen, inverse = raster.project(surface.vertices, camera.matrix(), camera.focal() * size / 2, size / 2)
    triangle, depth = raster.nearest(screen, inverse, scenery.solid, size, size)
    if len(scenery.cut):
        frame.draw_cut(surface.look.plain(), screen, inverse, surface.faces, scenery.cut, triangle, depth)
    return screen, inverse, triangle
