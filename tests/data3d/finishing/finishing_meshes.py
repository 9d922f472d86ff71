"""Meshes that finishing is tested on: solids, broken ones, and one that carries everything."""

import io

import numpy as np
import trimesh
from PIL import Image

from maquette.types import Material, Mesh, Skeleton, Skin


def box(sides=(1.0, 1.0, 1.0)) -> Mesh:
    made = trimesh.creation.box(sides)
    return Mesh(made.vertices, made.faces)


def ball(subdivisions: int = 3, radius: float = 0.5) -> Mesh:
    made = trimesh.creation.icosphere(subdivisions, radius)
    return Mesh(made.vertices, made.faces)


def soup(seed: int, faces: int = 30) -> Mesh:
    """Triangles anywhere, some doubled, some without area."""
    random = np.random.default_rng(seed)
    corners = random.normal(size=(faces, 3, 3)) * 0.3
    corners[0] = corners[1]
    corners[2, 1] = corners[2, 0]
    return Mesh(corners.reshape(-1, 3), np.arange(3 * faces).reshape(-1, 3))


def joined(*meshes: Mesh) -> Mesh:
    start = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([mesh.faces + first for mesh, first in zip(meshes, start, strict=False)]),
    )


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def furnished() -> Mesh:
    """A ball with texture coordinates and image, two materials, two parts, colours and a skin of two joints."""
    plain = ball(3)
    points = plain.vertices.astype(np.float64)
    height = points[:, 1] + 0.5
    uv = np.stack([points[:, 0] + 0.5, height], -1).clip(0, 1)[plain.faces]
    upper = (points[plain.faces].mean(1)[:, 1] > 0).astype(np.int32)
    rows, columns = np.mgrid[:64, :64]
    image = np.stack([rows * 4, columns * 4, np.full_like(rows, 90)], -1).astype(np.uint8)
    rest = np.stack([np.eye(4)] * 2)
    rest[1, 1, 3] = 0.2
    skeleton = Skeleton(("root", "top"), np.array([-1, 0], np.int32), rest)
    share = height.clip(0, 1)
    return Mesh(
        plain.vertices,
        plain.faces,
        colors=np.stack([share * 255, 255 - share * 255, share * 0, share * 0 + 255], -1).astype(np.uint8),
        uv=uv,
        material=upper,
        materials=(Material("low", textures={"base_color": 0}), Material("high", (0.2, 0.4, 0.8, 1.0), 1.0, 0.3)),
        images=(png(image),),
        part=upper,
        part_names=("foot", "head"),
        skin=Skin(skeleton, np.tile([0, 1], (len(points), 1)), np.stack([1 - share, share], -1)),
        unit_m=0.01,
    )
