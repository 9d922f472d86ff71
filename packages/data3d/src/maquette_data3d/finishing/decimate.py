"""Finisher ``decimate``: fewer faces for the same surface."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from maquette.errors import MaquetteError
from maquette.types import Asset, Mesh
from maquette_data3d.finishing.edge_collapse import collapse
from maquette_data3d.finishing.record import recorded
from maquette_data3d.finishing.selection import areas, selected, welded
from maquette_data3d.finishing.transfer import patches, transfer

FEWEST = 4  # faces of the simplest closed mesh


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
        if config.faces is not None and config.faces < FEWEST:
            raise MaquetteError(f"decimate: faces is {config.faces}; give at least {FEWEST}")
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
        return max(int(np.ceil(faces * (self.config.share or 1))), FEWEST)


def decimated(mesh: Mesh, budget: int, border: float = 1.0, seams: float = 0.1) -> Mesh:
    """The mesh with at most ``budget`` faces, and what it carries.

    Raises:
        MaquetteError: no face has any area, or none is left.
    """
    vertices, faces = welded(mesh)
    box = np.ptp(vertices.astype(np.float64), axis=0).max(initial=0.0)
    solid = np.flatnonzero(areas(vertices, faces) > 1e-14 * box**2)
    if not len(solid):
        raise MaquetteError("no face of the mesh has any area")
    centre = vertices.mean(0, dtype=np.float64)
    placed = (vertices - centre) / box  # the same collapses in any unit
    fewer, left = collapse(placed, faces[solid].astype(np.int64), patches(mesh)[solid], budget, border, seams)
    left = left[areas(fewer, left) > 1e-14]
    if not len(left):
        raise MaquetteError(f"nothing is left at {budget} faces: give a larger budget")
    used, index = np.unique(left, return_inverse=True)
    return transfer(selected(mesh, solid), (fewer[used] * box + centre).astype(np.float32), index.reshape(-1, 3))
