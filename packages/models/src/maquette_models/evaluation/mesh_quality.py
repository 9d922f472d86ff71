"""What generated meshes are worth as meshes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from maquette.progress import track
from maquette.report import Figure
from maquette.types import Mesh
from maquette_models.evaluation import estimates
from maquette_models.metrics.mesh_topology import is_closed, topology
from maquette_models.metrics.self_intersections import intersecting_faces

MOST = 100  # a third of a second each
SLIVER = 0.01  # height over longest side below which a face's normal means nothing
SHARES = ("watertight_share", "manifold_share", "free_of_self_intersections_share", "within_unit_box_share")


def mesh_quality(meshes: Sequence[Mesh], beside: Sequence[Mesh], what: str) -> dict[str, Figure]:
    """Figures over the first `MOST` meshes, beside the same of other meshes; none where there are no meshes.

    Shares of meshes: closed; manifold; without faces that intersect; within the cube. Means over meshes:
    `self_intersecting_faces` and `slivers` (shares of a mesh's faces), `components`, `faces`, and `genus` of those that
    are closed and manifold.

    Args:
        meshes: to be measured.
        beside: what they are read against.
        what: what those are called.
    """
    rows = [_measured(mesh) for mesh in track(meshes[:MOST], "Measuring meshes")]
    others = [_measured(mesh) for mesh in track(beside[:MOST], f"Measuring meshes ({what})")]
    figures = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        own, real = ([row[name] for row in some if name in row] for some in (rows, others))
        against = {what: float(np.mean(real))} if real else {}
        figures[name] = estimates.share(sum(own), len(own), against) if name in SHARES else estimates.mean(own, against)
    return figures


def _measured(mesh: Mesh) -> dict[str, float]:
    shape = topology(mesh)
    crossing = intersecting_faces(mesh)
    row = {
        "watertight_share": float(shape.closed),
        "manifold_share": float(shape.manifold),
        "free_of_self_intersections_share": float(not crossing.any()),
        "within_unit_box_share": float(np.abs(mesh.vertices).max() <= 0.5),
        "self_intersecting_faces": float(crossing.mean()) if len(crossing) else 0.0,
        "slivers": float(slivers(mesh).mean()),
        "components": float(shape.components),
        "faces": float(len(mesh.faces)),
    }
    return row if shape.genus is None else {**row, "genus": float(shape.genus)}


def closed_share(meshes: Sequence[Mesh]) -> dict[str, Figure]:
    """The shares of meshes that are closed, and that lie within the unit cube."""
    inside = sum(bool(np.abs(mesh.vertices).max() <= 0.5) for mesh in meshes)
    return {
        "watertight_share": estimates.share(sum(map(is_closed, meshes)), len(meshes)),
        "within_unit_box_share": estimates.share(inside, len(meshes)),
    }


def slivers(mesh: Mesh) -> np.ndarray:
    """Which faces, bool [F], are so thin that their height is under `SLIVER` of their longest side."""
    corners = mesh.vertices.astype(np.float64)[mesh.faces]
    edges = np.roll(corners, -1, axis=1) - corners
    doubled = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1)
    return np.asarray(doubled < SLIVER * (edges**2).sum(axis=2).max(axis=1))
