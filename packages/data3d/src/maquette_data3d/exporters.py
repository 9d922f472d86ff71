"""Writing assets as mesh files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maquette.durable import whole_file
from maquette.types import Asset, Mesh
from maquette_data3d.ingest.colors import to_linear

Exporter = Callable[[Asset, "str | Path"], Path]


@dataclass
class ExporterConfig:
    """Mesh files have nothing to set."""


class _MeshExporter:
    """Writes an asset's mesh with its vertex colours, whole or not at all."""

    suffix = ""

    def __init__(self, config: ExporterConfig | None = None) -> None:
        self.config = config or ExporterConfig()

    def __call__(self, asset: Asset, path: str | Path) -> Path:
        path = Path(path)
        write_mesh(asset.mesh, path, self.suffix)
        return path


class GlbExporter(_MeshExporter):
    """Binary glTF 2.0, colours of vertices in linear light as the standard has them."""

    suffix = ".glb"


class ObjExporter(_MeshExporter):
    """Wavefront OBJ with colours behind the vertices."""

    suffix = ".obj"


class PlyExporter(_MeshExporter):
    """Binary PLY with colours of vertices."""

    suffix = ".ply"


class StlExporter(_MeshExporter):
    """Binary STL: geometry only, the format has no colours."""

    suffix = ".stl"


class OffExporter(_MeshExporter):
    """OFF: geometry only."""

    suffix = ".off"


def write_mesh(mesh: Mesh, path: Path, suffix: str) -> None:
    """Writes one mesh in the format of a suffix."""
    import trimesh

    colors = mesh.colors
    if colors is not None and suffix == ".glb":
        colors = colors.copy()
        colors[:, :3] = np.round(to_linear(colors[:, :3] / 255.0) * 255)
    if suffix in (".stl", ".off"):
        colors = None
    exported = trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_colors=colors, process=False)
    options: dict[str, Any] = {".obj": {"include_normals": False}, ".off": {"digits": 8}}.get(suffix, {})
    data = exported.export(file_type=suffix.removeprefix("."), **options)
    with whole_file(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)
