"""Typed arrays over buffer views: strides, normalised integers, sparse overrides."""

from __future__ import annotations

from typing import Any

import numpy as np

from maquette.errors import MaquetteError
from maquette_data3d.ingest.gltf.document import COMPONENTS, Document

_DTYPES = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}


def raw(document: Document, place: Any) -> np.ndarray:
    """The numbers as stored, [count, components]."""
    accessor = document.entry("accessors", place)
    dtype, width = np.dtype(_DTYPES[accessor["componentType"]]), COMPONENTS[accessor["type"]]
    count = int(accessor["count"])
    if "bufferView" in accessor:
        view = document.entry("bufferViews", accessor["bufferView"])
        start, stride = int(accessor.get("byteOffset", 0)), int(view.get("byteStride", 0))
        found = _strided(document.view(accessor["bufferView"]), start, count, dtype, width=width, stride=stride)
    else:
        found = np.zeros((count, width), dtype)
    return _overridden(document, found, accessor["sparse"]) if "sparse" in accessor else found


def numbers(document: Document, place: Any) -> np.ndarray:
    """float64 [count, components], integers scaled to [0, 1] or [-1, 1] where the accessor says so."""
    accessor = document.entry("accessors", place)
    return scaled(raw(document, place), bool(accessor.get("normalized")))


def scaled(found: np.ndarray, normalized: bool) -> np.ndarray:
    """float64 of stored numbers; normalised integers by their largest value, as the specification's 3.11 says."""
    if not normalized or found.dtype.kind == "f":
        return found.astype(np.float64)
    return np.maximum(found / np.iinfo(found.dtype).max, -1.0)


def _strided(content: bytes, start: int, count: int, dtype: np.dtype, *, width: int, stride: int = 0) -> np.ndarray:
    item = dtype.itemsize * width
    stride = stride or item
    if count == 0:
        return np.zeros((0, width), dtype)
    if start < 0 or stride < item or start + (count - 1) * stride + item > len(content):
        raise MaquetteError(f"declared_size: an accessor up to byte {start + (count - 1) * stride + item}")
    if stride == item:
        return np.frombuffer(content, dtype, count * width, start).reshape(count, width)
    rows = np.ndarray((count, item), np.uint8, content, start, (stride, 1))
    return np.ascontiguousarray(rows).view(dtype)


def _overridden(document: Document, found: np.ndarray, sparse: dict[str, Any]) -> np.ndarray:
    count, width = int(sparse["count"]), found.shape[1]
    index, value = sparse["indices"], sparse["values"]
    if not 0 <= count <= len(found):
        raise MaquetteError(f"declared_size: {count} sparse values in {len(found)}")
    dtype = np.dtype(_DTYPES[index["componentType"]])
    start = int(index.get("byteOffset", 0))
    places = _strided(document.view(index["bufferView"]), start, count, dtype, width=1)[:, 0].astype(np.int64)
    start = int(value.get("byteOffset", 0))
    values = _strided(document.view(value["bufferView"]), start, count, found.dtype, width=width)
    if count and (places.min() < 0 or places.max() >= len(found)):
        raise MaquetteError(f"index_range: a sparse value outside its {len(found)} places")
    found = found.copy()
    found[places] = values
    return found
