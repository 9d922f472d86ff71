"""Which parts of a mesh have an inside, which are thin sheets, and how they group.

A closed part bounds a solid; the internet's meshes have holes, missing undersides, sheets without thickness.
Generalised winding numbers (Jacobson et al. 2013; fast form by Barill et al. 2018) tell them apart: just
under the surface of a solid they are 1, under that of a sheet about one half.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from maquette_data3d.geometry.repair import CleanMesh, reverse

_SAMPLES = 48
_UNDER = 2e-4  # how far under the surface the winding number is looked at
# Mean winding number there from which a part has an inside: an open hemisphere has .815, a cube without its
# bottom .9, a pipe open at both ends .70 (as long as wide, halved) to .87 (twice as long as wide).
INSIDE = 0.84
_WHOLE = 0.999  # from here on a part is closed
_HANGS = 0.65  # winding number under a face below which it only hangs on its part
_OPENING = 0.06  # share of the area that an opening has at least
_MOST_GROUPS, _MOST_PARTS = 24, 512


@dataclass(frozen=True)
class Bodies:
    """Faces grouped by how their distance is signed.

    Attributes:
        vertices: float64 [V, 3].
        faces: int32 [F, 3], solids facing outwards.
        solids: face numbers of each group of solids; parts in one group do not touch each other's boxes.
        sheet: face numbers of everything that is kept as a thin shell.
        thin: face numbers of solids that are thinner than a voxel: they get a shell as well.
        corner_colors: uint8 [F, 3, 3].
        repairs: the mesh's, with "turned_parts" added.
        source_face: int32 [F], which face of the file each face is.
        turned: bool [F], whether its corners stand in reverse order against the file.
    """

    vertices: np.ndarray
    faces: np.ndarray
    solids: list[np.ndarray]
    sheet: np.ndarray
    thin: np.ndarray
    corner_colors: np.ndarray
    repairs: dict[str, int]
    source_face: np.ndarray
    turned: np.ndarray

    @property
    def open_area(self) -> float:
        """Share of the surface that is kept as a thin shell because it has no inside."""
        a, b, c = (self.vertices[self.faces[:, corner]] for corner in range(3))
        area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
        return float(area[self.sheet].sum() / area.sum())


def winding(vertices: np.ndarray, faces: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Generalised winding number float64 [P]; 1 inside a closed outward surface, 0 outside."""
    import igl

    return np.asarray(igl.fast_winding_number(vertices, faces.astype(np.int64), np.ascontiguousarray(points)))


def find(mesh: CleanMesh, voxel: float) -> Bodies:
    """Sorts the parts of a mesh; `voxel` is the size of a cell, for what counts as thin."""
    faces, colors, repairs = mesh.faces, mesh.corner_colors, dict(mesh.repairs)
    parts = _parts(mesh)
    chosen = _inwards(mesh, parts, repairs)
    faces, colors = reverse(faces, chosen), reverse(colors, chosen)
    solids, open_parts, thin = [], [], []
    for part in parts:
        mean, deep = _depth(mesh.vertices, faces[part], voxel)
        bound, loose = part, part[:0]
        if mean < _WHOLE:
            bound, loose = _loose(mesh.vertices, faces, part)
            mean, deep = _depth(mesh.vertices, faces[bound], voxel) if len(bound) > len(loose) else (0.0, 0.0)
        if mean < INSIDE or _opens_upwards(mesh.vertices, faces[bound]):
            open_parts.append(part)
            continue
        solids.append(bound)
        open_parts += [loose] if len(loose) else []
        if deep < 0.5:
            thin.append(bound)
    together, sheet = _closed_together(mesh.vertices, faces, open_parts)
    groups = _apart(mesh.vertices, faces, solids, voxel)
    if together:
        groups.append(np.concatenate(together))
    return Bodies(
        vertices=mesh.vertices,
        faces=faces,
        solids=groups,
        sheet=_joined(sheet),
        thin=_joined(thin),
        corner_colors=colors,
        repairs=repairs,
        source_face=mesh.source_face,
        turned=mesh.turned ^ chosen,
    )


def _inwards(mesh: CleanMesh, parts: list[np.ndarray], repairs: dict[str, int]) -> np.ndarray:
    """Faces bool [F] of parts that enclose something and look into it; counts the parts."""
    vertices, faces, chosen = mesh.vertices, mesh.faces, np.zeros(len(mesh.faces), bool)
    count = 0
    for part in parts:
        if _volume(vertices, faces[part]) < 0 and _depth(vertices, faces[part][:, ::-1])[0] >= INSIDE:
            chosen[part] = True
            count += 1
    if count:
        repairs["turned_parts"] = count
    return chosen


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _opens_upwards(vertices: np.ndarray, faces: np.ndarray) -> bool:
    """Whether an opening looks up: a box without its lid is a container, one without its bottom a house.

    The area vectors of a closed surface cancel out; what is missing is the opening's.
    """
    corners = vertices[faces]
    scaled = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    opening = -scaled.sum(0)
    size = float(np.linalg.norm(opening))
    return size > _OPENING * float(np.linalg.norm(scaled, axis=1).sum()) and opening[1] > 0.5 * size


def _loose(vertices: np.ndarray, faces: np.ndarray, part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Faces of a part that bound its inside, and those that hang on it as sheets (the flaps of a box)."""
    corners = vertices[faces[part]]
    scaled = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = scaled / np.maximum(np.linalg.norm(scaled, axis=1, keepdims=True), 1e-30)
    loose = winding(vertices, faces[part], corners.mean(1) - normals * _UNDER) < _HANGS
    return part[~loose], part[loose]


def _parts(mesh: CleanMesh) -> list[np.ndarray]:
    """Face numbers of each connected part; past a bound the smallest ones are taken as one."""
    order = np.argsort(mesh.component, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(mesh.component[order])) + 1)
    if len(parts) > _MOST_PARTS:
        parts.sort(key=lambda part: (-len(part), int(part[0])))
        parts = [*parts[:_MOST_PARTS], np.sort(np.concatenate(parts[_MOST_PARTS:]))]
    return parts


def _volume(vertices: np.ndarray, faces: np.ndarray) -> float:
    corners = vertices[faces] - vertices[faces[0, 0]]
    return float(np.einsum("fi,fi->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6)


def _probes(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Evenly chosen points float64 [P, 3] on the faces, by area, and their unit normals."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    scaled = np.cross(b - a, c - a)
    lengths = np.linalg.norm(scaled, axis=1)
    total = np.cumsum(lengths)
    steps = (np.arange(_SAMPLES) + 0.5) / _SAMPLES
    chosen = np.minimum(np.searchsorted(total, steps * total[-1]), len(faces) - 1)
    u, v = (steps * 21.7) % 1.0, (steps * 34.3) % 1.0
    fold = u + v > 1
    u, v = np.where(fold, 1 - u, u)[:, None], np.where(fold, 1 - v, v)[:, None]
    points = a[chosen] + (b - a)[chosen] * u + (c - a)[chosen] * v
    return points, scaled[chosen] / np.maximum(lengths[chosen], 1e-30)[:, None]


def _depth(vertices: np.ndarray, faces: np.ndarray, voxel: float = 0.0) -> tuple[float, float]:
    """Mean winding number just under a part's surface, and the share of it that is solid a voxel deep."""
    points, normals = _probes(vertices, faces)
    under = winding(vertices, faces, np.concatenate([points - normals * _UNDER, points - normals * voxel]))
    return float(np.clip(under[:_SAMPLES], -1, 1).mean()), float((under[_SAMPLES:] > 0.5).mean())


def _closed_together(
    vertices: np.ndarray, faces: np.ndarray, parts: list[np.ndarray]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Open parts that close each other (the loose sides of a box), and those that stay sheets."""
    together = parts
    for _ in range(4):
        if len(together) < 2:
            return [], parts
        union = faces[np.concatenate(together)]
        kept = []
        for part in together:
            points, normals = _probes(vertices, faces[part])
            if np.clip(winding(vertices, union, points - normals * _UNDER), -1, 1).mean() >= INSIDE:
                kept.append(part)
        if len(kept) == len(together):
            names = {int(part[0]) for part in kept}
            return kept, [part for part in parts if int(part[0]) not in names]
        together = kept
    return [], parts


def _apart(vertices: np.ndarray, faces: np.ndarray, parts: list[np.ndarray], voxel: float) -> list[np.ndarray]:
    """Groups of parts whose boxes lie apart, so that only groups have to be combined, by a minimum."""
    boxes = [(vertices[faces[p]].min((0, 1)) - 4 * voxel, vertices[faces[p]].max((0, 1)) + 4 * voxel) for p in parts]
    groups: list[list[int]] = []
    for number in sorted(range(len(parts)), key=lambda n: (-len(parts[n]), n)):
        low, high = boxes[number]
        for group in groups:
            if all((low > boxes[o][1]).any() or (high < boxes[o][0]).any() for o in group):
                group.append(number)
                break
        else:
            if len(groups) < _MOST_GROUPS:
                groups.append([number])
            else:
                groups[-1].append(number)
    return [np.concatenate([parts[n] for n in group]) for group in groups]
