"""Charts of a mesh in an atlas: by xatlas, or a cell a face where that cannot be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from maquette.errors import MaquetteError

_TRIES = 5
_NARROWER = 0.98  # of what would fit if packing scaled exactly


@dataclass(frozen=True)
class Charts:
    """Where each corner lies in an atlas.

    Attributes:
        uv: float32 [F, 3, 2] in [0, 1], (0, 0) at the upper left; a face without area lies in one point.
        chart: int32 [F], number of each face's chart, -1 for a face without area.
        padding: texels between charts that the atlas really has.
    """

    uv: np.ndarray
    chart: np.ndarray
    padding: float


def by_xatlas(vertices: np.ndarray, faces: np.ndarray, resolution: int, padding: int) -> Charts:
    """Few charts of little distortion, packed into a square.

    Args:
        vertices: float32 [V, 3], welded: vertices in one place are one; faces: int [F, 3].
        resolution: side of the atlas in texels.
        padding: texels to keep free between charts.

    Raises:
        MaquetteError: xatlas gives no charts for this mesh.

    Source: Young 2018, xatlas (github.com/jpcy/xatlas); charts by least squares conformal maps (Levy et al. 2002).
    """
    density = 0.0
    for _ in range(_TRIES):
        atlas = _generate(vertices, faces, resolution, padding, density)
        side = max(atlas.width, atlas.height)
        if side <= resolution:
            break
        density = atlas.texels_per_unit * resolution / side * _NARROWER
    shrink = max(side / resolution, 1.0)  # too many charts for so few texels: they move closer
    uv = _corners(atlas, len(faces)) * (atlas.width, atlas.height) / (resolution * shrink)
    chart = _chart_of_faces(atlas)
    uv[chart < 0] = uv[chart < 0][:, :1]
    if not np.isfinite(uv).all() or uv.min() < 0 or uv.max() > 1:
        raise MaquetteError("xatlas gave texture coordinates outside the atlas")
    return Charts(uv.astype(np.float32), chart, padding / shrink)


def cell_a_face(faces: int, resolution: int, padding: int) -> Charts:
    """Every face alone: two right triangles a square cell, in rows. Always possible, and all seams.

    Args:
        faces: how many there are.
        resolution, padding: as in :func:`by_xatlas`; the padding shrinks to an eighth of a cell where it must.
    """
    side = int(np.ceil(np.sqrt(max(faces, 1) / 2)))
    cell = 1 / side
    gap = min(padding / resolution, cell / 8)
    number = np.arange(faces)
    row, column, second = number // 2 // side, number // 2 % side, number % 2 == 1
    low, high = gap / 2, cell - gap / 2
    # Half a gap off the diagonal on each side, so that the two triangles keep a whole one between them.
    short = high - gap / np.sqrt(2)
    first = np.array([[low, low], [short, low], [low, short]])
    corners = np.where(second[:, None, None], cell - first, first)
    uv = corners + np.stack([column, row], -1)[:, None] * cell
    return Charts(uv.astype(np.float32).clip(0, 1), number.astype(np.int32), gap * resolution)


def _generate(vertices: np.ndarray, faces: np.ndarray, resolution: int, padding: int, density: float) -> Any:
    import xatlas

    atlas = xatlas.Atlas()
    try:
        atlas.add_mesh(np.ascontiguousarray(vertices, np.float32), np.ascontiguousarray(faces, np.uint32))
        pack = xatlas.PackOptions()
        pack.padding = padding
        pack.resolution, pack.texels_per_unit = (resolution, 0.0) if density == 0 else (0, density)
        atlas.generate(pack_options=pack)
    except (RuntimeError, ValueError) as error:
        raise MaquetteError(f"xatlas refused the mesh: {error}") from error
    if not atlas.chart_count or not atlas.width or not atlas.height:
        raise MaquetteError("xatlas found no charts: no face has an area")
    if atlas.atlas_count > 1:
        raise MaquetteError(f"xatlas needs {atlas.atlas_count} atlases")
    return atlas


def _corners(atlas: Any, count: int) -> np.ndarray:
    _, indices, uv = atlas.get_mesh(0)
    if len(indices) != count:
        raise MaquetteError(f"xatlas gave {len(indices)} faces for {count}")
    return uv[indices].astype(np.float64)


def _chart_of_faces(atlas: Any) -> np.ndarray:
    _, indices, _ = atlas.get_mesh(0)
    _, chart_of_vertex = atlas.get_mesh_vertex_assignment(0)
    return chart_of_vertex.view(np.int32)[indices[:, 0]]  # xatlas has 2^32 - 1 for none
