"""FBX, parsed by ufbx in a process of its own.

The Python binding of ufbx 0.0.5 frees objects that are in use: it may bring down its process. What it has found comes
back as plain arrays, and a crash is one unreadable file.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from maquette.errors import MaquetteError
from maquette.types import Material, Skeleton
from maquette_data3d.ingest.beside import Beside
from maquette_data3d.ingest.limits import ReadLimits
from maquette_data3d.ingest.parts import Found, Part
from maquette_data3d.ingest.pictures import Pictures

_SECONDS = 600.0


def find(path: Path, limits: ReadLimits) -> Found:
    """Nodes with meshes; unit and upward axis are declared in the file."""
    if importlib.util.find_spec("ufbx") is None:
        raise MaquetteError("missing_library: FBX needs the package ufbx (pip install ufbx)")
    with tempfile.TemporaryDirectory(prefix="maquette-") as folder:
        out = Path(folder) / "found.npz"
        bounds = [str(limits.largest_faces), str(limits.largest_parts)]
        command = [sys.executable, "-m", "maquette_data3d.ingest.fbx_child", str(path), str(out), *bounds]
        try:
            ended = subprocess.run(command, timeout=_SECONDS, capture_output=True, check=False)
        except subprocess.TimeoutExpired as error:
            raise MaquetteError(f"unreadable: ufbx had not ended after {_SECONDS:.0f} s") from error
        if not out.is_file():
            raise MaquetteError(f"unreadable: ufbx ended with code {ended.returncode}")
        with np.load(out, allow_pickle=False) as arrays:
            about = json.loads(arrays["about"].tobytes())
            if "error" in about:
                raise MaquetteError(str(about["error"]))
            return _found(about, arrays, Beside(path, limits))


def _found(about: dict[str, Any], arrays: Any, beside: Beside) -> Found:
    pictures = Pictures()
    places: list[int | None] = []
    for number, names in enumerate(about["images"]):
        content = arrays[f"image{number}"].tobytes()
        for name in names if not content else []:
            content = content or beside.optional(name) or b""
        places.append(pictures.add(content) if content else None)
    materials = [_material(entry, places) for entry in about["materials"]]
    parts = []
    for number, entry in enumerate(about["parts"]):
        held = {key: arrays[f"{key}{number}"] for key in entry["arrays"]}
        parts.append(Part(entry["name"], entry["number"], **held))
    skeleton = None
    if about["joints"]:
        skeleton = Skeleton(tuple(about["joints"]), arrays["parents"], arrays["rest"])
    return Found(parts, materials, pictures, skeleton, about["unit_m"], about["up_axis"])


def _material(entry: dict[str, Any], places: list[int | None]) -> Material:
    textures = {role: place for role, at in entry.pop("textures").items() if (place := places[at]) is not None}
    color, emissive = tuple(entry.pop("base_color")), tuple(entry.pop("emissive"))
    if "base_color" in textures:  # a file that shows an image keeps the factor of the days without it
        color = (1.0, 1.0, 1.0, color[3])
    return Material(**entry, base_color=color, emissive=emissive, textures=textures)
