"""PLY, STL and OFF: one triangle mesh a file, parsed by trimesh."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np

from maquette.errors import MaquetteError
from maquette.types import Material
from maquette_data3d.ingest.beside import Beside
from maquette_data3d.ingest.colors import light_of
from maquette_data3d.ingest.limits import ReadLimits
from maquette_data3d.ingest.parts import Found, Part
from maquette_data3d.ingest.pictures import Pictures

_TEXTURE_COMMENT = b"comment TextureFile"


def find(path: Path, limits: ReadLimits) -> Found:
    """The solids of one file. None of the three formats names a unit or an axis."""
    import trimesh

    logging.getLogger("trimesh").setLevel(logging.CRITICAL)
    with path.open("rb") as file:
        # No resolver: what lies beside a file is looked up by `beside` alone.
        kind = path.suffix.lower().removeprefix(".")
        loaded = trimesh.load_scene(file, file_type=kind, process=False, resolver=None)
    meshes = [(name, mesh) for name, mesh in loaded.geometry.items() if len(getattr(mesh, "faces", ()))]
    limits.check_parts(len(meshes))
    count = sum(len(mesh.faces) for _, mesh in meshes)
    limits.check_faces(count)
    promised = _promised_faces(path)
    if count < promised:
        raise MaquetteError(f"truncated: {count} of {promised} faces")
    pictures, materials = Pictures(), []
    material = _texture_material(path, limits, pictures)
    if material is not None:
        materials.append(material)
    parts = [_part(name, number, mesh, len(materials) - 1) for number, (name, mesh) in enumerate(meshes)]
    return Found(parts, materials, pictures)


def _promised_faces(path: Path) -> int:
    """What the head of a PLY or OFF announces: the parser is content with less."""
    with path.open("rb") as file:
        head = file.read(65536)
    if path.suffix.lower() == ".ply":
        found = re.search(rb"element\s+face\s+(\d+)", head.partition(b"end_header")[0])
    else:
        found = re.match(rb"\s*\w*OFF\s+\d+\s+(\d+)", re.sub(rb"#[^\n]*", b"", head), re.IGNORECASE)
    return int(found[1]) if found and path.suffix.lower() != ".stl" else 0


def _part(name: str, number: int, mesh: Any, material: int) -> Part:
    faces = np.asarray(mesh.faces, np.int64)
    part = Part(str(name), number, np.asarray(mesh.vertices, np.float64), faces, material=material)
    kind = getattr(mesh.visual, "kind", None)
    if kind == "vertex":
        part.tint = light_of(np.asarray(mesh.visual.vertex_colors, np.uint8)[:, :3])[faces]
    elif kind == "face":
        part.tint = np.repeat(light_of(np.asarray(mesh.visual.face_colors, np.uint8)[:, None, :3]), 3, axis=1)
    uv = getattr(mesh.visual, "uv", None)
    if uv is not None and len(uv) == len(mesh.vertices):
        part.uv = (np.asarray(uv, np.float64) * [1, -1] + [0, 1])[faces]
    return part


def _texture_material(path: Path, limits: ReadLimits, pictures: Pictures) -> Material | None:
    """The one image that a PLY may name in a comment (MeshLab's way)."""
    if path.suffix.lower() != ".ply":
        return None
    with path.open("rb") as file:
        header = file.read(65536).partition(b"end_header")[0]
    for line in header.splitlines():
        if line.startswith(_TEXTURE_COMMENT):
            name = line.removeprefix(_TEXTURE_COMMENT).strip().decode("utf-8", "replace")
            content = Beside(path, limits).optional(name)
            place = None if content is None else pictures.add(content)
            return None if place is None else Material(name, textures={"base_color": place})
    return None
