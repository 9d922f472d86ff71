"""Which tensors live, by size: what a memory snapshot is where there is no GPU."""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor

ROWS = 40


def live_storages(kinds: Iterable[torch.device] | None = None) -> dict[int, tuple[Tensor, int]]:
    """A tensor and the bytes of every storage that a tensor known to Python holds, by the storage's address.

    Tensors that only autograd's graph holds are not known to Python.
    """
    found: dict[int, tuple[Tensor, int]] = {}
    devices = set(kinds) if kinds else None
    for thing in gc.get_objects():
        if issubclass(type(thing), Tensor) and (devices is None or thing.device in devices):
            tensor = getattr(thing, "_local_tensor", thing)  # a DTensor's own share
            try:
                storage = tensor.untyped_storage()
                found.setdefault(storage.data_ptr(), (tensor, storage.nbytes()))
            except (NotImplementedError, RuntimeError):
                continue  # sparse and wrapped tensors have no storage of their own
    return found


def describe_live_tensors() -> str:
    """A table of the live storages, largest groups first: bytes, how many, dtype, shape, device."""
    groups: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for tensor, size in live_storages().values():
        groups[str(tensor.dtype).removeprefix("torch."), str(list(tensor.shape)), str(tensor.device)].append(size)
    rows = sorted(groups.items(), key=lambda row: -sum(row[1]))
    total = sum(sum(sizes) for sizes in groups.values())
    lines = [f"{total:,} bytes in {sum(map(len, groups.values())):,} storages", f"{'bytes':>16} {'count':>7}  tensor"]
    lines += [
        f"{sum(sizes):>16,} {len(sizes):>7}  {dtype}{shape} {where}" for (dtype, shape, where), sizes in rows[:ROWS]
    ]
    if len(rows) > ROWS:
        rest = sum(sum(sizes) for _, sizes in rows[ROWS:])
        lines.append(f"{rest:>16,} {sum(len(s) for _, s in rows[ROWS:]):>7}  in {len(rows) - ROWS} further shapes")
    return "\n".join(lines) + "\n"
