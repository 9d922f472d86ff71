"""Who writes what: torch.distributed.checkpoint's planner shares out the pieces, each piece to one process."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.planner import SavePlan, TensorWriteData, WriteItem
from torch.distributed.tensor import DTensor

from maquette.checkpoint.index import Chunk, Entry, Index, encode
from maquette.checkpoint.processes import Processes
from maquette.checkpoint.tensor_files import DTYPES, Spec
from maquette.errors import MaquetteError

Parts = Mapping[str, Mapping[str, Tensor]]
"""The state: part -> name -> tensor, plain or DTensor."""

Files = dict[str, dict[str, Tensor]]
"""What one process writes: file -> key -> tensor."""


@dataclass(frozen=True)
class Share:
    """What one process has to write, and how large the whole is.

    ``index`` is the text of ``index.json`` on rank 0 and empty elsewhere.
    """

    items: list[WriteItem]
    total_bytes: int
    index: str = ""


@dataclass
class SharingOut:
    """Shares out a state, and keeps the plan for as long as names, shapes and placements stay the same."""

    processes: Processes
    _signature: dict[str, Any] = field(default_factory=dict)
    _share: Share | None = None

    def share(self, parts: Parts) -> tuple[Share, Files]:
        """This process's share of the state. All processes call it together.

        Raises:
            MaquetteError: a part or value that a checkpoint cannot hold.
        """
        planner = _Planner(flatten_state_dict=False, flatten_sharded_tensors=False)
        # Planning goes over every piece of every process; at thousands of them that is seconds of a step.
        signature = {} if self._share is None else _signature(parts)
        if not self.processes.all(bool(signature) and signature == self._signature):
            self._share = self.processes.scatter(lambda: _local(planner, parts), _central(planner))
            self._signature = _signature(parts)
        assert self._share is not None
        planner.set_up_planner(flat(parts))
        files: Files = {}
        for item in self._share.items:
            file, key = _place(item, self.processes.rank)
            data = planner.resolve_data(item)
            assert isinstance(data, Tensor)
            files.setdefault(file, {})[key] = data.detach()
        return self._share, files


def flat(parts: Parts) -> dict[str, Tensor]:
    """The state in one dictionary, ``<part>/<name>``."""
    return {f"{part}/{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}


def specs(tensors: Mapping[str, Tensor]) -> dict[str, Spec]:
    """Types and shapes."""
    return {key: Spec(tensor.dtype, tuple(tensor.shape)) for key, tensor in tensors.items()}


class _Planner(DefaultSavePlanner):
    """torch's planner, without the empty pieces that uneven sharding leaves on some ranks."""

    def create_local_plan(self) -> SavePlan:
        plan = super().create_local_plan()
        items = [item for item in plan.items if math.prod(_data(item).chunk.sizes) or not math.prod(_data(item).size)]
        self.plan = SavePlan(items)
        return self.plan


def _local(planner: _Planner, parts: Parts) -> SavePlan:
    for part, tensors in parts.items():
        # Parts name files, and '/' divides the part from the name.
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", part):
            raise MaquetteError(f"a part of the state is called '{part}'; use letters, digits, '_', '-' and '.'")
        for name, tensor in tensors.items():
            where = f"'{name}' in part '{part}' of the state"
            if not isinstance(tensor, Tensor):
                raise MaquetteError(f"{where} is {type(tensor).__name__}; a checkpoint's parts hold tensors only")
            if tensor.dtype not in DTYPES:
                raise MaquetteError(f"{where} is of type {tensor.dtype}, which safetensors files cannot hold")
            if tensor.device.type == "meta":
                raise MaquetteError(f"{where} has no memory yet (meta device); load or initialise it first")
            if isinstance(tensor, DTensor) and any(placement.is_partial() for placement in tensor.placements):
                raise MaquetteError(f"{where} is a sum that was not taken yet (a partial DTensor); reduce it first")
    planner.set_up_planner(flat(parts))
    return planner.create_local_plan()


def _central(planner: _Planner) -> Any:
    def share_out(plans: list[SavePlan]) -> list[Share]:
        try:
            plans, _ = planner.create_global_plan(plans)
        except ValueError as error:
            raise MaquetteError(f"the processes' pieces of the state do not fit together: {error}") from None
        index = _index(plans)
        total = sum(entry.bytes for entries in index.values() for entry in entries.values())
        return [Share(list(plan.items), total, encode(index) if rank == 0 else "") for rank, plan in enumerate(plans)]

    return share_out


def _index(plans: list[SavePlan]) -> Index:
    found: dict[str, tuple[TensorWriteData, list[Chunk]]] = {}
    for rank, plan in enumerate(plans):
        for item in plan.items:
            file, key = _place(item, rank)
            data = _data(item)
            chunk = Chunk(file, key, tuple(data.chunk.offsets), tuple(data.chunk.sizes))
            found.setdefault(item.index.fqn, (data, []))[1].append(chunk)
    index: Index = {}
    for full_name, (data, chunks) in sorted(found.items()):
        part, name = full_name.split("/", 1)
        index.setdefault(part, {})[name] = Entry(data.properties.dtype, tuple(data.size), tuple(chunks))
    return index


def _place(item: WriteItem, rank: int) -> tuple[str, str]:
    """File and key of a piece. What is whole has its own name as the key, so that any reader finds it."""
    part, name = item.index.fqn.split("/", 1)
    data = _data(item)
    whole = tuple(data.chunk.sizes) == tuple(data.size)
    key = name if whole else f"{name}@{','.join(str(at) for at in data.chunk.offsets)}"
    return f"{part}.{rank:05d}.safetensors", key


def _data(item: WriteItem) -> TensorWriteData:
    assert item.tensor_data is not None
    return item.tensor_data


def _signature(parts: Parts) -> dict[str, Any]:
    signature: dict[str, Any] = {}
    for name, tensor in flat(parts).items():
        placed = (tensor.placements, tensor.device_mesh) if isinstance(tensor, DTensor) else None
        # What is no tensor differs from any signature and is refused when the new plan is made.
        signature[name] = (tensor.dtype, tensor.shape, placed) if isinstance(tensor, Tensor) else object()
    return signature
