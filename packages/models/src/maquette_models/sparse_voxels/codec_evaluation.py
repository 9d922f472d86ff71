"""What is left of meshes that go through voxels and back, without any network."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from maquette.report import Figure
from maquette.types import Mesh
from maquette_kernels.ops import MeshQuery
from maquette_models.sparse_voxels.dual_grid_decoder import DualGrid, DualGridConfig
from maquette_models.sparse_voxels.voxel_surface import borders, encode_mesh, own_paint, welded
from maquette_models.surface_points import surface_points

POINTS = 10_000
TAUS = (0.005, 0.01, 0.02)
OPEN = "open"


@dataclass(frozen=True)
class Likeness:
    """How alike two surfaces are.

    Attributes:
        f_score: by distance, the harmonic mean of the shares of points of either that are no farther from the other.
        normals: mean absolute cosine between a point's normal and that of the nearest face of the other, both ways.
        color: mean absolute difference of sRGB in [0,1] between a point and its nearest place on the other, both ways.
    """

    f_score: dict[float, float]
    normals: float
    color: float


def evaluate_codec(meshes: Iterable[Mesh], resolution: int, points: int = POINTS) -> dict[str, Figure]:
    """Meshes through voxels and back, each figure a mean over meshes; ``open_`` ones are of open meshes alone.

    Args:
        meshes: in the unit cube.
        resolution: cells along the cube.
        points: how many to draw on each surface.

    Returns:
        Figures `f_score@...`, `worst_f_score@.01`, `normal_consistency`, `color_error`, `voxels`, `encode_s` and
        `decode_s` (seconds of process time), the same with ``open_`` in front, and `open_share`.
    """
    decoder = DualGrid(DualGridConfig())
    rows: list[dict[str, float]] = []
    for mesh in meshes:
        begun = time.process_time()
        surface = encode_mesh(mesh, resolution)
        encoded = time.process_time()
        back = decoder(surface)
        spent = {"encode_s": encoded - begun, "decode_s": time.process_time() - encoded}
        alike = likeness(back, mesh, points)
        scores = {f"f_score@{tau:g}".replace("@0.", "@."): score for tau, score in alike.f_score.items()}
        row = {**scores, "normal_consistency": alike.normals, "color_error": alike.color, "voxels": float(len(surface))}
        rows.append({**row, **spent, OPEN: float(borders(welded(mesh)[1].numpy()) > 0)})
    opened = [row for row in rows if row[OPEN]]
    share = {"open_share": Figure(len(opened) / len(rows), len(rows))} if rows else {}
    return {**means(rows), **{f"open_{key}": figure for key, figure in means(opened).items()}, **share}


def means(rows: list[dict[str, float]]) -> dict[str, Figure]:
    """The mean of each value over rows, and the worst F-score at .01; nothing of no rows."""
    if not rows:
        return {}
    found = {key: Figure(float(np.mean([row[key] for row in rows])), len(rows)) for key in rows[0] if key != OPEN}
    return {**found, "worst_f_score@.01": Figure(min(row["f_score@.01"] for row in rows), len(rows))}


def likeness(one: Mesh, other: Mesh, points: int = POINTS) -> Likeness:
    """Compares two surfaces by points drawn evenly on either, each with its nearest place on the other.

    Distances are to the surface itself, not to points drawn on it, so that how dense those lie does not matter.

    Args:
        one: the first mesh.
        other: the second.
        points: how many to draw on each.
    """
    there, back = _compared(one, other, points, seed=1), _compared(other, one, points, seed=0)
    scores = {}
    for tau in TAUS:
        precision, recall = (float((side[0] <= tau).float().mean()) for side in (there, back))
        scores[tau] = 2 * precision * recall / max(precision + recall, 1e-12)
    normals, color = (float((there[i].mean() + back[i].mean()) / 2) for i in (1, 2))
    return Likeness(scores, normals, color)


def _compared(mesh: Mesh, other: Mesh, count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of points on a mesh: distance to the other [P], absolute cosine of the normals [P], difference of colour [P]."""
    points, normals = surface_points(mesh, count, seed)
    vertices, faces = torch.from_numpy(other.vertices.copy()), torch.from_numpy(other.faces.astype(np.int64))
    distance, face, _ = MeshQuery(vertices, faces).closest(points)
    corners = vertices[faces[face.long()]]
    across = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    cosine = (torch.nn.functional.normalize(across, dim=1) * normals).sum(dim=1).abs()
    color = (own_paint(mesh, points)[0] - own_paint(other, points)[0]).abs().mean(dim=1)
    return distance, cosine, color
