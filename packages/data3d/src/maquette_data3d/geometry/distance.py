"""Signed distances of any triangles to any points: exact lengths, hard signs.

Winding numbers are right on holes, missing faces and overlapping solids, and wrong where faces look the wrong way;
so faces are welded and turned first. The sign is hard, inside where the number is over one half: a soft one, as
(1 - 2w) times the distance gives, bends every distance near a defect.
"""

from __future__ import annotations

import numpy as np

from maquette.errors import MaquetteError
from maquette_data3d.geometry.repair import clean, reverse
from maquette_kernels.distance.tree import TriangleTree

_CANCELS = 0.05  # length of the summed area vectors, over the area, under which a patch counts as closed
_ROUND = 0.1  # volume over area^1.5, a ball's being 1, from which an open patch has an inner side


def signed_distance(vertices: np.ndarray, faces: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Distance to a mesh as it is, negative inside.

    Inside is where the generalised winding number is over one half once the faces are welded and turned
    consistently outwards: what closed parts enclose, holes bridged; shells within a solid do not count, overlapping
    solids unite, and an open sheet has hardly any inside; nothing outside the mesh's box is inside.

    Args:
        vertices: float [V, 3], any units, finite; faces: int [F, 3]; points: float [P, 3], finite, in the same units.

    Returns:
        float64 [P], in the mesh's units; the length is exact up to rounding.

    Raises:
        MaquetteError: no face has any area, or a corner is not finite.
    """
    vertices, faces = np.asarray(vertices, np.float64), np.asarray(faces, np.int64)
    points = np.asarray(points, np.float64)
    if not np.isfinite(vertices[faces]).all():
        raise MaquetteError("signed_distance: a corner of the mesh is NaN or infinite: drop its faces first")
    if not len(faces) or (vertices[faces] == vertices[faces[0, 0]]).all():
        raise MaquetteError("signed_distance: no face of the mesh has any area: give it at least one triangle")
    mesh = clean(vertices, faces, np.broadcast_to(np.zeros(1, np.uint8), (len(faces), 3, 3)))
    if not len(mesh.faces):
        raise MaquetteError("signed_distance: no face of the mesh has any area: give it at least one triangle")
    placed = points * mesh.scale + mesh.offset
    tree = TriangleTree(mesh.vertices, outward(mesh.vertices, mesh.faces, mesh.component))
    return tree.signed(placed) / mesh.scale


def outward(vertices: np.ndarray, faces: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Faces with those parts reversed that look inwards as a whole: their volume is negative.

    The volume of a part that is far from closed says so only where it is large; sheets stay as they are.

    Args:
        vertices: float64 [V, 3]; faces: int [F, 3]; part: int [F], counted from 0.
    """
    count = int(part.max()) + 1
    corners = vertices[faces]
    vectors = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) / 2
    areas = np.linalg.norm(vectors, axis=1)
    area = np.maximum(np.bincount(part, areas, count), 1e-300)
    middles = (corners[:, 0] + corners[:, 1] + corners[:, 2]) / 3
    centre = _sums(part, middles * areas[:, None], count) / area[:, None]
    volume = np.bincount(part, ((middles - centre[part]) * vectors).sum(1) / 3, count)
    closed = np.linalg.norm(_sums(part, vectors, count), axis=1) < _CANCELS * area
    inwards = (volume < 0) & (closed | (-volume * 6 * np.sqrt(np.pi) > _ROUND * area**1.5))
    return reverse(faces, inwards[part])


def _sums(part: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    return np.stack([np.bincount(part, column, count) for column in values.T], 1)
