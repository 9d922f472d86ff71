"""Wavefront OBJ and its material library (Wavefront's Advanced Visualizer manual, appendix B1).

Polygons become fans, negative indices count back from the line they stand on, colours may follow the coordinates of
`v` lines, `o` and `g` open a part.
"""

from __future__ import annotations

import itertools
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from maquette.errors import MaquetteError
from maquette_data3d.ingest.beside import Beside
from maquette_data3d.ingest.colors import light_of
from maquette_data3d.ingest.limits import ReadLimits
from maquette_data3d.ingest.mtl import Library
from maquette_data3d.ingest.parts import Found, Part
from maquette_data3d.ingest.pictures import Pictures
from maquette_data3d.ingest.polygons import fans


@dataclass
class _Lines:
    """Statements of a file by kind, with what held when each face was written."""

    positions: list[str] = field(default_factory=list)
    coordinates: list[str] = field(default_factory=list)
    corners: list[str] = field(default_factory=list)  # all corners of all faces, one word each
    sides: list[int] = field(default_factory=list)  # corners of each face
    before: list[tuple[int, int]] = field(default_factory=list)  # v and vt lines above each face
    part: list[int] = field(default_factory=list)
    material: list[int] = field(default_factory=list)
    part_names: list[str] = field(default_factory=lambda: [""])
    material_names: dict[str, int] = field(default_factory=dict)
    libraries: list[str] = field(default_factory=list)


def find(path: Path, limits: ReadLimits) -> Found:
    """The parts of one file; OBJ names neither a unit nor an axis."""
    lines = _lines(path.read_bytes().decode("utf-8", "replace"), limits)
    if not lines.sides:
        raise MaquetteError("empty: it holds no triangles")
    positions, tint = _positions(lines.positions)
    uv = _table(lines.coordinates, 2) if lines.coordinates else None
    sides = np.array(lines.sides)
    corner_v, corner_t = _corners(lines, sides, len(positions), 0 if uv is None else len(uv))
    triangles, source = fans(sides)
    limits.check_faces(len(triangles))
    pictures = Pictures()
    library = Library(Beside(path, limits), pictures)
    for name in lines.libraries:
        library.read(name)
    materials, places = library.chosen(lines.material_names)
    faces = corner_v[triangles]
    of_face = np.append(places, -1)[np.array(lines.material)][source]
    face_uv = None
    if uv is not None and (corner_t >= 0).any():
        at = corner_t[triangles]
        face_uv = np.where((at >= 0)[..., None], (uv * [1, -1] + [0, 1])[at], 0.0)
    return Found(
        _parts(lines, source, positions, tint=tint, faces=faces, uv=face_uv, material=of_face), materials, pictures
    )


def _lines(text: str, limits: ReadLimits) -> _Lines:
    lines = _Lines()
    part, material = 0, -1
    for line in text.replace("\\\n", " ").replace("\\\r\n", " ").splitlines():
        word, _, rest = line.strip().partition(" ")
        rest = rest.partition("#")[0].strip()
        if word == "v":
            lines.positions.append(rest)
        elif word == "vt":
            lines.coordinates.append(rest)
        elif word == "f":
            corners = rest.split()
            if len(corners) < 3:
                continue
            lines.corners.extend(corners)
            lines.sides.append(len(corners))
            lines.before.append((len(lines.positions), len(lines.coordinates)))
            lines.part.append(part)
            lines.material.append(material)
        elif word in ("o", "g"):
            lines.part_names.append(rest)
            part = len(lines.part_names) - 1
        elif word == "usemtl":
            material = lines.material_names.setdefault(rest, len(lines.material_names))
        elif word == "mtllib":
            lines.libraries.append(rest)
    limits.check_parts(len(set(lines.part)))
    limits.check_faces(len(lines.corners) - 2 * len(lines.sides))
    return lines


def _positions(lines: list[str]) -> tuple[np.ndarray, np.ndarray | None]:
    """float64 [V, 3], and linear light [V, 3] where every line carries a color behind its coordinates."""
    rows = _table(lines, None)
    if rows.shape[1] not in (6, 7):
        return rows[:, :3], None
    colors = np.nan_to_num(rows[:, 3:6])
    # Most programs write [0, 1]; some write bytes.
    if colors.max(initial=0.0) <= 1.0:
        colors = np.round(np.clip(colors, 0.0, 1.0) * 255)
    return rows[:, :3], light_of(np.clip(colors, 0, 255).astype(np.uint8))


def _table(lines: list[str], width: int | None) -> np.ndarray:
    """float64 of lines of numbers, cut to `width` columns, or to what all lines have."""
    blanks = {line.count(" ") for line in lines}
    joined = " ".join(lines)
    if len(blanks) == 1 and "\t" not in joined:  # as most files are; no line can have more numbers than that
        columns = blanks.pop() + 1
        found = _flat(joined, np.float64, len(lines) * columns)
        if found is not None and columns >= (width or 3):
            return found.reshape(-1, columns)[:, :width]
    each = [line.split() for line in lines]
    width = width or min((len(words) for words in each), default=3)
    if not each or width < 2 or any(len(words) < width for words in each):
        raise MaquetteError("unreadable: a line of an OBJ has too few numbers")
    return np.array([words[:width] for words in each], dtype=np.float64)


def _flat(text: str, dtype: type, count: int) -> np.ndarray | None:
    """`count` numbers with blanks between them; None where the text is anything else."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # numpy's word for text behind the last number
            found = np.fromstring(text, dtype, sep=" ")
    except (DeprecationWarning, ValueError):
        return None
    return found if len(found) == count else None


def _references(corners: list[str]) -> np.ndarray:
    """int64 [C, 2], vertex and texture coordinate as written, 0 for none."""
    slashes = {word.count("/") for word in corners}
    joined = " ".join(corners)
    if len(slashes) == 1:
        columns = slashes.pop() + 1
        if columns < 3 or "//" not in joined or joined.count("//") == len(corners):
            found = _flat(joined.replace("//", "/0/").replace("/", " "), np.int64, len(corners) * columns)
            if found is not None:
                found = found.reshape(len(corners), -1)
                return found[:, :2] if columns > 1 else np.hstack([found, np.zeros_like(found)])
    words = [word.split("/") for word in corners]
    return np.array([(int(word[0]), int(word[1]) if len(word) > 1 and word[1] else 0) for word in words], np.int64)


def _corners(lines: _Lines, sides: np.ndarray, vertices: int, coordinates: int) -> tuple[np.ndarray, np.ndarray]:
    """Places from 0 of each corner's vertex and texture coordinate, -1 where it has none of those."""
    vertex, texture = _references(lines.corners).T
    before = np.repeat(np.array(lines.before, np.int64), sides, axis=0)
    vertex = np.where(vertex < 0, before[:, 0] + vertex, vertex - 1)
    texture = np.where(texture < 0, before[:, 1] + texture, texture - 1)
    if vertex.min() < 0 or vertex.max() >= vertices:
        raise MaquetteError(f"index_range: a face points outside its {vertices} vertices")
    texture[(texture < 0) | (texture >= coordinates)] = -1
    return vertex, texture


def _parts(
    lines: _Lines,
    source: np.ndarray,
    positions: np.ndarray,
    *,
    tint: np.ndarray | None,
    faces: np.ndarray,
    uv: np.ndarray | None,
    material: np.ndarray,
) -> list[Part]:
    part = np.array(lines.part)[source]
    order = np.argsort(part, kind="stable")
    edges = np.flatnonzero(np.diff(part[order], prepend=-1, append=-1))
    parts = []
    for start, end in itertools.pairwise(edges):
        rows = order[start:end]
        used, index = np.unique(faces[rows], return_inverse=True)
        number = int(part[rows[0]])
        found = Part(lines.part_names[number] or f"part_{number}", number, positions[used], index.reshape(-1, 3))
        found.material = material[rows]
        found.uv = None if uv is None else uv[rows]
        if tint is not None:
            found.tint, found.paints = tint[faces[rows]], True
        parts.append(found)
    return parts
