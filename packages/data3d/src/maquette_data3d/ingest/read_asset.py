"""Reading one mesh file into maquette's own types: in this process, or apart for files that one does not trust."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from maquette.errors import MaquetteError
from maquette.placement import in_unit_cube
from maquette.types import Animation, Asset, Mesh, Skeleton, Skin
from maquette_data3d.ingest import declared
from maquette_data3d.ingest.reading import ReadLimits, Scene, read


def read_mesh(path: str | Path, normalised: bool = True, largest_faces: int = 2_000_000) -> Mesh:
    """The mesh of a file; see :func:`read_asset`.

    Args:
        path: the file.
        normalised: centre it and scale its longest side to 0.9; otherwise its own units stay.
        largest_faces: refuse more than this.
    """
    mesh = read_asset(path, largest_faces).mesh
    return in_unit_cube(mesh) if normalised else mesh


def read_asset(path: str | Path, largest_faces: int = 2_000_000, apart: bool = False) -> Asset:
    """Reads GLB, glTF, OBJ, PLY, STL, OFF, 3MF, FBX, or a ZIP with one of them in it; y is up afterwards.

    Args:
        path: the file.
        largest_faces: refuse more than this.
        apart: parse it in a process of its own, bounded and confined (see `reading_apart`): for strangers' files.

    Returns:
        A mesh in the file's own units, with a vertex a color where colors differ between the faces around it,
        vertices as in the file otherwise.

    Raises:
        MaquetteError: the file is missing, of another format, or broken.
    """
    path = Path(path)
    if not path.is_file():
        raise MaquetteError(f"mesh file '{path}' does not exist")
    if path.suffix.lower() not in declared.SUFFIXES:
        raise MaquetteError(f"mesh file '{path}' is not one of {', '.join(declared.SUFFIXES)}")
    limits = ReadLimits(largest_faces=largest_faces, animations=True)
    try:
        scene = _read_apart(path, limits) if apart else read(path, limits)
    except MaquetteError as error:
        raise MaquetteError(f"mesh file '{path}' cannot be used: {error}") from None
    return _asset(scene, {"source": path.name, "up_axis": scene.up_axis})


def _read_apart(path: Path, limits: ReadLimits) -> Scene:
    from maquette_data3d.ingest.reading_apart import READERS, Confinement

    return READERS.read(path, limits, Confinement())


def _asset(scene: Scene, metadata: dict[str, str]) -> Asset:
    vertex, faces, colors = _vertices(scene)
    order, skin = _skin(scene, vertex)
    mesh = Mesh(
        vertices=scene.vertices[vertex].astype(np.float32),
        faces=faces,
        colors=np.concatenate([colors, np.full((len(colors), 1), 255, np.uint8)], 1),
        uv=scene.uv,
        material=scene.material if scene.materials else None,
        materials=scene.materials,
        images=scene.images,
        part=scene.part,
        part_names=scene.part_names,
        skin=skin,
        unit_m=scene.unit_m,
    )
    clips = [
        Animation(clip.name, clip.times, clip.rotations[:, order], clip.translations[:, order])
        for clip in scene.animations
    ]
    return Asset(mesh, metadata, tuple(clips))


def _vertices(scene: Scene) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which of the scene's vertices each vertex is [V], faces int32 [F, 3], colors uint8 [V, 3]."""
    corners, colors = scene.faces.reshape(-1), scene.corner_colors.reshape(-1, 3).astype(np.int64)
    key = ((corners << 24) | (colors[:, 0] << 16)) | (colors[:, 1] << 8) | colors[:, 2]
    _, first, index = np.unique(key, return_index=True, return_inverse=True)
    return corners[first], index.reshape(-1, 3).astype(np.int32), colors[first].astype(np.uint8)


def _skin(scene: Scene, vertex: np.ndarray) -> tuple[np.ndarray, Skin | None]:
    """The file's joints in the order of the skin, int [J], and the skin."""
    if scene.skeleton is None or scene.joints is None or scene.weights is None:
        return np.zeros(0, np.int64), None
    order, skeleton, place = _parents_first(scene.skeleton)
    return order, Skin(skeleton, place[scene.joints[vertex]], np.maximum(scene.weights[vertex], 0))


def _parents_first(skeleton: Skeleton) -> tuple[np.ndarray, Skeleton, np.ndarray]:
    """Old places with each joint after its parent, int [J], the skeleton so, and the new place of each old one."""
    depth = np.zeros(len(skeleton.parents), np.int64)
    above = skeleton.parents.copy()
    while (above >= 0).any():
        depth += above >= 0
        above = np.where(above >= 0, skeleton.parents[above], -1)
    order = np.argsort(depth, kind="stable")
    place = np.empty(len(order), np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    parents = skeleton.parents[order]
    parents = np.where(parents >= 0, place[parents], -1).astype(np.int32)
    return order, Skeleton(tuple(skeleton.names[i] for i in order), parents, skeleton.rest[order]), place
