"""Points that an encoder reads of a mesh without shards."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from maquette.errors import MaquetteError
from maquette.types import Mesh
from maquette_models.voxset.mesh_cloud import mesh_cloud, sharp_edges


def box(split: bool) -> Mesh:
    """A cube of side 0.6, red; with vertices of their own for each face, or shared."""
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * 0.6 - 0.3
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = np.array([[(a, b, c), (a, c, d)] for a, b, c, d in quads]).reshape(-1, 3)
    if split:
        corners, faces = corners[faces.ravel()], np.arange(faces.size).reshape(-1, 3)
    return Mesh(corners, faces, np.tile(np.array([[255, 0, 0, 255]], np.uint8), (len(corners), 1)))


@pytest.mark.parametrize("split", [False, True])
def test_sharp_points_lie_on_the_edges_of_a_box(split: bool) -> None:
    ends, normals = sharp_edges(box(split))
    assert len(ends) == 12, "diagonals of flat sides are no edges"
    assert np.allclose(np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1), 0.6)
    assert np.allclose(np.abs(normals).max(axis=1), np.sqrt(0.5))
    cloud = mesh_cloud(box(split), points=500, sharp=400)
    on_side = (cloud.sharp.abs() - 0.3).abs() < 1e-6
    assert bool((on_side.sum(dim=-1) >= 2).all())
    assert bool(((cloud.sharp * cloud.sharp_normals).sum(dim=-1) > 0.4).all()), "outwards"
    assert cloud.points.shape == (1, 500, 3) and torch.equal(cloud.colors[0, 0], torch.tensor([1.0, 0.0, 0.0]))


def test_open_border_is_sharp_and_a_seed_repeats() -> None:
    sheet = Mesh(np.array([[0, 0, 0], [0.5, 0, 0], [0.5, 0.5, 0], [0, 0.5, 0]]), np.array([[0, 1, 2], [0, 2, 3]]))
    assert len(sharp_edges(sheet)[0]) == 4
    one, two, other = (mesh_cloud(sheet, 50, 20, seed) for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not torch.equal(one.points, other.points) and not torch.equal(one.sharp, other.sharp)
    assert bool((one.colors == 0.5).all()), "gray where no colours are"


def test_smooth_surface_stands_in_for_edges() -> None:
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    heights = np.linspace(0.02, np.pi - 0.02, 30)
    rings = np.stack(
        [
            np.outer(np.sin(heights), np.cos(angles)),
            np.outer(np.cos(heights), np.ones(40)),
            np.outer(np.sin(heights), np.sin(angles)),
        ],
        -1,
    )
    grid = np.arange(30 * 40).reshape(30, 40)
    a, b, c, d = grid[:-1], np.roll(grid, -1, 1)[:-1], np.roll(grid, -1, 1)[1:], grid[1:]
    faces = np.concatenate([np.stack([a, b, c], -1), np.stack([a, c, d], -1)]).reshape(-1, 3)
    caps = [[0, j, j + 1] for j in range(1, 39)] + [[1160, 1160 + j + 1, 1160 + j] for j in range(1, 39)]
    ball = Mesh(rings.reshape(-1, 3) * 0.4, np.concatenate([faces, np.array(caps)[:, ::-1]]))
    assert len(sharp_edges(ball)[0]) == 0
    radii = mesh_cloud(ball, 10, 200).sharp.norm(dim=-1)
    assert radii.min() > 0.38


def test_a_mesh_without_area_is_refused() -> None:
    with pytest.raises(MaquetteError, match="area"):
        mesh_cloud(Mesh(np.zeros((3, 3)), np.array([[0, 1, 2]])))
