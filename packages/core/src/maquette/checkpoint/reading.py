"""torch.distributed.checkpoint's reading side over our format: any layout takes from any other's pieces."""

from __future__ import annotations

import os
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner, ReadItem
from torch.distributed.checkpoint.storage import StorageReader
from torch.futures import Future

from maquette.checkpoint.index import Chunk, Entry, Index
from maquette.checkpoint.tensor_files import TensorFile
from maquette.errors import MaquetteError


class IndexedReader(StorageReader):
    """Reads the pieces that a plan asks for, file by file.

    Args:
        path: the checkpoint's folder, verified.
        index: what is in it.
    """

    def __init__(self, path: Path, index: Index) -> None:
        self.path = path
        self._entries = {f"{part}/{name}": entry for part, entries in index.items() for name, entry in entries.items()}
        self._chunks = {
            MetadataIndex(name, torch.Size(chunk.offsets)): chunk
            for name, entry in self._entries.items()
            for chunk in entry.chunks
        }

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """Shapes and pieces by ``<part>/<name>``."""
        return Metadata({name: _metadata(entry) for name, entry in self._entries.items()})

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Copy into the planner's tensors."""
        by_file: dict[str, list[tuple[Chunk, ReadItem]]] = defaultdict(list)
        for item in plan.items:
            chunk = self._chunks[item.storage_index]
            by_file[chunk.file].append((chunk, item))
        for name, wanted in by_file.items():
            with TensorFile(self.path / name) as file:
                for chunk, item in wanted:
                    target = planner.resolve_tensor(item).detach()
                    target.copy_(file.read(chunk.key, item.storage_offsets, item.lengths))
                    planner.commit_tensor(item, target)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Nothing is kept between loads."""

    def set_up_storage_reader(self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Nothing to set up."""

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """As it is."""
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        """As they are: each process reads for itself."""
        return plans

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Paths are given to the constructor."""
        return False


class WholeTensors:
    """Reads whole tensors of a checkpoint, on the CPU, and opens each file once; use it in a ``with``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stack = ExitStack()
        self._files: dict[str, TensorFile] = {}

    def __enter__(self) -> WholeTensors:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def read(self, name: str, entry: Entry) -> Tensor:
        """A tensor, put together from its pieces.

        Raises:
            MaquetteError: a piece is not what the index says.
        """
        if entry.whole:
            return self._piece(name, entry, entry.chunks[0])
        whole = torch.empty(entry.shape, dtype=entry.dtype)
        for chunk in entry.chunks:
            box = tuple(slice(at, at + size) for at, size in zip(chunk.offsets, chunk.sizes, strict=True))
            whole[box] = self._piece(name, entry, chunk)
        return whole

    def _piece(self, name: str, entry: Entry, chunk: Chunk) -> Tensor:
        if chunk.file not in self._files:
            self._files[chunk.file] = self._stack.enter_context(TensorFile(self.path / chunk.file))
        piece = self._files[chunk.file].read(chunk.key)
        if tuple(piece.shape) != chunk.sizes or piece.dtype != entry.dtype:
            raise MaquetteError(
                f"'{name}' in '{self.path / chunk.file}' is {piece.dtype} {list(piece.shape)} "
                f"where the index says {entry.dtype} {list(chunk.sizes)}"
            )
        return piece


def _metadata(entry: Entry) -> TensorStorageMetadata:
    chunks = [ChunkStorageMetadata(torch.Size(c.offsets), torch.Size(c.sizes)) for c in entry.chunks]
    return TensorStorageMetadata(TensorProperties(dtype=entry.dtype), torch.Size(entry.shape), chunks)
