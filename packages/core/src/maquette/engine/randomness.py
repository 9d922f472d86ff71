"""Stateless randomness: what is drawn for a sample is a function of (seed, its position, a name), never of history.

Noise therefore does not depend on how many processes, micro-batches or pipeline stages share a batch, and resuming
needs no saved generator state.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from maquette.errors import MaquetteError

_under_way: ContextVar[tuple[int, tuple[int, ...]] | None] = ContextVar("drawing", default=None)


def fold(*parts: int | str) -> int:
    """A 63-bit seed from any parts; neighbouring parts give unrelated seeds."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def seed_step(seed: int, step: int, rank: int = 0) -> None:
    """Reseed torch's global generators for one micro-step: what dropout and other parts without a name draw from.

    Resuming at a step then needs no saved generator state, and validation in between changes nothing.
    """
    torch.manual_seed(fold("step", seed, step, rank))


@contextmanager
def drawing(seed: int, keys: Sequence[int]) -> Iterator[None]:
    """Within the context, row ``i`` of what is drawn belongs to the sample ``keys[i]``."""
    token = _under_way.set((seed, tuple(int(key) for key in keys)))
    try:
        yield
    finally:
        _under_way.reset(token)


def under_way() -> tuple[int, tuple[int, ...]] | None:
    """The seed and the keys of the context that is open; for computing a forward pass a second time."""
    return _under_way.get()


def normal(
    name: str, shape: Sequence[int], *, device: torch.device | str | None = None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Standard normal numbers [B, ...] for the batch under way; from torch's global generator outside a run.

    Args:
        name: what they are for; other names give unrelated numbers for the same sample.
        shape: B samples first.
        device: where to make them; the numbers differ between kinds of devices.
        dtype: of the result.
    """
    keys = _keys(shape)
    if keys is None:
        return torch.randn(tuple(shape), device=device, dtype=dtype)
    out = torch.empty(tuple(shape), device=device, dtype=dtype)
    generator = torch.Generator(out.device)
    for row, key in zip(out, keys, strict=True):
        row.normal_(generator=generator.manual_seed(fold(name, *key)))
    return out


def uniform(name: str, shape: Sequence[int], *, device: torch.device | str | None = None) -> Tensor:
    """Numbers in [0, 1), float32 [B, ...], as :func:`normal` gives them."""
    keys = _keys(shape)
    if keys is None:
        return torch.rand(tuple(shape), device=device)
    out = torch.empty(tuple(shape), device=device)
    generator = torch.Generator(out.device)
    for row, key in zip(out, keys, strict=True):
        row.uniform_(generator=generator.manual_seed(fold(name, *key)))
    return out


def _keys(shape: Sequence[int]) -> list[tuple[int, int]] | None:
    """(seed, key) of each row; None where no run is under way."""
    state = under_way()
    if state is None:
        return None
    seed, keys = state
    if shape[0] != len(keys):
        raise MaquetteError(f"noise for {shape[0]} samples was asked for, but the batch under way has {len(keys)}")
    return [(seed, key) for key in keys]
