"""The triangles of a mesh entry: strips and fans opened, packed geometry unpacked, morph targets applied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from maquette.errors import MaquetteError
from maquette_data3d.ingest.gltf import accessors, draco
from maquette_data3d.ingest.gltf.document import DRACO, Document
from maquette_data3d.ingest.gltf.surfaces import Surface
from maquette_data3d.ingest.limits import ReadLimits

_TRIANGLES, _STRIP, _FAN = 4, 5, 6


@dataclass
class Primitive:
    """Triangles in the mesh's own space.

    Attributes:
        vertices: float64 [V, 3].
        faces: int64 [F, 3].
        uv: float64 [V, 2] of the material's textures, or None.
        tint: float64 [V, 3] linear light, or None.
        joints, weights: int64 and float64 [V, K], places in the skin's list of joints, or None.
        material: place in the file's materials, -1 for none.
    """

    vertices: np.ndarray
    faces: np.ndarray
    uv: np.ndarray | None
    tint: np.ndarray | None
    joints: np.ndarray | None
    weights: np.ndarray | None
    material: int


def primitives(
    document: Document, mesh: dict[str, Any], shape: Sequence[float], surfaces: Sequence[Surface], limits: ReadLimits
) -> list[Primitive]:
    """All triangles of a mesh, with its morph targets at the weights `shape`; points and lines are passed over."""
    entries = mesh.get("primitives", [])
    limits.check_parts(len(entries))
    found = [_primitive(document, entry, shape, surfaces, limits) for entry in entries]
    return [primitive for primitive in found if primitive is not None and len(primitive.faces)]


def _primitive(
    document: Document,
    entry: dict[str, Any],
    shape: Sequence[float],
    surfaces: Sequence[Surface],
    limits: ReadLimits,
) -> Primitive | None:
    mode, attributes = entry.get("mode", _TRIANGLES), entry["attributes"]
    if mode not in (_TRIANGLES, _STRIP, _FAN) or "POSITION" not in attributes:
        return None
    packed = entry.get("extensions", {}).get(DRACO)
    faces, decoded = (None, {}) if packed is None else draco.unpacked(document, entry, packed)
    if faces is None:
        faces = _faces(document, entry, mode)
    limits.check_faces(len(faces))

    def values(name: str) -> np.ndarray | None:
        if name in decoded:
            return decoded[name]
        return accessors.numbers(document, attributes[name]) if name in attributes else None

    vertices = values("POSITION")
    if vertices is None or vertices.shape[1] != 3:
        raise MaquetteError("unreadable: positions are not triples")
    place = entry.get("material", -1)
    if place != -1:
        document.entry("materials", place)
    surface = surfaces[place] if place != -1 else None
    vertices = _morphed(document, vertices, entry.get("targets", []), shape)
    tint, uv = values("COLOR_0"), values(f"TEXCOORD_{surface.uv_set if surface else 0}")
    joints, weights = _bound(values, attributes)
    rows = [item for item in (tint, uv, joints, weights) if item is not None]
    if any(len(item) != len(vertices) for item in rows) or (uv is not None and uv.shape[1] != 2):
        raise MaquetteError("unreadable: attributes of one primitive differ in length")
    uv = surface.mapped(uv) if uv is not None and surface is not None else uv
    tint = None if tint is None else np.clip(tint[:, :3], 0.0, 1.0)
    return _used(Primitive(vertices, faces, uv, tint, joints, weights, -1 if surface and surface.painted else place))


def _faces(document: Document, entry: dict[str, Any], mode: int) -> np.ndarray:
    if "indices" in entry:
        found = accessors.raw(document, entry["indices"])
        if found.dtype.kind != "u":
            raise MaquetteError("unreadable: indices are no unsigned integers")
        index = found.reshape(-1).astype(np.int64)
    else:
        index = np.arange(int(document.entry("accessors", entry["attributes"]["POSITION"])["count"]))
    if mode == _TRIANGLES:
        return index[: len(index) // 3 * 3].reshape(-1, 3)
    count = max(len(index) - 2, 0)
    if mode == _FAN:
        return np.stack([np.full(count, index[0] if count else 0), index[1 : count + 1], index[2 : count + 2]], 1)
    faces = np.stack([index[:count], index[1 : count + 1], index[2 : count + 2]], 1)
    faces[1::2] = faces[1::2, [0, 2, 1]]  # every second triangle of a strip runs the other way
    return faces


def _morphed(document: Document, vertices: np.ndarray, targets: list[Any], shape: Sequence[float]) -> np.ndarray:
    for target, weight in zip(targets, shape, strict=False):
        if weight and "POSITION" in target:
            moved = accessors.numbers(document, target["POSITION"])
            if moved.shape != vertices.shape:
                raise MaquetteError("unreadable: a morph target differs in length from its mesh")
            vertices = vertices + float(weight) * moved
    return vertices


def _bound(values: Any, attributes: dict[str, Any]) -> tuple[np.ndarray | None, np.ndarray | None]:
    sets = [(values(f"JOINTS_{i}"), values(f"WEIGHTS_{i}")) for i in range(4) if f"JOINTS_{i}" in attributes]
    sets = [(joints, weights) for joints, weights in sets if weights is not None and joints.shape == weights.shape]
    if not sets:
        return None, None
    joints = np.concatenate([joints for joints, _ in sets], 1).astype(np.int64)
    weights = np.maximum(np.nan_to_num(np.concatenate([weights for _, weights in sets], 1)), 0.0)
    total = weights.sum(1, keepdims=True)
    return joints, np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)


def _used(primitive: Primitive) -> Primitive:
    """Without the vertices of other primitives, where many share one long array."""
    count = len(primitive.vertices)
    if primitive.faces.size and (primitive.faces.min() < 0 or primitive.faces.max() >= count):
        raise MaquetteError(f"index_range: a face points outside its {count} vertices")
    if count <= 2 * primitive.faces.size:
        return primitive
    used, index = np.unique(primitive.faces, return_inverse=True)

    def pick(rows: np.ndarray | None) -> np.ndarray | None:
        return None if rows is None else rows[used]

    return Primitive(
        primitive.vertices[used],
        index.reshape(-1, 3),
        pick(primitive.uv),
        pick(primitive.tint),
        pick(primitive.joints),
        pick(primitive.weights),
        primitive.material,
    )
