"""Finisher ``remesh``: new, even faces for the same surface."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from maquette.errors import MaquetteError
from maquette.types import Asset, Mesh
from maquette_data3d.finishing.apart import run_apart
from maquette_data3d.finishing.decimate import decimated
from maquette_data3d.finishing.record import recorded
from maquette_data3d.finishing.repair import cleaned
from maquette_data3d.finishing.selection import areas, welded
from maquette_data3d.finishing.solid import closed_surface
from maquette_data3d.finishing.transfer import transfer

TOPOLOGIES = {"triangle": (6, 3), "quad": (4, 4)}  # symmetry of the orientation and of the position field
_OFF = 0.5  # share of the area that new faces may lose or add before the result is not believed


@dataclass
class RemeshConfig:
    """What the new faces are like.

    Attributes:
        faces: about how many; quads count once.
        topology: "triangle" (even-sided triangles) or "quad" (quads where the surface lets them be).
        crease: degrees from which an edge is held as it is; 0 holds none.
        resolution: above 0, the surface is first closed on a grid of so many cells a side: for broken meshes.
    """

    faces: int = 5000
    topology: str = "triangle"
    crease: float = 0.0
    resolution: int = 0


class Remesh:
    """Faces along a smooth field of directions over the surface, by Instant Meshes.

    Our meshes hold triangles: a quad is two of them, one after the other, and their number stands in
    ``metadata["finishing"]``. Where Instant Meshes fails, the surface is closed on a grid and decimated instead.

    Source: Jakob et al. 2015, Instant Field-Aligned Meshes.
    """

    def __init__(self, config: RemeshConfig) -> None:
        if config.topology not in TOPOLOGIES or config.faces < 8:
            raise MaquetteError(
                f"remesh: topology '{config.topology}' with {config.faces} faces: topology is one of "
                f"{', '.join(TOPOLOGIES)}, faces at least 8"
            )
        self.config = config

    def __call__(self, asset: Asset) -> Asset:
        """The asset with new faces and what its mesh carried, looked up at the nearest point of the old surface.

        Raises:
            MaquetteError: no face has any area.
        """
        config, mesh = self.config, cleaned(asset.mesh)[0]
        did: dict[str, object] = {"topology": config.topology, "faces": [len(asset.mesh.faces), 0]}
        warnings = []
        try:
            vertices, faces = self._surface(mesh)
            vertices, faces = _aligned(vertices, faces, config)
            if config.topology == "quad":
                did["quads"] = quads(faces)
        except MaquetteError as error:
            warnings.append(f"closed on a grid and decimated instead: {error}")
            vertices, faces = closed_surface(mesh, config.resolution or 96)
            fewer = decimated(Mesh(vertices, faces), config.faces * (2 if config.topology == "quad" else 1))
            vertices, faces = fewer.vertices, fewer.faces
        result = transfer(asset.mesh, vertices, faces)
        did["faces"] = [len(asset.mesh.faces), len(faces)]
        return recorded(asset, result, "remesh", did, warnings)

    def _surface(self, mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
        if self.config.resolution:
            return closed_surface(mesh, self.config.resolution)
        return welded(mesh)


def quads(faces: np.ndarray) -> int:
    """Pairs of neighbouring triangles that are one quad: the second begins where the first ends, over one diagonal."""
    count, place = 0, 0
    while place + 1 < len(faces):
        shared = len(set(faces[place].tolist()) & set(faces[place + 1].tolist()))
        count, place = (count + 1, place + 2) if shared == 2 else (count, place + 1)
    return count


def _aligned(vertices: np.ndarray, faces: np.ndarray, config: RemeshConfig) -> tuple[np.ndarray, np.ndarray]:
    """New vertices float32 [V, 3] and faces int [F, 3].

    Raises:
        MaquetteError: Instant Meshes failed, or what it gave is not this surface.
    """
    rosy, posy = TOPOLOGIES[config.topology]
    options = {
        "rosy": rosy,
        "posy": posy,
        "target_face_count": config.faces,
        "crease_angle": config.crease or -1.0,
        "align_to_boundaries": True,
        "deterministic": True,
    }
    centre, size = vertices.mean(0), float(np.ptp(vertices, axis=0).max())
    found, triangles = run_apart("field_aligned", (vertices - centre) / size, faces, options)
    found = found.astype(np.float32) * size + centre
    if not np.isfinite(found).all():
        raise MaquetteError("Instant Meshes gave vertices that are not numbers")
    triangles = triangles[areas(found, triangles) > 0]
    before, after = areas(vertices, faces).sum(), areas(found, triangles).sum()
    if not abs(after - before) <= _OFF * before:
        raise MaquetteError(f"Instant Meshes lost the surface: its area went from {before:.3g} to {after:.3g}")
    return found, triangles
