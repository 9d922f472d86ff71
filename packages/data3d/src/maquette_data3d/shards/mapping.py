"""A shard file as arrays: views on the mapped file, checked before anybody touches them."""

from __future__ import annotations

import json
import math
import mmap
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from maquette.errors import MaquetteError
from maquette_data3d.shards.format import CODES, OFFSETS, Field, ShardFile
from maquette_data3d.shards.storage import Folder

_TYPES = {code: np.dtype(name) for name, code in CODES.items()}


def mapped(folder: Folder, shard: ShardFile, fields: Mapping[str, Field]) -> dict[str, np.ndarray]:
    """The arrays of a shard as read-only views on the mapped file, checked against its description.

    Raises:
        MaquetteError: the file is missing, damaged, or holds something else than its description says.
    """
    try:
        with folder.open(shard) as file:
            memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        (length,) = struct.unpack_from("<Q", memory, 0)
        header = json.loads(memory[8 : 8 + length])
        arrays = {}
        for name, expected in fields.items():
            arrays[name] = _view(memory, 8 + length, header[name], expected)
            if expected.ragged:
                arrays[name + OFFSETS] = _offsets(memory, 8 + length, header[name + OFFSETS], len(arrays[name]))
            rows = len(arrays[name + OFFSETS]) - 1 if expected.ragged else len(arrays[name])
            if rows != shard.samples:
                raise ValueError(f"{rows} rows of '{name}', not {shard.samples}")
        return arrays
    except FileNotFoundError:
        raise MaquetteError(f"shard '{folder.name(shard.file)}' is missing; build the shards again") from None
    except (ValueError, KeyError, TypeError, IndexError, RecursionError, struct.error, OSError) as error:
        words = " ".join(str(error).split())[:80]
        raise MaquetteError(f"shard '{folder.name(shard.file)}' is damaged ({words}); build the shards again") from None


def _view(memory: mmap.mmap, start: int, about: Mapping[str, Any], expected: Field) -> np.ndarray:
    begin, end = about["data_offsets"]
    kind, shape = _TYPES[about["dtype"]], tuple(about["shape"])
    if kind.name != expected.dtype or shape[1:] != expected.shape or not 0 <= begin <= end <= len(memory) - start:
        raise ValueError("an array does not fit its description")
    count = math.prod(shape)
    if count * kind.itemsize != end - begin:
        raise ValueError("an array's size does not fit its shape")
    if not count:
        return np.zeros(shape, kind)
    return np.frombuffer(memory, kind, count, start + begin).reshape(shape)


def _offsets(memory: mmap.mmap, start: int, about: Mapping[str, Any], length: int) -> np.ndarray:
    offsets = _view(memory, start, about, Field("int64", ()))
    if len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != length or np.any(np.diff(offsets) < 0):
        raise ValueError("offsets of a ragged field are out of order")
    return offsets
