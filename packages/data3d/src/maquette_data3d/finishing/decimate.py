"""Finisher ``decimate``: fewer faces for the same surface."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from maquette.errors import MaquetteError
from maquette.types import Asset, Mesh
from maquette_data3d.finishing.edge_collapse import collapse
from maquette_data3d.finishing.record import recorded
from maquette_data3d.finishing.transfer import patches, transfer
from maquette_data3d.finishing.unwrap import welded

_FEWEST = 4  # faces of the simplest closed mesh


@dataclass
class DecimateConfig:
    """How many faces, and what to hold on to.

    Attributes:
        faces: the budget. Give it or ``share``.
        share: the budget as a share of the faces that there are.
        border: weight of open borders against the surface.
        seams: weight of lines where texture coordinates, colours, materials or parts change.
    """

    faces: int | None = None
    share: float | None = None
    border: float = 1.0
    seams: float = 0.1


class Decimate:
    """Collapses edges by their quadric error, then brings over what the mesh carries.

    Source: Garland and Heckbert 1997, Surface Simplification Using Quadric Error Metrics.
    """

    def __init__(self, config: DecimateConfig) -> None:
        if (config.faces is None) == (config.share is None):
            raise MaquetteError("decimate: give the budget, as faces=5000 or as share=0.1")
        if config.faces is not None and config.faces < _FEWEST:
            raise MaquetteError(f"decimate: faces is {config.faces}; give at least {_FEWEST}")
        if config.share is not None and not 0 < config.share <= 1:
            raise MaquetteError(f"decimate: share is {config.share}; give a number above 0 and at most 1")
        self.config = config

    def __call__(self, asset: Asset) -> Asset:
        """The asset with at most so many faces; as it is where it has no more.

        Raises:
            MaquetteError: no face has any area.
        """
        mesh, budget = asset.mesh, self.budget(len(asset.mesh.faces))
        if len(mesh.faces) <= budget:
            return recorded(asset, mesh, "decimate", {"faces": [len(mesh.faces)] * 2})
        fewer = decimated(mesh, budget, self.config.border, self.config.seams)
        return recorded(asset, fewer, "decimate", {"faces": [len(mesh.faces), len(fewer.faces)]})

    def budget(self, faces: int) -> int:
        """Faces to leave of so many."""
        if self.config.faces is not None:
            return self.config.faces
        return max(int(np.ceil(faces * (self.config.share or 1))), _FEWEST)


def decimated(mesh: Mesh, budget: int, border: float, seams: float) -> Mesh:
    """The mesh with at most ``budget`` faces, and what it carries.

    Raises:
        MaquetteError: no face has any area, or none is left.
    """
    vertices, faces = welded(mesh)
    box = np.ptp(vertices.astype(np.float64), axis=0).max(initial=0.0)
    solid = np.flatnonzero(_areas(vertices, faces) > 1e-14 * box**2)
    if not len(solid):
        raise MaquetteError("no face of the mesh has any area")
    centre = vertices.mean(0, dtype=np.float64)
    placed = (vertices - centre) / box  # the same collapses in any unit
    fewer, left = collapse(placed, faces[solid].astype(np.int64), patches(mesh)[solid], budget, border, seams)
    left = left[_areas(fewer, left) > 1e-14]
    if not len(left):
        raise MaquetteError(f"nothing is left at {budget} faces: give a larger budget")
    used, index = np.unique(left, return_inverse=True)
    return transfer(_only(mesh, solid), (fewer[used] * box + centre).astype(np.float32), index.reshape(-1, 3))


def _areas(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    a, b, c = (vertices[faces[:, corner]].astype(np.float64) for corner in range(3))
    return np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2


def _only(mesh: Mesh, chosen: np.ndarray) -> Mesh:
    """The mesh with the chosen faces only."""
    per_face = {
        name: None if (held := getattr(mesh, name)) is None else held[chosen] for name in ("uv", "material", "part")
    }
    return replace(mesh, faces=mesh.faces[chosen], **per_face)
