"""Gives weights to parts of a model that were built without memory: rank 0 has the whole model, everybody its shard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, distributed, nn
from torch.distributed.tensor import DTensor

from maquette.errors import MaquetteError
from maquette.parallel.mesh import Mesh
from maquette.parallel.shards import place


def materialise(parts: Sequence[nn.Module], source: nn.Module | None, mesh: Mesh, *, offload: bool = False) -> None:
    """Allocate the parts on their device and fill every parameter and buffer from rank 0's model.

    A tensor at a time is whole on each process; nothing else is ever allocated twice.

    Args:
        parts: built on the meta device, sharded already.
        source: the whole model with its initial weights on rank 0, None elsewhere.
        mesh: all processes take part.
        offload: whether parameters live in the host's memory, and buffers alone on the device.

    Raises:
        MaquetteError: a part holds a tensor that the whole model lacks, which would stay uninitialised.
    """
    for part in parts:
        part.to_empty(device="cpu" if offload else mesh.device)
        for module in part.modules() if offload else ():
            for name, buffer in module.named_buffers(recurse=False):
                setattr(module, name, buffer.to(mesh.device))
    whole = dict(_tensors(source)) if source is not None else {}
    described = mesh.share([(name, tuple(t.shape), t.dtype) for name, t in whole.items()])
    own: dict[str, Tensor] = {}
    for part in parts:
        own.update(_tensors(part))
    strange = sorted(set(own) - {name for name, _, _ in described})
    if strange:
        raise MaquetteError(f"'{strange[0]}' would stay uninitialised: the model as it is built has no such tensor")
    for name, shape, dtype in described:
        full = (
            whole[name].detach().to(mesh.device) if name in whole else torch.empty(shape, dtype=dtype).to(mesh.device)
        )
        if mesh.world > 1:
            distributed.broadcast(full.contiguous() if name in whole else full, src=0)
        if name in own:
            assign(own[name], full)


@torch.no_grad()
def assign(target: Tensor, full: Tensor) -> None:
    """Copy a whole tensor, or this process's shard of it, into ``target``."""
    if isinstance(target, DTensor):
        target.to_local().copy_(full[place(target)])
    else:
        target.copy_(full)


def assign_all(parts: Sequence[nn.Module], weights: Mapping[str, Tensor]) -> None:
    """Fill the parts' parameters and buffers from whole tensors by name; names the parts lack are passed over."""
    for part in parts:
        for name, tensor in part.state_dict().items():
            if name in weights:
                assign(tensor, weights[name])


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers, also those that no checkpoint holds (tables of positions)."""
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)
