"""Pictures of meshes without a display: soft key, fill and sky light, a shadow on the ground."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from maquette.types import Mesh
from maquette_data3d.ingest.colors import to_linear
from maquette_data3d.rendering import raster
from maquette_data3d.rendering.camera import Camera

_GREY = (0.62, 0.65, 0.69)
_SHADOW_CELLS = 384
_BACK_LOW, _BACK_HIGH = np.array([0.905, 0.913, 0.925]), np.array([0.968, 0.972, 0.978])
_KEY, _FILL = np.array([1.0, 0.965, 0.91]) * 2.15, np.array([0.80, 0.88, 1.0]) * 0.42
_SKY, _GROUND = np.array([0.93, 0.97, 1.0]) * 0.72, np.array([0.92, 0.87, 0.80]) * 0.40


@dataclass(frozen=True)
class Picture:
    """What a camera sees.

    Attributes:
        rgb: uint8 [H, W, 3], sRGB.
        depth: float32 [H, W], distance along the view in the unit cube's units, inf where there is nothing.
        normal: float32 [H, W, 3] in the mesh's space, towards the camera, zero where there is nothing.
        mask: float32 [H, W], share of the pixel that the mesh covers.
    """

    rgb: np.ndarray
    depth: np.ndarray
    normal: np.ndarray
    mask: np.ndarray


@dataclass(frozen=True)
class _View:
    """A camera at four samples a pixel, and its key light.

    Attributes:
        rotation: [3, 3], eye: [3], focal: in samples, full: samples along a side.
        rays: [full, full, 3] directions in the mesh's space, of depth 1.
        light: rotation [3, 3] whose last row points to the key light, above the camera's left shoulder.
    """

    rotation: np.ndarray
    eye: np.ndarray
    focal: float
    full: int
    rays: np.ndarray
    light: np.ndarray


def render(
    mesh: Mesh,
    size: int = 256,
    camera: Camera | None = None,
    *,
    background: tuple[float, float, float] | None = None,
    ground: bool = True,
    crease: float = 40.0,
) -> Picture:
    """Takes a picture of a mesh.

    Args:
        mesh: in the unit cube; its vertex colours are used, grey where there are none.
        size: height and width in pixels.
        camera: a three-quarter view from the front by default.
        background: sRGB in [0, 1], instead of the soft gradient.
        ground: a shadow on the floor under the mesh.
        crease: degrees between faces from which an edge stays sharp.
    """
    view = _view(camera or Camera(), 2 * size)
    vertices, faces = np.asarray(mesh.vertices, np.float64), np.ascontiguousarray(mesh.faces, np.int32)
    triangle, depth, weights = _project(vertices, faces, view)
    seen = triangle >= 0
    normal, color = np.zeros((*seen.shape, 3)), _backdrop(view.full, background)
    heights = _heights(vertices, faces, view.light)
    if ground and len(vertices):
        color *= _floor(view, float(vertices[:, 1].min()), heights, ~seen)[..., None]
    if seen.any():
        hit, share = triangle[seen], weights[seen]
        normal[seen] = _normals(vertices, faces, hit, share, view.rays[seen], crease)
        lit = _shade(view, normal, triangle, depth, heights)
        color[seen] = _display(lit * to_linear(_albedo(mesh, faces, hit, share)))
    return Picture(
        rgb=np.round(np.clip(_halve(color), 0, 1) * 255).astype(np.uint8),
        depth=np.where(seen, depth, np.inf)[::2, ::2].astype(np.float32),
        normal=normal[::2, ::2].astype(np.float32),
        mask=_halve(seen[..., None].astype(np.float32))[..., 0],
    )


def _view(camera: Camera, full: int) -> _View:
    rotation, eye = camera.pose()
    focal = camera.focal() * full / 2
    axis = (np.arange(full) + 0.5 - full / 2) / focal
    x, y = np.meshgrid(axis, -axis)
    rays = np.stack([x, y, -np.ones_like(x)], -1) @ rotation
    light = Camera(azimuth=camera.azimuth - 48.0, elevation=52.0).pose()[0]
    return _View(rotation, eye, focal, full, rays, light)


def _project(vertices: np.ndarray, faces: np.ndarray, view: _View) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    local = (vertices - view.eye) @ view.rotation.T
    ahead = -local[:, 2]
    inverse = np.where(ahead > raster.NEAR, 1.0 / np.maximum(ahead, raster.NEAR), 0.0)
    screen = np.stack([local[:, 0], -local[:, 1]], 1) * (inverse * view.focal)[:, None] + view.full / 2
    triangle, nearness, weights = raster.visible(screen, inverse, faces, view.full, view.full)
    return triangle, 1.0 / np.maximum(nearness, 1e-12), weights


def _normals(
    vertices: np.ndarray, faces: np.ndarray, hit: np.ndarray, weights: np.ndarray, *view: np.ndarray | float
) -> np.ndarray:
    """Smooth unit normals [P, 3] of the seen points, turned towards the camera."""
    rays, crease = view
    corners = raster.smooth_normals(vertices, faces, float(crease))
    normal = _interpolate(corners[hit], weights)
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-12)
    away = (normal * rays).sum(-1, keepdims=True) > 0
    return np.where(away, -normal, normal)


def _interpolate(corners: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Corner values [P, 3, C] at the seen points [P, C]."""
    v, w = weights[:, :1], weights[:, 1:]
    return corners[:, 0] * (1 - v - w) + corners[:, 1] * v + corners[:, 2] * w


def _albedo(mesh: Mesh, faces: np.ndarray, hit: np.ndarray, weights: np.ndarray) -> np.ndarray:
    if mesh.colors is None:
        return np.broadcast_to(np.array(_GREY), (len(hit), 3))
    return _interpolate(mesh.colors[:, :3][faces[hit]].astype(np.float64) / 255, weights)


def _heights(vertices: np.ndarray, faces: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Map of the largest height towards the light, float32 [cells, cells]."""
    local = vertices @ light.T
    screen = (local[:, :2] + 1.0) * (_SHADOW_CELLS / 2)
    _, nearness, _ = raster.visible(screen, local[:, 2] + 2.0, faces, _SHADOW_CELLS, _SHADOW_CELLS)
    return nearness - 2.0


def _hidden(points: np.ndarray, light: np.ndarray, heights: np.ndarray, soft: float) -> np.ndarray:
    """Share of the key light that points [P, 3] do not get."""
    flat = np.ascontiguousarray(points)
    return raster.shadow(flat, light, heights, -1.0, _SHADOW_CELLS / 2, soft, 0.012)


def _shade(
    view: _View, normals: np.ndarray, triangle: np.ndarray, depth: np.ndarray, heights: np.ndarray
) -> np.ndarray:
    """Light that reaches the seen points, linear RGB [P, 3], with a broad highlight."""
    seen = triangle >= 0
    normal, rays = normals[seen], view.rays[seen]
    point = view.eye + rays * depth[seen][:, None]
    closed = raster.occlusion(depth, triangle, normals @ view.rotation.T, view.focal, 0.09)[seen]
    shadow = _hidden(point + normal * 0.012, view.light, heights, 5.0)
    key = view.light[2]
    fill = view.rotation[2] * 0.3 + view.light[0] * 0.9 + np.array([0, 0.15, 0])
    direct = np.clip((normal @ key + 0.12) / 1.12, 0, 1) * (1 - 0.85 * shadow)
    soft = np.clip((normal @ (fill / np.linalg.norm(fill))) * 0.6 + 0.4, 0, 1)
    up = normal[:, 1:2] * 0.5 + 0.5
    half = key - rays / np.linalg.norm(rays, axis=-1, keepdims=True)
    half /= np.linalg.norm(half, axis=-1, keepdims=True)
    shine = np.clip((normal * half).sum(-1), 0, 1) ** 28 * 0.16 * (1 - shadow)
    around = _SKY * up + _GROUND * (1 - up)
    open_sky = (1 - 0.75 * closed)[:, None]
    return (direct[:, None] * _KEY + soft[:, None] * _FILL + around) * open_sky / 2.2 + shine[:, None]


def _backdrop(full: int, background: tuple[float, float, float] | None) -> np.ndarray:
    if background is not None:
        return np.full((full, full, 3), background, np.float64)
    rows = np.linspace(0, 1, full)[:, None, None]
    return np.repeat(_BACK_HIGH * (1 - rows) + _BACK_LOW * rows, full, axis=1)


def _floor(view: _View, level: float, heights: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Brightness [H, W] of the floor seen past the mesh: a soft shadow."""
    brightness = np.ones(free.shape)
    down = free & (view.rays[..., 1] < -1e-6)
    rays = view.rays[down]
    point = view.eye + rays * ((level - view.eye[1]) / rays[:, 1])[:, None]
    near = (np.abs(point[:, [0, 2]]) < 1.2).all(1)
    hidden = np.zeros(len(point))
    hidden[near] = _hidden(point[near], view.light, heights, 14.0)
    brightness[down] = 1.0 - 0.30 * hidden
    return brightness


def _display(linear: np.ndarray) -> np.ndarray:
    """sRGB with a soft shoulder, so that bright colours keep their hue."""
    x = np.clip(linear, 0, None)
    x = np.where(x > 0.7, 0.7 + 0.3 * (1 - np.exp(-(x - 0.7) / 0.3)), x)
    return np.where(x <= 0.0031308, x * 12.92, 1.055 * x ** (1 / 2.4) - 0.055)


def _halve(image: np.ndarray) -> np.ndarray:
    return (image[::2, ::2] + image[1::2, ::2] + image[::2, 1::2] + image[1::2, 1::2]) / 4
