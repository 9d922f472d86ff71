"""3D data for maquette: from any mesh, or from procedural shapes, to an exact, resumable stream."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# Loaded when asked for: listing plugins imports this package and must not import numba or torch.
_HOMES = {
    "BuildConfig": "maquette_data3d.building.config",
    "BuildReport": "maquette_data3d.building.report",
    "build_shards": "maquette_data3d.building.build",
    "ShardReader": "maquette_data3d.shards.reader",
    "sample_shape": "maquette_data3d.procedural",
    "write_mesh_files": "maquette_data3d.procedural.mesh_files",
    "read_asset": "maquette_data3d.ingest.read_asset",
    "read_mesh": "maquette_data3d.ingest.read_asset",
    "Camera": "maquette_data3d.rendering",
    "render": "maquette_data3d.rendering",
    "contact_sheet": "maquette_data3d.rendering",
}
__all__ = [
    "BuildConfig",
    "BuildReport",
    "Camera",
    "ShardReader",
    "build_shards",
    "contact_sheet",
    "read_asset",
    "read_mesh",
    "render",
    "sample_shape",
    "write_mesh_files",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'maquette_data3d' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)
