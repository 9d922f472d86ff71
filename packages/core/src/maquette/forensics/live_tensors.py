"""Which tensors live, by size and by what they are: what a memory snapshot is where there is no GPU."""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

ROWS = 40


def live_storages(kinds: Iterable[torch.device] | None = None) -> dict[int, tuple[Tensor, int]]:
    """A tensor and the bytes of every storage that a tensor known to Python holds, by the storage's address.

    Tensors that only autograd's graph holds are not known to Python: see :func:`saved_for_backward`.
    """
    found: dict[int, tuple[Tensor, int]] = {}
    devices = set(kinds) if kinds else None
    for thing in gc.get_objects():
        if issubclass(type(thing), Tensor) and (devices is None or thing.device in devices):
            _add(found, thing)
    return found


def saved_for_backward(tensors: Iterable[Tensor]) -> dict[int, tuple[Tensor, int, str]]:
    """What the graphs behind some tensors keep for their backward pass, by address; with the name of the operation.

    Looks only at what is there: nothing is computed again for it, as unpacking would under activation checkpointing.
    """
    found: dict[int, tuple[Tensor, int]] = {}
    names: dict[int, str] = {}
    seen: set[Any] = set()
    waiting: list[Any] = [tensor.grad_fn for tensor in tensors if tensor.grad_fn is not None]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        for tensor in _saved(node):
            address = _add(found, tensor)
            if address is not None:
                names.setdefault(address, f"saved by {node.name().removesuffix('0')}")
        waiting += [above for above, _ in node.next_functions]
    return {address: (tensor, size, names[address]) for address, (tensor, size) in found.items()}


def describe_live_tensors(names: Mapping[int, str] | None = None) -> str:
    """A table of the live storages, largest groups first: bytes, how many, dtype, shape, device, what it is.

    Args:
        names: what is at an address, e.g. ``model blocks.3.mlp.weight``; the rest is told by the operation that made
            it, where autograd knows that.
    """
    storages = live_storages()
    saved = saved_for_backward([tensor for tensor, _ in storages.values()])
    groups: dict[tuple[str, str, str, str], list[int]] = defaultdict(list)
    for address, (tensor, size) in ({key: row[:2] for key, row in saved.items()} | storages).items():
        what = (names or {}).get(address) or (saved[address][2] if address in saved else _made_by(tensor))
        kind = str(tensor.dtype).removeprefix("torch.")
        groups[kind, str(list(tensor.shape)), str(tensor.device), what].append(size)
    rows = sorted(groups.items(), key=lambda row: -sum(row[1]))
    total = sum(sum(sizes) for sizes in groups.values())
    lines = [f"{total:,} bytes in {sum(map(len, groups.values())):,} storages", f"{'bytes':>16} {'count':>7}  tensor"]
    lines += [
        f"{sum(sizes):>16,} {len(sizes):>7}  {dtype}{shape} {where} {what}".rstrip()
        for (dtype, shape, where, what), sizes in rows[:ROWS]
    ]
    if len(rows) > ROWS:
        rest = sum(sum(sizes) for _, sizes in rows[ROWS:])
        lines.append(f"{rest:>16,} {sum(len(s) for _, s in rows[ROWS:]):>7}  in {len(rows) - ROWS} further groups")
    return "\n".join(lines) + "\n"


def address(tensor: Tensor) -> int | None:
    """Of a tensor's storage; None where it has none of its own."""
    local = getattr(tensor, "_local_tensor", tensor)  # a DTensor's own share
    try:
        return int(local.untyped_storage().data_ptr())
    except (NotImplementedError, RuntimeError):
        return None  # sparse and wrapped tensors


def _add(found: dict[int, tuple[Tensor, int]], tensor: Tensor) -> int | None:
    place = address(tensor)
    if place is not None:
        local = getattr(tensor, "_local_tensor", tensor)
        found.setdefault(place, (local, local.untyped_storage().nbytes()))
    return place


def _saved(node: Any) -> Iterator[Tensor]:
    for name in dir(node):
        if name.startswith("_raw_saved_"):
            value = getattr(node, name)
            for kept in value if isinstance(value, list | tuple) else (value,):
                data = getattr(kept, "data", None)
                if isinstance(data, Tensor):
                    yield data


def _made_by(tensor: Tensor) -> str:
    return f"made by {tensor.grad_fn.name().removesuffix('0')}" if tensor.grad_fn is not None else ""
