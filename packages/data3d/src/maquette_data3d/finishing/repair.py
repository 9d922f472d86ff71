"""Finisher ``repair``: a mesh that is sound: welded, turned outwards, without duplicates, closed where it can be."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from maquette.errors import MaquetteError
from maquette.types import Asset, Mesh
from maquette_data3d.finishing.holes import boundary_loops, patch
from maquette_data3d.finishing.record import recorded
from maquette_data3d.finishing.selection import areas, selected, welded, with_vertices
from maquette_data3d.geometry.bodies import winding
from maquette_data3d.geometry.distance import outward
from maquette_data3d.geometry.repair import CleanMesh, clean, components, normalise

_PROBES = 32
_IN = 0.9  # share of a shell's probes that must lie in other shells


@dataclass
class RepairConfig:
    """What is done besides welding, removing doubles and turning faces.

    Attributes:
        holes: close a border where the patch has at most this share of its piece's area; 0 leaves all open.
        floaters: remove loose pieces with less than this share of the whole area.
        inner_shells: remove closed pieces that lie wholly inside others.
    """

    holes: float = 0.3
    floaters: float = 0.0
    inner_shells: bool = False


class Repair:
    """Repairs in a fixed order; textures, colours, parts and skin stay with the faces and vertices that stay."""

    def __init__(self, config: RepairConfig) -> None:
        if not 0 <= config.holes <= 1 or not 0 <= config.floaters < 1:
            raise MaquetteError(
                f"repair: holes {config.holes} and floaters {config.floaters} are shares of an area: from 0 to 1"
            )
        self.config = config

    def __call__(self, asset: Asset) -> Asset:
        """The asset with a sound mesh; what was done is in ``metadata["finishing"]``, with counts.

        Raises:
            MaquetteError: no face has any area.
        """
        mesh, did = cleaned(asset.mesh)
        if self.config.floaters or self.config.inner_shells:
            mesh = self._without_shells(mesh, did)
        if self.config.holes:
            mesh = closed(mesh, self.config.holes, did)
        return recorded(asset, mesh, "repair", did, _doubts(mesh))

    def _without_shells(self, mesh: Mesh, did: dict[str, int]) -> Mesh:
        vertices, faces = welded(mesh)
        shell = shells(faces)
        area = np.bincount(shell, areas(vertices, faces))
        gone = area < self.config.floaters * area.sum()
        gone[area.argmax()] = False
        did["floaters"] = int(gone.sum())
        if self.config.inner_shells:
            inside = _enclosed(vertices, faces, shell) & ~gone
            did["inner_shells"] = int(inside.sum())
            gone |= inside
        return selected(mesh, np.flatnonzero(~gone[shell]))


def cleaned(mesh: Mesh) -> tuple[Mesh, dict[str, int]]:
    """The mesh welded, without faces that are doubled or have no area, turned consistently outwards; and counts.

    Raises:
        MaquetteError: no face has any area.
    """
    used = mesh.vertices[mesh.faces]
    if not len(used) or not np.ptp(used.reshape(-1, 3), axis=0).any():
        raise MaquetteError("no face of the mesh has any area")
    black = np.broadcast_to(np.zeros(1, np.uint8), used.shape)
    found = clean(mesh.vertices.astype(np.float64), mesh.faces, black)
    if not len(found.faces):
        raise MaquetteError("no face of the mesh has any area")
    outwards = (outward(found.vertices, found.faces, found.component) != found.faces).any(1)
    did = {**found.repairs, "flipped_faces": int((found.turned ^ outwards).sum())}
    return _rebuilt(mesh, found, outwards), {name: count for name, count in did.items() if count}


def shells(faces: np.ndarray) -> np.ndarray:
    """Number of the connected piece of each face, int [F]; faces int [F, 3], welded."""
    return components(faces, int(faces.max(initial=0)) + 1)


def _rebuilt(mesh: Mesh, found: CleanMesh, outwards: np.ndarray) -> Mesh:
    """The mesh that ``found`` is of, in its own place and with what it carries; ``outwards`` faces turned."""
    chosen = selected(mesh, found.source_face, found.turned)
    where = mesh.vertices[found.source_vertex[found.faces]].reshape(-1, 3)
    keys = [found.faces.reshape(-1, 1).astype(np.int64)]
    if chosen.colors is not None:
        keys.append(chosen.colors[chosen.faces].reshape(-1, 4).astype(np.int64))
    _, first, index = np.unique(np.concatenate(keys, 1), axis=0, return_index=True, return_inverse=True)
    merged = with_vertices(chosen, chosen.faces.reshape(-1)[first], index.reshape(-1, 3))
    return selected(replace(merged, vertices=where[first]), np.arange(len(merged.faces)), outwards)


def _enclosed(vertices: np.ndarray, faces: np.ndarray, shell: np.ndarray) -> np.ndarray:
    """Which shells lie inside the others, bool [S]."""
    placed = normalise(vertices.astype(np.float64))
    inside = np.zeros(int(shell.max()) + 1, bool)
    for number in range(len(inside)):
        own = faces[shell == number]
        probes = placed[own].mean(1)[:: max(1, len(own) // _PROBES)]
        others = faces[shell != number]
        if len(others):
            inside[number] = (winding(placed, others, probes) > 0.5).mean() >= _IN
    return inside


def closed(mesh: Mesh, largest: float, did: dict[str, int]) -> Mesh:
    """The mesh with the holes closed whose patch is at most a share of its piece's area."""
    vertices, faces = welded(mesh)
    shell = shells(faces)
    area = np.bincount(shell, areas(vertices, faces))
    for loop in boundary_loops(faces):
        points = vertices[faces[loop[:, 0], loop[:, 1]]].astype(np.float64)
        triangles = patch(points)
        with_middle = np.concatenate([points, points.mean(0, keepdims=True)])
        if areas(with_middle, triangles).sum() > largest * area[shell[loop[0, 0]]]:
            continue
        mesh = _patched(mesh, loop, triangles)
        did["holes_filled"] = did.get("holes_filled", 0) + 1
        did["faces_added"] = did.get("faces_added", 0) + len(triangles)
    return mesh


def _patched(mesh: Mesh, loop: np.ndarray, triangles: np.ndarray) -> Mesh:
    """The mesh with triangles int [M, 3] over a loop's corners [N, 2] and, as number N, their middle."""
    face, corner = loop.T
    vertex = mesh.faces[face, corner].astype(np.int64)
    fan = bool((triangles == len(loop)).any())
    if fan:
        mesh, vertex = _with_middle(mesh, vertex), np.append(vertex, len(mesh.vertices))
        face, corner = np.append(face, face[0]), np.append(corner, corner[0])
    beside = face[triangles[:, 0]]
    longer = {"faces": np.concatenate([mesh.faces, vertex[triangles]])}
    if mesh.uv is not None:
        longer["uv"] = np.concatenate([mesh.uv, mesh.uv[face, corner][triangles]])
    for name in ("material", "part"):
        held = getattr(mesh, name)
        if held is not None:
            longer[name] = np.concatenate([held, held[beside]])
    return replace(mesh, **longer)


def _with_middle(mesh: Mesh, vertex: np.ndarray) -> Mesh:
    """The mesh with one vertex more, the mean of some; its colour and joints are the first one's."""
    every = np.append(np.arange(len(mesh.vertices)), vertex[0])
    longer = with_vertices(mesh, every, mesh.faces)
    places = longer.vertices.copy()
    places[-1] = mesh.vertices[vertex].mean(0)
    return replace(longer, vertices=places)


def _doubts(mesh: Mesh) -> list[str]:
    _, faces = welded(mesh)
    sides = np.sort(np.stack([faces, np.roll(faces, -1, 1)], -1).reshape(-1, 2), axis=1)
    _, count = np.unique(sides, axis=0, return_counts=True)
    doubts = []
    if (count == 1).any():
        doubts.append(f"{int((count == 1).sum())} sides are still open")
    if (count > 2).any():
        doubts.append(f"{int((count > 2).sum())} edges have more than two faces")
    return doubts
