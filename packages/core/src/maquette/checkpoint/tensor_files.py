"""Writing and reading safetensors files: hashed while they are written, on the disk when writing returns.

Written here rather than by the safetensors package, so that tensors stream from where they are, the checksum is that
of what was meant (not of what a disk gave back), and another thread may train meanwhile. Read by that package.
Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from maquette.errors import MaquetteError

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""torch's types and their names in the format."""

PIECE = 8 * 2**20
"""Bytes written or hashed at a time."""

LARGEST_HEADER = 64 * 2**20
PICKLED = "it is {}, whose pickles can run any code; have it saved as safetensors where it was made"


@dataclass(frozen=True)
class Written:
    """A file as it must read back."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Spec:
    """Type and shape of a tensor that is to be written."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """It takes in the file."""
        return math.prod(self.shape) * self.dtype.itemsize


def write_tensors(
    path: Path, specs: Mapping[str, Spec], fetch: Callable[[str], Tensor], notes: Mapping[str, str] | None = None
) -> Written:
    """Write a safetensors file and flush it to the disk.

    Args:
        path: of the file; it is overwritten.
        specs: the tensors by key.
        fetch: gives the tensor of a key, on any device; asked once for each, so that one at a time is in memory.
        notes: text for the file's header.

    Raises:
        OSError: the disk is full or broken; the file is then incomplete.
        MaquetteError: a type that the format does not know.
    """
    # Wide types first: then every tensor starts at a multiple of its element's size.
    keys = sorted(specs, key=lambda key: (-specs[key].dtype.itemsize, key))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    sink = _Sink(descriptor)
    try:
        sink.write(_header(keys, specs, notes or {"format": "pt"}))
        for key in keys:
            tensor = fetch(key).detach().to("cpu").contiguous()
            assert (tensor.dtype, tuple(tensor.shape)) == (specs[key].dtype, specs[key].shape), key
            if tensor.numel():
                sink.write(cast(bytes, tensor.reshape(-1).view(torch.uint8).numpy().data))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return Written(path.name, sink.bytes, sink.sum.hexdigest())


def write_bytes(path: Path, content: bytes) -> Written:
    """Write a small file and flush it to the disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    sink = _Sink(descriptor)
    try:
        sink.write(content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return Written(path.name, sink.bytes, sink.sum.hexdigest())


def sha256(path: Path, from_disk: bool = False) -> str:
    """The checksum of a file.

    Args:
        path: of the file.
        from_disk: ask the system to forget what it holds of the file in memory, so that the disk's word is read.
    """
    total = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        if from_disk:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        buffer = memoryview(bytearray(PIECE))
        while size := file.readinto(buffer):
            total.update(buffer[:size])
    return total.hexdigest()


class TensorFile:
    """A safetensors file opened for reading; use it in a ``with``.

    Raises:
        MaquetteError: it cannot be read as one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            _check_head(path)
            self._file: Any = safe_open(path, framework="pt")
        except (OSError, SafetensorError, ValueError) as error:
            raise MaquetteError(f"'{path}' cannot be read as safetensors: {error}") from None

    def __enter__(self) -> TensorFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.__exit__(None, None, None)

    def keys(self) -> list[str]:
        """All keys."""
        return list(self._file.keys())

    def notes(self) -> dict[str, str]:
        """The text in the file's header."""
        return dict(self._file.metadata() or {})

    def read(self, key: str, offsets: Sequence[int] = (), sizes: Sequence[int] | None = None) -> Tensor:
        """A tensor, or the box of it that starts at ``offsets`` and has ``sizes``; on the CPU."""
        try:
            if sizes is None or not len(sizes):
                return cast(Tensor, self._file.get_tensor(key))
            box = tuple(slice(at, at + size) for at, size in zip(offsets, sizes, strict=True))
            return cast(Tensor, self._file.get_slice(key)[box])
        except (SafetensorError, RuntimeError, ValueError, TypeError, OverflowError) as error:
            raise MaquetteError(f"'{self.path}', tensor '{key}', cannot be read: {error}") from None


def _check_head(path: Path) -> None:
    """What a file is, told before the library maps it; that checks each tensor's place and size against the file."""
    with path.open("rb") as file:
        head = file.read(8)
        size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(head, "little")
    if len(head) == 8 and length <= min(size - 8, LARGEST_HEADER):
        return  # first, as a header's length may begin with the bytes of a pickle, e.g. 640
    if head[:2] == b"PK" or (head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5")):
        raise ValueError(PICKLED.format("a file of torch.save"))
    raise ValueError(f"it declares a header of {length} bytes in {size}, at most {LARGEST_HEADER} are read")


class _Sink:
    """Writes whole buffers to a descriptor, counts and hashes them."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor, self.bytes, self.sum = descriptor, 0, hashlib.sha256()

    def write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        for start in range(0, len(view), PIECE):
            piece = view[start : start + PIECE]
            self.sum.update(piece)
            self.bytes += len(piece)
            while len(piece):
                piece = piece[os.write(self.descriptor, piece) :]


def _header(keys: Sequence[str], specs: Mapping[str, Spec], notes: Mapping[str, str]) -> bytes:
    header: dict[str, Any] = {"__metadata__": dict(notes)}
    at = 0
    for key in keys:
        spec = specs[key]
        if spec.dtype not in DTYPES:
            raise MaquetteError(f"tensor '{key}' is of type {spec.dtype}, which safetensors files cannot hold")
        header[key] = {"dtype": DTYPES[spec.dtype], "shape": spec.shape, "data_offsets": [at, at + spec.bytes]}
        at += spec.bytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
