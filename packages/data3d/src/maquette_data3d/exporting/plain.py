"""PLY, STL and OFF: geometry, and in PLY colours of vertices."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maquette.durable import whole_file
from maquette.errors import MaquetteError
from maquette.types import Asset, Mesh
from maquette_data3d.exporting.units import scaled, unit_of, z_up

_MILLIMETRES = 1000.0


@dataclass
class PlyConfig:
    """PLY has nothing to set: coordinates are the mesh's own, y up."""


@dataclass
class OffConfig:
    """OFF has nothing to set: coordinates are the mesh's own, y up."""


@dataclass
class StlConfig:
    """
    Args:
        unit_m: metres a unit of meshes that do not say; None writes their numbers as they are.
        up_axis: "y" as the mesh has it, or "z" as printers have it.
    """

    unit_m: float | None = None
    up_axis: str = "y"

    def __post_init__(self) -> None:
        if self.up_axis not in ("y", "z"):
            raise MaquetteError(f"up_axis is '{self.up_axis}'; STL is written with y or z up")


class PlyExporter:
    """Binary PLY, with colours (sRGB) and opacity of vertices where the mesh has them."""

    suffix = ".ply"

    def __init__(self, config: PlyConfig | None = None) -> None:
        self.config = config or PlyConfig()

    def __call__(self, asset: Asset, path: str | Path) -> Path:
        """Writes the file whole or not at all."""
        return _write(Path(path), ply(asset.mesh))


class OffExporter:
    """OFF: geometry only."""

    suffix = ".off"

    def __init__(self, config: OffConfig | None = None) -> None:
        self.config = config or OffConfig()

    def __call__(self, asset: Asset, path: str | Path) -> Path:
        """Writes the file whole or not at all."""
        mesh = asset.mesh
        lines = ["OFF", f"{len(mesh.vertices)} {len(mesh.faces)} 0"]
        lines += [f"{x:.9g} {y:.9g} {z:.9g}" for x, y, z in mesh.vertices.astype(np.float64).tolist()]
        lines += [f"3 {a} {b} {c}" for a, b, c in mesh.faces.tolist()]
        return _write(Path(path), ("\n".join(lines) + "\n").encode())


class StlExporter:
    """Binary STL: geometry only, in millimetres where the mesh's unit is known, as slicers take it."""

    suffix = ".stl"

    def __init__(self, config: StlConfig | None = None) -> None:
        self.config = config or StlConfig()

    def __call__(self, asset: Asset, path: str | Path) -> Path:
        """Writes the file whole or not at all."""
        if asset.mesh.unit_m is not None or self.config.unit_m is not None:
            asset = scaled(asset, unit_of(asset.mesh, self.config.unit_m or 1.0) * _MILLIMETRES)
        points = z_up(asset.mesh.vertices) if self.config.up_axis == "z" else asset.mesh.vertices
        return _write(Path(path), stl(points[asset.mesh.faces]))


def ply(mesh: Mesh) -> bytes:
    """The bytes of a binary PLY."""
    columns = [("x", "<f4"), ("y", "<f4"), ("z", "<f4")]
    head = ["ply", "format binary_little_endian 1.0", f"element vertex {len(mesh.vertices)}"]
    head += [f"property float {axis}" for axis in "xyz"]
    channels = ("red", "green", "blue", "alpha") if mesh.colors is not None else ()
    head += [f"property uchar {name}" for name in channels]
    rows = np.empty(len(mesh.vertices), np.dtype(columns + [(name, "u1") for name in channels]))
    for place, axis in enumerate("xyz"):
        rows[axis] = mesh.vertices[:, place]
    for place, name in enumerate(channels):
        rows[name] = mesh.colors[:, place] if mesh.colors is not None else 0
    faces = np.empty(len(mesh.faces), np.dtype([("sides", "u1"), ("corners", "<i4", 3)]))
    faces["sides"], faces["corners"] = 3, mesh.faces
    head += [f"element face {len(mesh.faces)}", "property list uchar int vertex_indices", "end_header", ""]
    return "\n".join(head).encode() + rows.tobytes() + faces.tobytes()


def stl(corners: np.ndarray) -> bytes:
    """The bytes of a binary STL of triangles float32 [F, 3, 3]."""
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).astype(np.float64)
    length = np.linalg.norm(across, axis=1, keepdims=True)
    rows = np.zeros(len(corners), np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("more", "<u2")]))
    rows["normal"] = np.divide(across, length, out=np.zeros_like(across), where=length > 0)
    rows["corners"] = corners
    return b"maquette".ljust(80, b" ") + np.uint32(len(rows)).tobytes() + rows.tobytes()


def _write(path: Path, content: bytes) -> Path:
    with whole_file(path) as temporary:
        temporary.write_bytes(content)
    return path
