"""Small meshes with known surfaces, and a folder of small shards with dual grids."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from maquette.types import Mesh
from maquette_data3d import BuildConfig, build_shards


def sphere(radius: float, steps: int = 24, center: tuple[float, float, float] = (0, 0, 0)) -> Mesh:
    """A closed ball's surface, facing outwards."""
    theta, phi = np.linspace(0, np.pi, steps + 1), np.linspace(0, 2 * np.pi, 2 * steps, endpoint=False)
    ring = np.stack([np.outer(np.sin(theta), f(phi)) for f in (np.cos, np.sin)])
    points = np.stack([ring[0], np.broadcast_to(np.cos(theta)[:, None], ring[0].shape), -ring[1]], axis=-1)
    i, j = np.meshgrid(np.arange(steps), np.arange(2 * steps), indexing="ij")
    a, b = i * 2 * steps + j, i * 2 * steps + (j + 1) % (2 * steps)
    c, d = a + 2 * steps, b + 2 * steps
    faces = np.concatenate([np.stack([a, c, d], -1).reshape(-1, 3), np.stack([a, d, b], -1).reshape(-1, 3)])
    vertices = points.reshape(-1, 3) * radius + np.array(center)
    corners = vertices[faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    return Mesh(vertices.astype(np.float32), faces[area > 1e-9].astype(np.int32))


def sheet(height: float = 0.02, half: float = 0.4, cells: int = 8) -> Mesh:
    """An open, gently curved square, looking up, red where x < 0 and blue elsewhere; a vertex a corner of each face."""
    axis = np.linspace(-half, half, cells + 1)
    x, z = np.meshgrid(axis, axis, indexing="ij")
    points = np.stack([x, height * np.cos(3 * x) + 0.01 * z, z], axis=-1).reshape(-1, 3)
    i, j = np.meshgrid(np.arange(cells), np.arange(cells), indexing="ij")
    a = i * (cells + 1) + j
    b, c, d = a + 1, a + cells + 2, a + cells + 1
    faces = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])
    corners = points[faces]
    red = corners[:, :, 0].mean(axis=1) < 0
    colors = np.where(red[:, None], [200, 20, 20, 255], [20, 20, 200, 255]).repeat(3, axis=0)
    soup = np.arange(3 * len(faces)).reshape(-1, 3)
    return Mesh(corners.reshape(-1, 3).astype(np.float32), soup.astype(np.int32), colors.astype(np.uint8))


def joined(*meshes: Mesh) -> Mesh:
    """Several meshes as one, without colours."""
    starts = np.cumsum([0, *[len(mesh.vertices) for mesh in meshes]])
    faces = [mesh.faces + start for mesh, start in zip(meshes, starts, strict=False)]
    return Mesh(np.concatenate([mesh.vertices for mesh in meshes]), np.concatenate(faces))


@pytest.fixture(scope="session")
def meshes() -> SimpleNamespace:
    """The functions of this file."""
    return SimpleNamespace(sphere=sphere, sheet=sheet, joined=joined)


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Sixteen procedural shapes with dual grids of 16 cells a side."""
    out = tmp_path_factory.mktemp("sparse") / "shards"
    features = ["grid", {"name": "surface", "colors": True, "materials": True}, "voxels", "dual_grid"]
    settings = {"points": 512, "count": 16, "shard_samples": 8, "thumbnails": 0, "held_out": 0.25, "variety": 0.25}
    build_shards(BuildConfig("procedural", str(out), 16, features=features, workers=1, engine="serial", **settings))
    return str(out)


@pytest.fixture(scope="session")
def real_models() -> Path:
    """The folder of real models that MAQUETTE_MODELS names."""
    folder = os.environ.get("MAQUETTE_MODELS", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("MAQUETTE_MODELS names no folder of real models")
    return Path(folder)
