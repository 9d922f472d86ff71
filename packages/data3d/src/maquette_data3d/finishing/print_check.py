"""Finishers ``print_check`` and ``print_repair``: can it be printed, and a version that can."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from maquette.errors import MaquetteError
from maquette.placement import moved
from maquette.types import Asset, Mesh
from maquette_data3d.finishing.print_report import edge_faults, print_report, wall_thickness
from maquette_data3d.finishing.record import recorded
from maquette_data3d.finishing.repair import cleaned, closed, shells
from maquette_data3d.finishing.selection import volume, welded
from maquette_data3d.finishing.solid import closed_surface
from maquette_data3d.finishing.transfer import transfer

_MM = 0.001
_FINEST = 256
_CELL_SHARE = 0.15  # of a cell that simplification may move the surface by
_MARGIN = 1.3  # of the least wall that thin ones are made: marching cubes cuts some off again


@dataclass
class PrintCheckConfig:
    """The printer and the size.

    Attributes:
        wall_mm: thinnest wall that it makes.
        overhang: degrees from upright that it prints without supports.
        size_mm: longest side of the print; None prints the mesh as large as its unit says.
    """

    wall_mm: float = 1.0
    overhang: float = 45.0
    size_mm: float | None = None

    def __post_init__(self) -> None:
        if not self.wall_mm > 0 or not 0 < self.overhang < 90 or (self.size_mm is not None and not self.size_mm > 0):
            raise MaquetteError(
                f"printing: wall_mm {self.wall_mm}, overhang {self.overhang}, size_mm {self.size_mm}: give lengths "
                "above 0 and an angle between 0 and 90"
            )


class PrintCheck:
    """Leaves the mesh as it is and a report in ``metadata["print_check"]``."""

    def __init__(self, config: PrintCheckConfig) -> None:
        self.config = config

    def __call__(self, asset: Asset) -> Asset:
        """The asset with the report of its mesh at its printed size.

        Raises:
            MaquetteError: nobody says how large it is, or no face has any area.
        """
        mesh = in_millimetres(asset.mesh, self.config.size_mm)
        report = print_report(mesh, self.config.wall_mm, self.config.overhang).plain()
        did = {"printable": report["printable"]}
        out = recorded(asset, asset.mesh, "print_check", did, report["problems"])
        out.metadata["print_check"] = report
        return out


@dataclass
class PrintRepairConfig(PrintCheckConfig):
    """As for ``print_check``; ``resolution``: cells a side of the grid that broken or thin meshes are closed on."""

    resolution: int = 192


class PrintRepair:
    """A closed mesh without walls that are too thin.

    Faces are turned and holes filled; overlapping pieces of a closed mesh unite exactly. Where that is not enough, the
    surface is taken anew from a grid of distances, thickened where walls are thin.

    Source: the union by Manifold (Lalish 2022, github.com/elalish/manifold).
    """

    def __init__(self, config: PrintRepairConfig) -> None:
        if config.resolution < 16:
            raise MaquetteError(f"print_repair: resolution is {config.resolution}; give at least 16")
        self.config = config

    def __call__(self, asset: Asset) -> Asset:
        """The asset with a printable mesh, in millimetres, and the report of what it is now.

        Raises:
            MaquetteError: nobody says how large it is, no face has any area, or the grid loses it.
        """
        config = self.config
        mesh = in_millimetres(asset.mesh, config.size_mm)
        did: dict[str, object] = {}
        whole = _united(closed(cleaned(mesh)[0], 0.3, {}))
        thin = wall_thickness(whole or cleaned(mesh)[0], config.wall_mm)
        weak = thin.below < config.wall_mm
        if whole is not None and weak.mean() <= 0.002:
            did["by"], result = "union", transfer(mesh, whole.vertices, whole.faces)
        else:
            did["by"], result = "grid", self._on_grid(mesh, thin.middle[weak])
        out = PrintCheck(config)(replace(asset, mesh=result))
        report = out.metadata["print_check"]
        return recorded(out, result, "print_repair", did, report["problems"])

    def _on_grid(self, mesh: Mesh, middles: np.ndarray) -> Mesh:
        side = float(np.ptp(mesh.vertices[mesh.faces].reshape(-1, 3), axis=0).max())
        # Three cells over the thinnest wall, so that the grid can hold it; no finer than memory allows.
        wanted = int(3 * side / 0.9 / self.config.wall_mm)
        resolution = min(max(self.config.resolution, min(wanted, _FINEST)), _FINEST)
        radius = self.config.wall_mm / 2 * _MARGIN
        vertices, faces = closed_surface(mesh, resolution, middles, radius)
        vertices, faces = _simpler(vertices, faces, _CELL_SHARE * side / 0.9 / resolution)
        return transfer(mesh, vertices, faces)


def in_millimetres(mesh: Mesh, size_mm: float | None) -> Mesh:
    """The mesh with a millimetre as its unit.

    Raises:
        MaquetteError: it does not say its unit and no size is given.
    """
    side = float(np.ptp(mesh.vertices[mesh.faces].reshape(-1, 3), axis=0).max(initial=0.0))
    if size_mm is not None and side > 0:
        return replace(moved(mesh, size_mm / side, np.zeros(3)), unit_m=_MM)
    if mesh.unit_m is None:
        raise MaquetteError("nobody knows how large the mesh is: give size_mm, the longest side of the print")
    return replace(moved(mesh, mesh.unit_m / _MM, np.zeros(3)), unit_m=_MM)


def _united(mesh: Mesh) -> Mesh | None:
    """The union of a mesh's closed pieces; None where one is not closed."""
    import manifold3d

    vertices, faces = welded(mesh)
    if any(edge_faults(faces)) or volume(vertices, faces) <= 0:
        return None
    if int(shells(faces).max()) == 0:
        return Mesh(vertices, faces)
    number = shells(faces)
    pieces = []
    for shell in range(int(number.max()) + 1):
        used, index = np.unique(faces[number == shell], return_inverse=True)
        pieces.append(_manifold(vertices[used], index.reshape(-1, 3)))
    if any(piece.status() != manifold3d.Error.NoError for piece in pieces):
        return None
    whole = _triangles(manifold3d.Manifold.batch_boolean(pieces, manifold3d.OpType.Add))
    return Mesh(*whole) if len(whole[1]) else None


def _simpler(vertices: np.ndarray, faces: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """A closed surface with fewer faces that is still closed and lies within a tolerance; as it is where it cannot."""
    fewer = _triangles(_manifold(vertices, faces).simplify(tolerance))
    return fewer if len(fewer[1]) else (vertices, faces)


def _manifold(vertices: np.ndarray, faces: np.ndarray) -> Any:
    import manifold3d

    return manifold3d.Manifold(manifold3d.Mesh(vertices.astype(np.float32), faces.astype(np.uint32)))


def _triangles(solid: Any) -> tuple[np.ndarray, np.ndarray]:
    mesh = solid.to_mesh()
    return np.array(mesh.vert_properties[:, :3], np.float32), np.array(mesh.tri_verts, np.int32)
