"""A mesh as graphics formats want it: a piece a part and material, a vertex for each place, seam and hard edge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from maquette.types import Mesh


@dataclass(frozen=True)
class Piece:
    """Faces of one part that one material covers.

    Attributes:
        part: place in the mesh's part names, 0 where it has none.
        material: place in the mesh's materials, -1 for none.
        rows: int64 [F], the mesh's faces.
        faces: int64 [F, 3], places in the piece's own vertices.
        source: int64 [N], the mesh's vertex behind each of them.
        uv: float32 [N, 2], v downwards, or None.
        normals: float32 [N, 3], or None.
    """

    part: int
    material: int
    rows: np.ndarray
    faces: np.ndarray
    source: np.ndarray
    uv: np.ndarray | None
    normals: np.ndarray | None


def pieces(mesh: Mesh, normals: np.ndarray | None = None) -> list[Piece]:
    """All pieces, by part, then by material; faces keep their order in each.

    Args:
        normals: float32 [F, 3, 3], one a corner, or None for flat faces.
    """
    part, material = parts_of(mesh), materials_of(mesh)
    order = np.lexsort((material, part))
    change = np.flatnonzero((np.diff(part[order]) != 0) | (np.diff(material[order]) != 0)) + 1
    return [_piece(mesh, rows, normals) for rows in np.split(order, change) if len(rows)]


def parts_of(mesh: Mesh) -> np.ndarray:
    """int32 [F], the part of each face."""
    return np.zeros(len(mesh.faces), np.int32) if mesh.part is None else mesh.part


def materials_of(mesh: Mesh) -> np.ndarray:
    """int32 [F], the material of each face, -1 for none."""
    return np.full(len(mesh.faces), -1, np.int32) if mesh.material is None else mesh.material


def distinct(columns: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """First places of the distinct rows of columns [N], in ascending order of rows, and each row's number int64 [N]."""
    order = np.lexsort(columns[::-1])
    new = np.zeros(len(order), bool)
    new[:1] = True
    for column in columns:
        new[1:] |= np.diff(column[order]) != 0
    number = np.empty(len(order), np.int64)
    number[order] = np.cumsum(new) - 1
    return order[new], number


def _piece(mesh: Mesh, rows: np.ndarray, normals: np.ndarray | None) -> Piece:
    vertex = mesh.faces[rows].reshape(-1)
    columns = [vertex]
    uv = None if mesh.uv is None else mesh.uv[rows].reshape(-1, 2)
    normal = None if normals is None else normals[rows].reshape(-1, 3)
    for values in (uv, normal):
        # By their bits: what is written is exactly what was there.
        columns += [] if values is None else list(np.ascontiguousarray(values, np.float32).view(np.int32).T)
    first, number = distinct(columns)
    return Piece(
        int(parts_of(mesh)[rows[0]]),
        int(materials_of(mesh)[rows[0]]),
        rows,
        number.reshape(-1, 3),
        vertex[first].astype(np.int64),
        None if uv is None else uv[first],
        None if normal is None else normal[first],
    )
