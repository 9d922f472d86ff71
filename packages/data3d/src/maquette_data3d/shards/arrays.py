"""The arrays of a sample: names, types, order, checksum, and how a file of them is written."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from maquette.durable import whole_file

FIELDS = ("tsdf", "color", "surface", "normals", "class_id")


def checksum(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over a sample's arrays: names, types, shapes and bytes, in the order of `FIELDS`."""
    digest = hashlib.sha256()
    for name in FIELDS:
        array = np.asarray(arrays[name], order="C")
        digest.update(f"{name} {array.dtype.str} {list(array.shape)}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a safetensors file whole or not at all."""
    with whole_file(path) as temporary:
        save_file({name: np.asarray(array, order="C") for name, array in arrays.items()}, temporary)
        temporary.chmod(0o644)  # safetensors leaves 0600, which keeps others from reading a shared folder
