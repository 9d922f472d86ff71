"""Distances to triangle meshes and insides of them, as plain functions."""

from __future__ import annotations

import torch
from torch import Tensor

from maquette_kernels.distance.closest_on_mesh import CLOSEST_ON_MESH
from maquette_kernels.distance.inside_mesh import INSIDE_MESH
from maquette_kernels.distance.mesh_query import MeshQuery
from maquette_kernels.distance.sdf_grid import sdf_grid
from maquette_kernels.distance.winding_number import WINDING_NUMBER

__all__ = [
    "MeshQuery",
    "closest_on_mesh",
    "inside_mesh",
    "sdf_grid",
    "signed_distance",
    "unsigned_distance",
    "winding_number",
]

ACCURACY = 2.0


def closest_on_mesh(points: Tensor, vertices: Tensor, faces: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The nearest point of a mesh to each point: how far it is, on which face, and where there.

    The nearest point is ``(weights[:, :, None] * vertices[faces[face]]).sum(1)``. Of several nearest faces one
    is given (two share every edge): the same in every repetition, another perhaps in another implementation.
    Distances have gradients to points and vertices: unit vectors, 0 where the distance is 0. Weights have none.

    Args:
        points: [P, 3], float32 or float64, any unit.
        vertices: [V, 3], dtype of points; vertices that no face uses do no harm.
        faces: int32 or int64 [F, 3]; their numbers are not checked, which would stall a GPU. A face without area
            is the segment or point that it is; one with a corner that is not finite is left out.

    Returns:
        distance [P] in the dtype and unit of points, face int32 [P], and barycentric weights [P, 3] in the dtype
        of points, none negative. Where there is no face: inf, -1, 0. Where a point is not finite: nan, -1, 0.

    Raises:
        MaquetteError: shapes, dtypes or devices that do not fit.

    Source: Ericson 2005, Real-Time Collision Detection, 5.1.5, for one triangle.
    """
    return CLOSEST_ON_MESH(points, vertices, faces)  # type: ignore[no-any-return]


def winding_number(points: Tensor, vertices: Tensor, faces: Tensor, *, accuracy: float = ACCURACY) -> Tensor:
    """How often a mesh goes round each point: 1 inside a closed surface that looks outwards, 0 outside, and
    between them where there are holes.

    Each face counts by its solid angle over 4 pi; one in whose plane the point lies counts nothing. No gradients:
    the number is flat all but everywhere.

    Args:
        points: [P, 3], float32 or float64, any unit.
        vertices: [V, 3], dtype of points.
        faces: int32 or int64 [F, 3]; one with a corner that is not finite is left out.
        accuracy: from how many times its radius on a part of the mesh may be taken as one (the beta of Barill et
            al.): at 2 the number is off by up to .03, at 1.3 by .12, at 4 by .004; times the root of the number of
            faces in a soup whose faces look anywhere. 0 is exact. The Triton kernel is exact always.

    Returns:
        [P] in the dtype of points; nan where a point is not finite.

    Raises:
        MaquetteError: shapes, dtypes or devices that do not fit, or an accuracy of 1 or less.

    Source: van Oosterom and Strackee 1983 (one triangle); Jacobson et al. 2013 (any mesh); Barill et al. 2018,
    "Fast winding numbers for soups and clouds" (far parts).
    """
    return WINDING_NUMBER(points, vertices, faces, accuracy)  # type: ignore[no-any-return]


def inside_mesh(points: Tensor, vertices: Tensor, faces: Tensor) -> Tensor:
    """Whether points are inside a mesh as it is, holes bridged: its winding number is over one half.

    Faces must look outwards for the most part. What lies outside the box of the mesh is not inside.

    Args:
        points: [P, 3], float32 or float64, any unit.
        vertices: [V, 3], dtype of points.
        faces: int32 or int64 [F, 3]; one with a corner that is not finite is left out.

    Returns:
        bool [P]; False where a point is not finite. Where the exact number is within .02 of one half it may be
        either.

    Raises:
        MaquetteError: shapes, dtypes or devices that do not fit.

    Source: as :func:`winding_number`.
    """
    return INSIDE_MESH(points, vertices, faces)  # type: ignore[no-any-return]


def unsigned_distance(points: Tensor, vertices: Tensor, faces: Tensor) -> Tensor:
    """Distance [P] of points to a mesh, differentiable; arguments as of :func:`closest_on_mesh`."""
    return closest_on_mesh(points, vertices, faces)[0]


def signed_distance(points: Tensor, vertices: Tensor, faces: Tensor) -> Tensor:
    """Distance [P] of points to a mesh, negative inside: exact lengths, hard signs, differentiable.

    The sign is that of :func:`inside_mesh`. It is hard: a soft one, as (1 - 2w) times the distance gives, bends
    every distance near a defect. Arguments and gradients as of :func:`closest_on_mesh`.
    """
    distance = unsigned_distance(points, vertices, faces)
    inside = inside_mesh(points.detach(), vertices.detach(), faces)
    return torch.where(inside, -distance, distance)
