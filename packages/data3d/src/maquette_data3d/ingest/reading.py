"""One file of any known format into one checked scene."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np

from maquette.errors import MaquetteError
from maquette_data3d.ingest import declared
from maquette_data3d.ingest.assembly import assemble
from maquette_data3d.ingest.limits import ReadLimits, parsing
from maquette_data3d.ingest.scene import Scene

__all__ = ["ReadLimits", "Scene", "read"]

_FLAT = 1e-5
# Modules, not functions: a format's libraries are loaded when a file of it comes.
READERS = {
    ".glb": "gltf.reader",
    ".gltf": "gltf.reader",
    ".obj": "obj",
    ".ply": "plain",
    ".stl": "plain",
    ".off": "plain",
    ".3mf": "threemf",
    ".fbx": "fbx",
}


def read(path: Path, limits: ReadLimits | None = None) -> Scene:
    """Reads one file; a `.zip` stands for the one model chosen in it (see `archive`).

    Raises:
        MaquetteError: "reason: detail", the reason being one of the words that docs/data.md lists.
    """
    limits = limits or ReadLimits()
    path = Path(path)
    if limits.up_axis not in (None, "x", "y", "z"):
        raise MaquetteError(f"up_axis '{limits.up_axis}' is not x, y or z")
    with parsing():
        declared.check(path, limits)
        if path.suffix.lower() == ".zip":
            from maquette_data3d.ingest.archive import opened

            with opened(path, limits) as inner:
                return read(inner, limits)
        reader = importlib.import_module(f"maquette_data3d.ingest.{READERS[path.suffix.lower()]}")
        found = reader.find(path, limits)
        limits.check_faces(sum(len(part.faces) for part in found.parts))
        limits.check_parts(len({part.number for part in found.parts}))
        scene = assemble(found, limits.up_axis or found.up_axis)
        _check_solid(scene)
    return scene


def _check_solid(scene: Scene) -> None:
    used = scene.vertices[np.unique(scene.faces)]
    with np.errstate(over="ignore"):
        longest = float(np.ptp(used, axis=0).max())
    if not np.isfinite(longest) or longest > 1e30:
        raise MaquetteError("non_finite: the bounding box overflows")
    if longest <= 1e-30:
        raise MaquetteError("flat: every vertex is in one place")
    centred = (used - used[0]) / longest
    centred -= centred.mean(0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    thinnest = float(np.ptp(centred @ axes, axis=0).min())
    if thinnest < _FLAT:
        raise MaquetteError("flat: every vertex lies in one plane, there is no volume")
