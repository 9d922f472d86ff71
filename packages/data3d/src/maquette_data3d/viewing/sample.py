"""One sample packed for the page: a JSON head and raw arrays behind it, deflated.

Layout: uint32 length of the head, the head in UTF-8, then the arrays, each at a multiple of 4 bytes counted from the
end of the head. The head names each array's type, shape and place. Positions are uint16 over the cube
[-0.5, 0.5], directions int8 over [-1, 1], so that a sample of 64 cells stays near 200 KB.
"""

from __future__ import annotations

import io
import json
import math
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from maquette_data3d.viewing.shapes import sample_mesh

if TYPE_CHECKING:
    from maquette_data3d.shards.reader import ShardReader

MOST_POINTS = 16384
MOST_VOXELS = 60000
MOST_FACES = 400_000
SLICES = 64
MOST_VIEWS = 12
_POINTS = (
    # Points, and what colours them.
    ("surface", ("surface_color", "normals", "surface_part")),
    ("sharp", ("sharp_normals",)),
    ("near", ("near_sdf",)),
    ("volume", ("volume_sdf",)),
)


def packed_sample(reader: ShardReader, number: int) -> bytes:
    """Everything that the page shows of one sample, deflated (zlib, RFC 1950).

    Raises:
        MaquetteError: the sample's shard is damaged.
    """
    arrays: dict[str, np.ndarray] = {}
    facts = _facts(reader, number)
    facts["notes"] = [
        *_mesh(reader, number, arrays),
        *_points(reader, number, arrays),
        *_voxels(reader, number, arrays),
        *_grid(reader, number, arrays),
    ]
    _skeleton(reader, number, arrays)
    facts["views"] = _views(reader, number, arrays)
    return zlib.compress(_laid_out(facts, arrays), 6)


def _laid_out(facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bytes:
    table, pieces, place = {}, [], 0
    for name, values in arrays.items():
        data = np.ascontiguousarray(values).tobytes()
        table[name] = {"type": values.dtype.name, "shape": list(values.shape), "place": place}
        pieces.append(data + b"\0" * (-len(data) % 4))
        place += len(pieces[-1])
    head = json.dumps({**facts, "arrays": table}, allow_nan=False).encode()
    head += b" " * (-len(head) % 4)
    return len(head).to_bytes(4, "little") + head + b"".join(pieces)


def _facts(reader: ShardReader, number: int) -> dict[str, Any]:
    entry = reader.entry(number)
    names = ("id", "caption", "class_name", "split", "group", "tokens", "sha256")
    facts = {name: plain(getattr(entry, name)) for name in names}
    stored = {name: f"{reader.fields[name].dtype} {list(reader.array(number, name).shape)}" for name in reader.fields}
    return {**facts, "attributes": plain(entry.attributes), "lineage": plain(entry.lineage), "fields": stored}


def plain(value: Any) -> Any:
    """A value as JSON can hold it; numbers that are not finite become words."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(inner) for inner in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _places(points: np.ndarray) -> np.ndarray:
    """Positions in the unit cube as uint16."""
    return np.round(np.clip(np.asarray(points, np.float32) + 0.5, 0, 1) * 65535).astype(np.uint16)


def _signed(values: np.ndarray) -> np.ndarray:
    """Values in [-1, 1] as int8."""
    return np.round(np.clip(np.nan_to_num(np.asarray(values, np.float32)), -1, 1) * 127).astype(np.int8)


def _mesh(reader: ShardReader, number: int, arrays: dict[str, np.ndarray]) -> list[str]:
    found = sample_mesh(reader, number)
    if found is None:
        return []
    mesh, corners, source = found
    faces = mesh.faces
    if len(faces) > MOST_FACES:
        return [f"The mesh has {len(faces)} faces and is not shown; the page shows up to {MOST_FACES}."]
    vertices, colors = mesh.vertices, mesh.colors
    if corners is not None:
        vertices, colors = vertices[faces].reshape(-1, 3), corners.reshape(-1, 3)
        faces = np.arange(len(vertices)).reshape(-1, 3)
    arrays["mesh"] = _places(vertices)
    arrays["mesh_faces"] = faces.astype(np.uint16 if len(vertices) < 65536 else np.uint32)
    if colors is not None:
        arrays["mesh_colors"] = colors[:, :3].astype(np.uint8)
    origin = "zero surface of the stored distances" if source == "tsdf" else "stored mesh"
    return [f"Mesh: {origin}, {len(mesh.faces)} faces."]


def _points(reader: ShardReader, number: int, arrays: dict[str, np.ndarray]) -> list[str]:
    notes = []
    for name, others in _POINTS:
        if name not in reader.fields:
            continue
        points = reader.array(number, name)
        arrays[name] = _places(points[:MOST_POINTS])
        if len(points) > MOST_POINTS:
            notes.append(f"{name}: the first {MOST_POINTS} of {len(points)} points are shown.")
        for other in others:
            if other in reader.fields:
                values = reader.array(number, other)[:MOST_POINTS]
                if other.endswith("_sdf"):
                    arrays[other] = np.asarray(values, np.float32)
                else:
                    arrays[other] = np.array(values) if values.dtype == np.uint8 else _signed(values)
    return notes


def _voxels(reader: ShardReader, number: int, arrays: dict[str, np.ndarray]) -> list[str]:
    notes = []
    for name, key, other in (
        ("voxels", "voxel_resolution", "voxel_color"),
        ("dual_voxels", "dual_resolution", "dual_points"),
    ):
        if name not in reader.fields:
            continue
        cells = reader.array(number, name)
        # Every k-th keeps the shape's outline where the first ones would show a corner of it.
        step = -(-len(cells) // MOST_VOXELS) or 1
        most = int(cells.max()) + 1 if len(cells) else 1
        resolution = int(reader.about.get(key) or 2 ** math.ceil(math.log2(most)))
        arrays[name] = np.array(cells[::step], np.int16)
        arrays[f"{name}_resolution"] = np.array([resolution], np.int32)
        if other in reader.fields:
            values = reader.array(number, other)[::step]
            if other == "dual_points":
                inner = np.asarray(values, np.float32) / (255.0 if values.dtype == np.uint8 else 1.0)
                values = _places((cells[::step] + inner) / resolution - 0.5)
            arrays[other] = np.array(values)
        if step > 1:
            notes.append(f"{name}: every {step}th of {len(cells)} is shown.")
    return notes


def _grid(reader: ShardReader, number: int, arrays: dict[str, np.ndarray]) -> list[str]:
    if "tsdf" not in reader.fields:
        return []
    grid = reader.array(number, "tsdf")[0]
    step = max(grid.shape[0] // SLICES, 1)
    scale = float(np.abs(np.nan_to_num(np.asarray(grid[::step, ::step, ::step], np.float32))).max()) or 1.0
    arrays["field"] = _signed(grid[::step, ::step, ::step] / scale)
    return [f"Slices: every {step}th cell of {grid.shape[0]} along each axis."] if step > 1 else []


def _skeleton(reader: ShardReader, number: int, arrays: dict[str, np.ndarray]) -> None:
    if "joints" in reader.fields and "joint_parents" in reader.fields:
        joints = np.asarray(reader.array(number, "joints"), np.float32)
        if len(joints):
            arrays["joints"] = joints
            arrays["joint_parents"] = np.asarray(reader.array(number, "joint_parents"), np.int16)


def _views(reader: ShardReader, number: int, arrays: dict[str, np.ndarray]) -> list[dict[str, str]]:
    """Stored views as WebP files among the arrays, and their names."""
    shown = []
    for field, draw in (("view_rgb", _rgba), ("view_normal", _directions), ("view_depth", _grey)):
        if field not in reader.fields:
            continue
        for place, view in enumerate(reader.array(number, field)[:MOST_VIEWS]):
            name = f"{field}_{place}"
            arrays[name] = np.frombuffer(_webp(draw(view)), np.uint8)
            shown.append({"array": name, "words": f"{field.removeprefix('view_')} {place}"})
    return shown


def _rgba(view: np.ndarray) -> np.ndarray:
    return np.moveaxis(view, 0, -1)


def _directions(view: np.ndarray) -> np.ndarray:
    normal = np.moveaxis(np.asarray(view, np.float32), 0, -1)
    there = (np.abs(normal).sum(-1, keepdims=True) > 0) * 255
    return np.concatenate([np.clip(normal * 0.5 + 0.5, 0, 1) * 255, there], -1).astype(np.uint8)


def _grey(view: np.ndarray) -> np.ndarray:
    depth = np.asarray(view, np.float32)
    seen = np.isfinite(depth) & (depth > 0)
    low, high = (float(depth[seen].min()), float(depth[seen].max())) if seen.any() else (0.0, 1.0)
    grey = np.where(seen, 255 - 215 * (np.where(seen, depth, low) - low) / max(high - low, 1e-6), 0)
    return np.stack([grey, grey, grey, seen * 255.0], -1).astype(np.uint8)


def _webp(pixels: np.ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "WEBP", quality=85, method=2)
    return file.getvalue()
