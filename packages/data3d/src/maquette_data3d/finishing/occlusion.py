"""How open to the sky points of a surface are, found by looking at the mesh from all around."""

from __future__ import annotations

import numpy as np

from maquette.types import Mesh

_PIXELS = 512
_BIAS = 2.5  # pixels of a map that a point may lie behind it and still be seen


def openness(mesh: Mesh, points: np.ndarray, normals: np.ndarray, directions: int) -> np.ndarray:
    """Share of the light of an even sky that reaches each point, cosine-weighted, float64 [P]; 1 is wide open.

    From every direction a map of the nearest depths is drawn by the kernels' rasteriser; a point that lies behind it
    is in the shade.

    Args:
        mesh: what is in the way.
        points, normals: float [P, 3], unit normals.
        directions: how many.
    """
    import torch

    from maquette_kernels.ops import rasterise

    vertices = mesh.vertices.astype(np.float64)
    centre = (vertices.min(0) + vertices.max(0)) / 2
    radius = max(float(np.linalg.norm(vertices - centre, axis=1).max()), 1e-30) * 1.01
    pixel = 2.0 / _PIXELS
    light, lit = np.zeros(len(points)), np.zeros(len(points))
    faces = torch.from_numpy(np.array(mesh.faces))
    for away in _sphere(directions):
        axes = _axes(away)
        facing = np.flatnonzero(normals @ away > 1e-3)
        local = (vertices - centre) @ axes.T / radius
        clip = np.concatenate([local[:, :2], -local[:, 2:], np.ones((len(local), 1))], 1)
        _, _, depth = rasterise(torch.from_numpy(clip.astype(np.float32))[None], faces, _PIXELS, _PIXELS)
        seen = (points[facing] - centre) @ axes.T / radius
        column, row = ((seen[:, :2] + 1) / 2 * _PIXELS).astype(int).clip(0, _PIXELS - 1).T
        cosine = normals[facing] @ away
        # The flatter the light, the more a map's depth changes across one of its pixels.
        slack = _BIAS * pixel * np.minimum(np.sqrt(1 - cosine**2) / cosine + 0.5, 6.0)
        open_here = -seen[:, 2] <= depth[0].numpy()[row, column] + slack
        light[facing] += cosine
        lit[facing] += cosine * open_here
    return np.divide(lit, light, out=np.ones_like(lit), where=light > 0)


def _sphere(count: int) -> np.ndarray:
    """Directions [count, 3], evenly, on a Fibonacci spiral."""
    height = 1 - (2 * np.arange(count) + 1) / count
    turn = np.arange(count) * (np.pi * (3 - 5**0.5))
    around = np.sqrt(1 - height**2)
    return np.stack([around * np.cos(turn), height, around * np.sin(turn)], 1)


def _axes(away: np.ndarray) -> np.ndarray:
    """Rows of a rotation whose third looks along a direction."""
    side = np.cross(away, np.eye(3)[np.abs(away).argmin()])
    side /= np.linalg.norm(side)
    return np.stack([side, np.cross(away, side), away])
