"""A mesh with the views that it is painted from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from maquette.errors import MaquetteError
from maquette.types import Mesh
from maquette_models.surface_points import sampled
from maquette_models.texturing.view_atlas import points_on
from maquette_models.texturing.view_attributes import shown_attributes
from maquette_models.texturing.view_cameras import ViewCameras, around, spread
from maquette_models.texturing.view_choice import choose_views
from maquette_models.texturing.view_maps import ViewMaps, corner_normals, view_maps
from maquette_models.texturing.view_projection import SurfacePoints, cosines, laid_back

NEAREST, FARTHEST = 0.5, 0.8
"""Radii between which the sphere lies that cameras see whole: models know pictures of about one scale."""
PROBES = 4096
"""Points of the surface that the choice of views goes by."""
ROUGH_SIZE, FINE_SIZE = 96, 256
"""Sides of the maps that tell what is hidden, for the choice of views and for painting."""


@dataclass(frozen=True)
class ViewedMesh:
    """A mesh in the unit cube and V views of it.

    Attributes:
        normals: float32 [F,3,3] of the faces' corners.
        maps: of the pictures' size; fine: of a size to tell what is hidden.
    """

    mesh: Mesh
    normals: Tensor
    cameras: ViewCameras
    maps: ViewMaps
    fine: ViewMaps

    def pictures(self) -> Tensor:
        """What the views show of the mesh as it is painted, [V,5,S,S]; 0 where they show nothing."""
        seen = self.maps.covered
        shown = torch.zeros(*seen.shape, 5)
        shown[seen] = shown_attributes(self.mesh, self.maps.face[seen], self.maps.barycentric[seen])
        return shown.movedim(-1, 1)

    def laid_back(self, points: SurfacePoints, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """What pictures [V,C,S,S] of the views show of points: values [P,C] and their weight [P]."""
        return laid_back(points, self.cameras, self.maps, pictures, self.fine)


def viewed(mesh: Mesh, count: int, size: int, candidates: int = 30) -> ViewedMesh:
    """A mesh with those of the views around it that together show most of its surface.

    Args:
        mesh: in the unit cube.
        count: the most views.
        size: of their pictures, in pixels a side.
        candidates: views to choose from.

    Raises:
        MaquetteError: fewer candidates than views, or a mesh without area.
    """
    if not 1 <= count <= candidates:
        raise MaquetteError(f"{count} views of {candidates} candidates; choose at least 1, and no more than there are")
    normals = corner_normals(mesh)
    radius = float(torch.from_numpy(mesh.vertices).norm(dim=1).max())
    cameras = around(spread(candidates), min(max(radius, NEAREST), FARTHEST))
    _, _, (face, share) = sampled(mesh, PROBES, 0)
    probes = points_on(mesh, normals, torch.from_numpy(face), torch.from_numpy(share).float())
    straight = cosines(probes, cameras, view_maps(mesh, normals, cameras, ROUGH_SIZE))
    chosen = cameras.chosen(choose_views(straight, count))
    maps, fine = (view_maps(mesh, normals, chosen, side) for side in (size, FINE_SIZE))
    return ViewedMesh(mesh, normals, chosen, maps, fine)
