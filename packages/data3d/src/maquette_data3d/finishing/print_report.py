"""What a printer would stumble over."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from maquette.types import Mesh
from maquette_data3d.finishing.repair import cleaned, shells
from maquette_data3d.finishing.selection import areas, volume, welded
from maquette_data3d.finishing.transfer import nearest
from maquette_data3d.geometry.sampling import surface_samples

_PROBES = 4096
_OPPOSITE = -0.5  # cosine between the normals of a wall's two sides at the most
_SHRINKS = 12
_BED = 0.2  # millimetres above the lowest point that count as lying on the bed


@dataclass(frozen=True)
class PrintReport:
    """A mesh at its printed size; lengths in millimetres.

    Attributes:
        size_mm: width, height and depth.
        watertight: every edge has exactly two faces, in opposite directions.
        open_sides, crowded_edges, turned_faces: what keeps it from being so: edges with one face, with more than two,
            faces that look the other way than their neighbours.
        shells: connected pieces; more than one may be loose.
        volume_mm3: enclosed, where it is watertight.
        thinnest_mm: thickness of the thinnest wall that was found; None without any.
        thin_share: share of the area whose wall is thinner than the minimum.
        overhang_share: share of the area that hangs over by more than the angle and does not lie on the bed.
        problems: what has to be mended, a sentence each; printable without any.
    """

    size_mm: tuple[float, float, float]
    watertight: bool
    open_sides: int
    crowded_edges: int
    turned_faces: int
    shells: int
    volume_mm3: float | None
    thinnest_mm: float | None
    thin_share: float
    overhang_share: float
    problems: tuple[str, ...]

    @property
    def printable(self) -> bool:
        """Nothing has to be mended; overhangs only need supports."""
        return not self.problems

    def plain(self) -> dict[str, Any]:
        """The report as JSON can hold it."""
        entry = asdict(self)
        return {
            **entry,
            "size_mm": list(self.size_mm),
            "problems": list(self.problems),
            "printable": self.printable,
        }


def print_report(mesh: Mesh, wall_mm: float, overhang: float) -> PrintReport:
    """Checks a mesh whose unit is the millimetre and whose y points up.

    Args:
        wall_mm: the thinnest wall that the printer makes.
        overhang: degrees from upright that it prints without supports.
    """
    vertices, faces = welded(mesh)
    open_sides, crowded, against = edge_faults(faces)
    sound, did = cleaned(mesh)
    thickness = wall_thickness(sound, wall_mm)
    thin = thickness.below < wall_mm
    size = np.ptp(vertices[np.unique(faces)].astype(np.float64), axis=0)
    watertight = not (open_sides or crowded or against)
    found = np.flatnonzero(np.isfinite(thickness.below))
    share = float(thin.mean())
    problems = []
    if open_sides:
        problems.append(f"{open_sides} open sides: the surface is not closed")
    if crowded:
        problems.append(f"{crowded} edges with more than two faces")
    if against:
        problems.append(f"{did.get('flipped_faces', against)} faces look the wrong way")
    if share > 0.002:
        problems.append(f"{share:.1%} of the area has walls thinner than {wall_mm:g} mm")
    return PrintReport(
        size_mm=tuple(round(float(side), 3) for side in size),  # type: ignore[arg-type]
        watertight=watertight,
        open_sides=open_sides,
        crowded_edges=crowded,
        turned_faces=did.get("flipped_faces", 0),
        shells=int(shells(faces).max()) + 1,
        volume_mm3=round(volume(vertices, faces), 3) if watertight else None,
        thinnest_mm=round(float(thickness.below[found].min()), 3) if len(found) else None,
        thin_share=round(share, 4),
        overhang_share=round(_overhanging(sound, overhang), 4),
        problems=tuple(problems),
    )


def edge_faults(faces: np.ndarray) -> tuple[int, int, int]:
    """Edges with one face, with more than two, and with two that run along it the same way; faces welded [F, 3]."""
    start, end = faces.astype(np.int64).reshape(-1), np.roll(faces, -1, 1).astype(np.int64).reshape(-1)
    key = np.minimum(start, end) * (int(faces.max(initial=0)) + 1) + np.maximum(start, end)
    _, edge, count = np.unique(key, return_inverse=True, return_counts=True)
    forward = np.bincount(edge.reshape(-1), start < end, len(count))
    return int((count == 1).sum()), int((count > 2).sum()), int(((count == 2) & (forward != 1)).sum())


@dataclass(frozen=True)
class Thickness:
    """Under points drawn evenly on a surface.

    Attributes:
        below: float64 [P], diameter of the largest ball that touches the point from inside and no other wall; inf
            where no opposite wall is nearer than about twice the minimum.
        middle: float64 [P, 3], the balls' centres.
    """

    below: np.ndarray
    middle: np.ndarray


def wall_thickness(mesh: Mesh, least: float, probes: int = _PROBES) -> Thickness:
    """Thickness of walls, where it may be below ``least``, by balls that shrink until they fit.

    A wall is what has a face looking away on its other side: edges and corners, where balls shrink too, do not count.

    Source: Ma, Bae and Choi 2012, 3D medial axis point approximation using nearest neighbors and the normal field.
    """
    samples = surface_samples(mesh.vertices, mesh.faces, probes, np.random.default_rng(0))
    points, normals = samples.points.astype(np.float64), samples.normals.astype(np.float64)
    radius = np.full(len(points), float(least))
    opposite = np.zeros(len(points), bool)
    corners = mesh.vertices[mesh.faces].astype(np.float64)
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-300)
    active = np.arange(len(points))
    for _ in range(_SHRINKS):
        centre = points[active] - normals[active] * radius[active, None]
        found = nearest(mesh, centre)
        touched = found.mix(corners)
        fits = found.distance >= radius[active] * (1 - 1e-3)
        away = points[active] - touched
        along = (away * normals[active]).sum(1)
        smaller = np.where(along > 1e-12, (away**2).sum(1) / np.maximum(2 * along, 1e-12), np.inf)
        shrinks = ~fits & (smaller < radius[active])
        active, facing = active[shrinks], across[found.face[shrinks]]
        if not len(active):
            break
        opposite[active] = (facing * normals[active]).sum(1) < _OPPOSITE
        radius[active] = smaller[shrinks]
    below = np.where(opposite, 2 * radius, np.inf)
    return Thickness(below, points - normals * radius[:, None])


def _overhanging(mesh: Mesh, degrees: float) -> float:
    """Share of a mesh's area that looks down more steeply than an angle from upright, the bed's contact apart."""
    corners = mesh.vertices[mesh.faces].astype(np.float64)
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = areas(mesh.vertices, mesh.faces)
    down = -across[:, 1] / np.maximum(2 * area, 1e-300)
    hangs = down > np.sin(np.radians(degrees)) + 1e-6
    on_bed = corners[..., 1].max(1) <= corners[..., 1].min() + _BED
    return float(area[hangs & ~on_bed].sum() / area.sum())
