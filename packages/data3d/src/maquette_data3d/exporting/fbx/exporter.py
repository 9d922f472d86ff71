"""An asset as a binary FBX."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from maquette.durable import whole_file
from maquette.types import Asset
from maquette_data3d.exporting.binding import bound, stilled
from maquette_data3d.exporting.fbx.document import Document
from maquette_data3d.exporting.fbx.geometry import add_geometry
from maquette_data3d.exporting.fbx.skeleton import Bones
from maquette_data3d.exporting.fbx.surfaces import Surfaces
from maquette_data3d.exporting.pieces import parts_of
from maquette_data3d.exporting.shading_normals import corner_normals
from maquette_data3d.exporting.units import METRES_WHERE_UNKNOWN, unit_of


@dataclass
class FbxConfig:
    """
    Args:
        unit_m: metres a unit of meshes that do not say. Coordinates stay, the file says their unit.
        crease: degrees; edges that bend less are shaded round. 0 writes no normals.
    """

    unit_m: float = METRES_WHERE_UNKNOWN
    crease: float = 40.0


class FbxExporter:
    """Parts as models with Phong materials and embedded images; bones, skins and clips.

    Roughness and metal become a shininess and a reflection, their packed image two grey ones. Occlusion, masks and
    two-sidedness have no place in the format.
    """

    suffix = ".fbx"

    def __init__(self, config: FbxConfig | None = None) -> None:
        self.config = config or FbxConfig()

    def __call__(self, asset: Asset, path: str | Path) -> Path:
        """Writes the file whole or not at all."""
        path = Path(path)
        content = fbx(stilled(asset), self.config)
        with whole_file(path) as temporary:
            temporary.write_bytes(content)
        return path


def fbx(asset: Asset, config: FbxConfig) -> bytes:
    """The bytes of the file."""
    mesh = asset.mesh
    document = Document(unit_of(mesh, config.unit_m))
    surfaces = Surfaces(document, mesh)
    binding = None if mesh.skin is None else bound(mesh.skin)
    bones = None if binding is None else Bones(document, binding)
    normals = corner_normals(mesh, config.crease)
    part = parts_of(mesh)
    models = []
    for place, rows in groupby(np.argsort(part, kind="stable").tolist(), lambda row: int(part[row])):
        name = (mesh.part_names[place] if mesh.part is not None else "") or f"part_{place}"
        geometry = add_geometry(document, mesh, np.array(list(rows)), normals, name)
        model, record = document.add("Model", name, "Model", "Mesh")
        record.add("Version", 232)
        record.properties([("DefaultAttributeIndex", "int", "Integer", "", (0,))])
        document.connect(model, 0)
        document.connect(geometry.number, model)
        for material in geometry.materials:
            document.connect(surfaces.number(material), model)
        if bones is not None and binding is not None and not binding.loose[geometry.vertices].all():
            bones.bind(geometry)
        models.append(model)
    if bones is not None:
        bones.add_pose(models)
        bones.add_clips(asset.animations)
    return document.content()
