"""Triangles, coordinates, normals, colours and material numbers of one part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from maquette.types import Mesh
from maquette_data3d.exporting.fbx.document import Document
from maquette_data3d.exporting.fbx.records import Record
from maquette_data3d.exporting.fbx.surfaces import UV_SET
from maquette_data3d.exporting.pieces import distinct, materials_of
from maquette_data3d.ingest.colors import light_of


@dataclass(frozen=True)
class Geometry:
    """A written geometry: its number, the mesh's vertices behind its own [V], and the materials it numbers, if any."""

    number: int
    vertices: np.ndarray
    materials: list[int]


def add_geometry(document: Document, mesh: Mesh, rows: np.ndarray, normals: np.ndarray | None, name: str) -> Geometry:
    """The geometry of these faces."""
    used, index = np.unique(mesh.faces[rows], return_inverse=True)
    number, record = document.add("Geometry", name, "Geometry", "Mesh")
    record.add("Vertices", mesh.vertices[used].astype(np.float64).reshape(-1))
    corners = index.reshape(-1, 3).astype(np.int32)
    corners[:, 2] = ~corners[:, 2]  # marks the end of a polygon
    record.add("PolygonVertexIndex", corners.reshape(-1))
    record.add("GeometryVersion", 124)
    layers = []
    if normals is not None:
        layers.append(_layer(record, "Normal", "ByPolygonVertex", "Normals", normals[rows]))
    if mesh.uv is not None:
        flat = mesh.uv[rows].reshape(-1, 2)
        first, place = distinct(list(flat.T))
        # Images of FBX stand on their lower left corner.
        values = flat[first].astype(np.float64) * [1, -1] + [0, 1]
        layers.append(_layer(record, "UV", "ByPolygonVertex", "UV", values, place))
    material = materials_of(mesh)[rows]
    if mesh.colors is not None and (material < 0).any():
        colors = mesh.colors[used]
        light = np.concatenate([light_of(colors[:, :3]), colors[:, 3:] / 255], 1)
        layers.append(_layer(record, "Color", "ByPolygonVertex", "Colors", light, index))
    materials, place = np.unique(material, return_inverse=True)
    if (material >= 0).any():
        layers.append(_layer(record, "Material", "ByPolygon", "Materials", place))
    table = record.add("Layer", 0)
    table.add("Version", 100)
    for kind in layers:
        entry = table.add("LayerElement")
        entry.add("Type", kind)
        entry.add("TypedIndex", 0)
    return Geometry(number, used, materials.tolist() if (material >= 0).any() else [])


def _layer(  # noqa: PLR0917
    record: Record, kind: str, mapping: str, key: str, values: np.ndarray, index: np.ndarray | None = None
) -> str:
    """Writes one layer of values a corner or a face; gives its name."""
    layer = record.add(f"LayerElement{kind}", 0)
    layer.add("Version", 101)
    layer.add("Name", UV_SET if kind == "UV" else "")
    layer.add("MappingInformationType", mapping)
    numbered = index is not None or kind == "Material"
    layer.add("ReferenceInformationType", "IndexToDirect" if numbered else "Direct")
    layer.add(key, values.astype(np.int32 if kind == "Material" else np.float64).reshape(-1))
    if index is not None:
        layer.add({"UV": "UVIndex", "Color": "ColorIndex"}[kind], index.astype(np.int32).reshape(-1))
    return f"LayerElement{kind}"
