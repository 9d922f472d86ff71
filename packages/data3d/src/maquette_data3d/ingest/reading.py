"""Reading meshes with trimesh, and trusting nothing of it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maquette.errors import MaquetteError
from maquette_data3d.ingest import declared
from maquette_data3d.ingest.colors import corner_colors
from maquette_data3d.ingest.materials import modern

_LARGEST_BYTES = 512 * 2**20
_FLAT = 1e-5


@dataclass(frozen=True)
class Geometry:
    """Triangles of one file in its own units, scene transforms applied.

    Attributes:
        vertices: float64 [V, 3], finite.
        faces: int64 [F, 3], every index in range.
        corner_colors: uint8 [F, 3, 3], sRGB of each face's corners.
    """

    vertices: np.ndarray
    faces: np.ndarray
    corner_colors: np.ndarray


def read(path: Path, largest_faces: int) -> Geometry:
    """Reads one file.

    Raises:
        MaquetteError: "reason: detail", the reason being one of the words that docs/data.md lists.
    """
    declared.check(path, _LARGEST_BYTES)
    parts = _parts(_parsed(path), linear=path.suffix.lower() in (".glb", ".gltf"))
    if not parts:
        raise MaquetteError("empty: it holds no triangles")
    count = sum(len(part.faces) for part in parts)
    if count > largest_faces:
        raise MaquetteError(f"too_many_faces: {count}, at most {largest_faces} are read")
    starts = np.cumsum([0, *(len(part.vertices) for part in parts)])
    geometry = Geometry(
        np.concatenate([part.vertices for part in parts]),
        np.concatenate([part.faces + start for part, start in zip(parts, starts, strict=False)]),
        np.concatenate([part.corner_colors for part in parts]),
    )
    _check_solid(geometry)
    return geometry


def _parsed(path: Path) -> Any:
    import trimesh
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = 64 * 2**20
    logging.getLogger("trimesh").setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            rewritten = modern(path) if path.suffix.lower() in (".glb", ".gltf") else None
            if rewritten is None:
                return trimesh.load_scene(path, process=False)
            resolver = trimesh.resolvers.FilePathResolver(path)
            kind = path.suffix.lower().removeprefix(".")
            return trimesh.load_scene(rewritten, file_type=kind, resolver=resolver, process=False)
    except MemoryError as error:
        raise MaquetteError("memory: parsing needed more than memory_mb allows") from error
    except Exception as error:  # a parser may raise anything at hostile input
        words = " ".join(str(error).split())[:120]
        raise MaquetteError(f"unreadable: {type(error).__name__}: {words}") from error


def _parts(scene: Any, linear: bool) -> list[Geometry]:
    """The scene's triangle meshes, placed; `linear` says that vertex colours and factors are linear light."""
    parts = []
    try:
        for node in scene.graph.nodes_geometry:
            transform, name = scene.graph[node]
            mesh = scene.geometry[name]
            if not hasattr(mesh, "faces") or not len(mesh.faces):
                continue
            vertices, faces = np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces, np.int64)
            _check_arrays(vertices, faces, np.asarray(transform, np.float64))
            placed = vertices @ transform[:3, :3].T + transform[:3, 3]
            colors = corner_colors(mesh, faces, linear)
            if np.linalg.det(transform[:3, :3]) < 0:  # a mirror turns triangles inside out
                faces, colors = faces[:, ::-1], colors[:, ::-1]
            parts.append(Geometry(placed, faces, colors))
    except MaquetteError:
        raise
    except MemoryError as error:
        raise MaquetteError("memory: parsing needed more than memory_mb allows") from error
    except Exception as error:
        words = " ".join(str(error).split())[:120]
        raise MaquetteError(f"unreadable: {type(error).__name__}: {words}") from error
    # trimesh draws names of nodes at random: only the content can give the parts a lasting order.
    return sorted(parts, key=_digest)


def _digest(part: Geometry) -> bytes:
    digest = hashlib.sha256(part.vertices.tobytes())
    digest.update(part.faces.tobytes())
    digest.update(part.corner_colors.tobytes())
    return digest.digest()


def _check_arrays(vertices: np.ndarray, faces: np.ndarray, transform: np.ndarray) -> None:
    if vertices.ndim != 2 or vertices.shape[1] != 3 or faces.ndim != 2 or faces.shape[1] != 3:
        raise MaquetteError("unreadable: its triangles are not [V, 3] and [F, 3]")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise MaquetteError(f"index_range: a face points outside its {len(vertices)} vertices")
    if not np.isfinite(vertices[np.unique(faces)]).all() or not np.isfinite(transform).all():
        raise MaquetteError("non_finite: a vertex is NaN or infinite")


def _check_solid(geometry: Geometry) -> None:
    used = geometry.vertices[np.unique(geometry.faces)]
    extents = np.ptp(used, axis=0)
    longest = float(extents.max())
    if not np.isfinite(longest) or longest > 1e30:
        raise MaquetteError("non_finite: the bounding box overflows")
    if longest <= 1e-30:
        raise MaquetteError("flat: every vertex is in one place")
    centred = (used - used.mean(0)) / longest
    _, axes = np.linalg.eigh(centred.T @ centred)
    thinnest = float(np.ptp(centred @ axes, axis=0).min())
    if thinnest < _FLAT:
        raise MaquetteError("flat: every vertex lies in one plane, there is no volume")
