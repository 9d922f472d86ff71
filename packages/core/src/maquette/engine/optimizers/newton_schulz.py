"""Makes matrices orthogonal by Newton-Schulz iteration, also where they are sharded over processes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, distributed
from torch.distributed.tensor import DTensor, Shard

from maquette.parallel.shards import place, sharded_dims

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of a x + b x^3 + c x^5, chosen by Jordan et al. 2024 for the slope at 0; singular values end between .7 and 1.2."""

EXCHANGED = 2**26
"""Elements that a process sends at a time."""


def orthogonalize(matrices: Tensor, iterations: int, dtype: torch.dtype) -> Tensor:
    """The nearest (semi-)orthogonal matrix, roughly: singular values are pushed towards 1.

    Args:
        matrices: [..., rows, columns]; each is treated by itself.
        iterations: of Newton-Schulz; 5 as published.
        dtype: of the products and of the result.
    """
    a, b, c = COEFFICIENTS
    x = matrices.to(dtype).reshape(-1, *matrices.shape[-2:])
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).reshape(matrices.shape)


def orthogonalize_all(
    parameters: Sequence[Tensor], directions: Sequence[Tensor], *, iterations: int, dtype: torch.dtype
) -> list[Tensor]:
    """The local parts of the orthogonalized directions of many matrices.

    Matrices that are sharded over one group of processes are dealt out among them: each process gets whole ones, works
    on its share, and gives the parts back. So the work is done once, and only as much memory is needed as a batch of
    exchanged parts takes. Stacks that are sharded by matrix need no exchange. What is sharded over several dimensions
    of its mesh is gathered everywhere.

    Args:
        parameters: plain or DTensors; they say how the directions are laid out. All processes give the same ones, in
            the same order.
        directions: of each, this process's part.
        iterations: of Newton-Schulz.
        dtype: of the products, and of what is sent.

    Returns:
        This process's part of each, in ``dtype``.
    """
    solve = partial(orthogonalize, iterations=iterations, dtype=dtype)
    results: dict[int, Tensor] = {}
    dealt: dict[distributed.ProcessGroup, list[int]] = {}
    for index, (parameter, direction) in enumerate(zip(parameters, directions, strict=True)):
        dims = sharded_dims(parameter)
        if not isinstance(parameter, DTensor) or all(_keeps_matrices_whole(parameter, dim) for dim in dims):
            results[index] = solve(direction)
        elif len(dims) == 1 and isinstance(parameter.placements[dims[0]], Shard):
            dealt.setdefault(parameter.device_mesh.get_group(dims[0]), []).append(index)
        else:
            results[index] = solve(_whole(parameter, direction.to(dtype)))[place(parameter)]
    for group, indices in dealt.items():
        # Largest first, so that what is dealt out to each process is of like size.
        indices.sort(key=lambda i: (-parameters[i].numel(), i))
        for chosen in _batches(indices, [parameters[i].numel() // group.size() for i in indices]):
            parts = [directions[i].to(dtype) for i in chosen]
            results.update(zip(chosen, _deal([parameters[i] for i in chosen], parts, group, solve), strict=True))
    return [results[index] for index in range(len(parameters))]


def _batches(indices: list[int], sizes: list[int]) -> list[list[int]]:
    """In order, each of about :data:`EXCHANGED` elements, so that few collectives are needed and little memory."""
    batches: list[list[int]] = []
    filled = EXCHANGED
    for index, size in zip(indices, sizes, strict=True):
        if filled >= EXCHANGED:
            batches.append([])
            filled = 0
        batches[-1].append(index)
        filled += size
    return batches


def _keeps_matrices_whole(parameter: DTensor, mesh_dim: int) -> bool:
    placement = parameter.placements[mesh_dim]
    return parameter.ndim == 3 and getattr(placement, "dim", None) == 0


def _whole(parameter: DTensor, part: Tensor) -> Tensor:
    shape, stride = parameter.shape, parameter.stride()
    laid_out = DTensor.from_local(
        part, parameter.device_mesh, parameter.placements, run_check=False, shape=shape, stride=stride
    )
    return laid_out.full_tensor()  # type: ignore[no-any-return]


def _deal(
    parameters: list[Tensor], parts: list[Tensor], group: distributed.ProcessGroup, solve: Callable[[Tensor], Tensor]
) -> list[Tensor]:
    """Process i of the group solves the matrices i, i + world, ...; everybody gets the parts back that it sent."""
    rank, world = group.rank(), group.size()
    order = [i for owner in range(world) for i in range(owner, len(parts), world)]
    sent = [sum(part.numel() for part in parts[owner::world]) for owner in range(world)]
    own = parameters[rank::world]
    # Of each process, of each matrix that is solved here.
    shapes = [_part_shapes(parameter, world) for parameter in own]
    sizes = [[math.prod(shape[source]) for shape in shapes] for source in range(world)]
    received = [sum(each) for each in sizes]
    outgoing = torch.cat([parts[i].reshape(-1) for i in order])
    incoming = outgoing.new_empty(sum(received))
    distributed.all_to_all_single(incoming, outgoing, received, sent, group=group)
    pieces = [torch.split(flat, size) for flat, size in zip(torch.split(incoming, received), sizes, strict=True)]
    solved = []
    for index, (parameter, shape) in enumerate(zip(own, shapes, strict=True)):
        dim = _shard_dim(parameter)
        whole = torch.cat([pieces[source][index].view(shape[source]) for source in range(world)], dim)
        solved.append(torch.split(solve(whole), [each[dim] for each in shape], dim))
    incoming = torch.cat([outgoing[:0], *(each[source].reshape(-1) for source in range(world) for each in solved)])
    distributed.all_to_all_single(outgoing, incoming, sent, received, group=group)
    flat_parts = torch.split(outgoing, [parts[i].numel() for i in order])
    back = {i: flat.view_as(parts[i]) for i, flat in zip(order, flat_parts, strict=True)}
    return [back[i] for i in range(len(parts))]


def _shard_dim(parameter: Tensor) -> int:
    assert isinstance(parameter, DTensor)
    return int(parameter.placements[sharded_dims(parameter)[0]].dim)  # type: ignore[attr-defined]


def _part_shapes(parameter: Tensor, world: int) -> list[list[int]]:
    """The shape of every process's part: like torch.chunk, the last ones may be short or empty."""
    dim = _shard_dim(parameter)
    size, chunk = parameter.shape[dim], -(-parameter.shape[dim] // world)
    sizes = [max(0, min(chunk, size - i * chunk)) for i in range(world)]
    return [[*parameter.shape[:dim], each, *parameter.shape[dim + 1 :]] for each in sizes]
