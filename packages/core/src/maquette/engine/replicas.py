"""Finds silent corruption: copies of the same state on several processes must have the same bits.

A fault of a device or of its memory seldom shows as NaN; it only makes a run worse. But data-parallel processes hold
copies of the weights, optimizer and averages, and add up the same gradients, so any bit in which two copies differ was
not computed by the program. Comparing costs one pass over the state and a few numbers over the network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from maquette.parallel.shards import local, sharded_dims

Digest = dict[str, int]
"""A hash for each way in which this process's tensors are sharded; processes with the same key hold copies."""

_AS_WHOLE_NUMBERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_ROW = 4096
_ALL = (1 << 64) - 1


@torch.no_grad()
def digest(named: Mapping[str, Tensor], stage: int = 0, without: Container[str] = ()) -> Digest:
    """Hashes of the raw bits of what this process holds; computed on the device, with one copy to the host.

    Any single flipped bit changes its hash.

    Args:
        named: tensors by name, plain or DTensors, none of them a partial sum.
        stage: of the pipeline: the stages hold different tensors.
        without: keys to leave out.
    """
    sums: dict[str, list[tuple[str, Tensor]]] = {}
    for name, tensor in sorted(named.items()):
        if (key := f"stage {stage}{_shard(tensor)}") not in without:
            sums.setdefault(key, []).append((name, _sum_of_bits(local(tensor))))
    found: Digest = {}
    for key, entries in sums.items():
        values = torch.stack([value for _, value in entries]).tolist()
        # An odd factor loses no bit, and makes it matter which tensor a bit belongs to.
        found[key] = sum(_odd(name) * value for (name, _), value in zip(entries, values, strict=True)) & _ALL
    return found


@dataclass(frozen=True)
class Disagreement:
    """Copies that differ.

    Attributes:
        ranks: all that hold copies of what differs.
        suspects: those that most others disagree with; empty where no majority agrees.
    """

    ranks: tuple[int, ...]
    suspects: tuple[int, ...]


def disagreement(digests: list[Digest]) -> Disagreement | None:
    """Compares all ranks' digests; None where all copies agree."""
    ranks: set[int] = set()
    suspects: set[int] = set()
    for key in sorted({key for one in digests for key in one}):
        values = {rank: one[key] for rank, one in enumerate(digests) if key in one}
        (commonest, count), *others = Counter(values.values()).most_common()
        if not others:
            continue
        ranks |= values.keys()
        if 2 * count > len(values):
            suspects |= {rank for rank, value in values.items() if value != commonest}
    return Disagreement(tuple(sorted(ranks)), tuple(sorted(suspects))) if ranks else None


def changed(before: list[Digest], after: list[Digest]) -> tuple[int, ...]:
    """The ranks that computed something else the first time than when the same steps were made again."""
    return tuple(rank for rank, (one, other) in enumerate(zip(before, after, strict=True)) if one != other)


def bits_of(tensors: Iterable[Tensor]) -> list[int]:
    """A hash of the raw bits of each tensor's local part, on the host."""
    sums = [_sum_of_bits(local(tensor)) for tensor in tensors]
    return torch.stack(sums).tolist() if sums else []  # type: ignore[no-any-return]


def _sum_of_bits(tensor: Tensor) -> Tensor:
    """int64 scalar, modulo 2^64: the bits as whole numbers, added up in rows that are weighted by odd numbers."""
    flat = tensor.detach().reshape(-1).view(_AS_WHOLE_NUMBERS[tensor.element_size()])
    whole = len(flat) // _ROW * _ROW
    rows = flat[:whole].view(-1, _ROW).sum(1, dtype=torch.int64)
    weights = torch.arange(1, 2 * len(rows) + 1, 2, device=flat.device)
    return (rows * weights).sum() + flat[whole:].sum(dtype=torch.int64) * (2 * len(rows) + 1)


def _shard(tensor: Tensor) -> str:
    """Which part of a tensor this process holds, in words: the same on all that hold that part."""
    if not isinstance(tensor, DTensor):
        return ""
    place, names = tensor.device_mesh.get_coordinate(), tensor.device_mesh.mesh_dim_names
    assert place is not None and names is not None
    # With the size: dense parameters and experts are sharded over meshes of their own, whose axes share names.
    sizes = tensor.device_mesh.shape
    return "".join(f", {names[dim]} {place[dim]} of {sizes[dim]}" for dim in sharded_dims(tensor))


def _odd(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little") | 1
