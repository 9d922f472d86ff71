"""Finishers ``collision`` and ``inertia``: what a simulator has to know."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from maquette.errors import MaquetteError
from maquette.types import Asset, Mesh
from maquette_data3d.exporting.robots.body import hull_around
from maquette_data3d.exporting.units import unit_of
from maquette_data3d.finishing.apart import run_apart
from maquette_data3d.finishing.print_report import edge_faults
from maquette_data3d.finishing.record import recorded
from maquette_data3d.finishing.repair import cleaned
from maquette_data3d.finishing.selection import volume, welded
from maquette_data3d.finishing.solid import closed_surface

WATER = 1000.0
_SEARCH = {"mcts_iterations": 60, "preprocess_resolution": 30}  # a third of the library's own work, much the same cuts
_MOST_FACES = 60_000  # given to the decomposition; more only take longer


@dataclass
class CollisionConfig:
    """How close the pieces are.

    Attributes:
        threshold: concavity in [0.01, 1] that a piece may have: lower gives more pieces.
        most: pieces at the most; -1 for as many as the threshold wants.
        seed: of the search for cuts.
    """

    threshold: float = 0.05
    most: int = 32
    seed: int = 0


class Collision:
    """Convex pieces that fill the asset, in ``metadata["collision"]``: vertices and faces each, in the mesh's unit.

    Where the decomposition fails there is one piece, the convex hull of the whole.
    """

    def __init__(self, config: CollisionConfig) -> None:
        if not 0.01 <= config.threshold <= 1 or config.most == 0:
            raise MaquetteError(
                f"collision: threshold is {config.threshold} and most {config.most}: from 0.01 to 1, and at least 1"
            )
        self.config = config

    def __call__(self, asset: Asset) -> Asset:
        """The asset with its pieces.

        Raises:
            MaquetteError: a flat mesh, which nothing can collide with.
        """
        sound = cleaned(asset.mesh)[0]
        around = hull_around(sound)
        warnings = []
        try:
            pieces = self._pieces(sound)
        except MaquetteError as error:
            warnings.append(f"one hull around everything instead: {error}")
            pieces = [around]
        ratio = sum(volume(piece.vertices, piece.faces) for piece in pieces) / volume(around.vertices, around.faces)
        did = {"pieces": len(pieces), "share_of_hull": round(ratio, 3)}
        out = recorded(asset, asset.mesh, "collision", did, warnings)
        out.metadata["collision"] = [
            {"vertices": piece.vertices.tolist(), "faces": piece.faces.tolist()} for piece in pieces
        ]
        return out

    def _pieces(self, mesh: Mesh) -> list[Mesh]:
        vertices, faces = welded(mesh)
        if len(faces) > _MOST_FACES:
            raise MaquetteError(f"{len(faces)} faces are too many: decimate to {_MOST_FACES} before")
        config = self.config
        options = {"threshold": config.threshold, "max_convex_hull": config.most, "seed": config.seed, **_SEARCH}
        found = run_apart("convex_pieces", vertices, faces, options)
        pieces = [
            hull_around(Mesh(points, triangles)) for points, triangles in zip(found[::2], found[1::2], strict=True)
        ]
        if not pieces:
            raise MaquetteError("the decomposition gave no pieces")
        return pieces


@dataclass
class InertiaConfig:
    """``density``: kg a cubic metre; ``resolution``: of the grid that meshes which are not closed are filled on."""

    density: float = WATER
    resolution: int = 96


class Inertia:
    """Mass, centre and tensor of the asset as a solid, in ``metadata["inertia"]``: SI units, the mesh's axes."""

    def __init__(self, config: InertiaConfig) -> None:
        if not config.density > 0 or config.resolution < 16:
            raise MaquetteError(
                f"inertia: density is {config.density} and resolution {config.resolution}: above 0, and at least 16"
            )
        self.config = config

    def __call__(self, asset: Asset) -> Asset:
        """The asset with its mass properties; the tensor is about the centre of mass.

        Raises:
            MaquetteError: no face has any area, or it encloses nothing.
        """
        mesh = cleaned(asset.mesh)[0]
        vertices, faces = welded(mesh)
        warnings = []
        if any(edge_faults(faces)) or volume(vertices, faces) <= 0:
            vertices, faces = closed_surface(mesh, self.config.resolution)
            warnings.append(f"the mesh is not closed: filled on a grid of {self.config.resolution}")
        if mesh.unit_m is None:
            warnings.append("the mesh does not say its unit: taken as metres")
        found = mass_properties(vertices * unit_of(mesh), faces, self.config.density)
        out = recorded(asset, asset.mesh, "inertia", {"mass": found["mass"]}, warnings)
        out.metadata["inertia"] = found
        return out


def mass_properties(vertices: np.ndarray, faces: np.ndarray, density: float) -> dict[str, object]:
    """Density, volume, mass, centre and tensor [3, 3] about it of a closed surface's inside, in SI units.

    Args:
        vertices: float [V, 3], metres; faces: int [F, 3], outwards.

    Raises:
        MaquetteError: nothing is enclosed.
    """
    from trimesh.triangles import mass_properties as properties

    found = properties(vertices[faces].astype(np.float64), density=density)
    if not found.mass > 0:
        raise MaquetteError("the mesh encloses no volume: it weighs nothing")
    return {
        "density": density,
        "volume": float(found.volume),
        "mass": float(found.mass),
        "centre": np.asarray(found.center_mass).tolist(),
        "inertia": np.asarray(found.inertia).tolist(),
    }
