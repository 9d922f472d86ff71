"""Memory of delivered batches, used again once nobody holds it."""

from __future__ import annotations

import math
import weakref
from collections import deque

import numpy as np
import torch
from torch import Tensor

_KEPT = 8
_LARGE = 1 << 20


class Buffers:
    """Gives uninitialised tensors.

    Memory fresh from the system is cleared page by page when it is first touched, which takes longer than filling it.
    A tensor's memory returns here when its storage is freed, so views that outlive the tensor keep it.

    Args:
        pinned: page-locked memory for copies to a GPU, which torch's own allocator already uses again.
    """

    def __init__(self, pinned: bool) -> None:
        self.pinned = pinned
        self._free: dict[int, deque[np.ndarray]] = {}

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype, recurring: bool = True) -> Tensor:
        """A tensor of this shape and type.

        Args:
            recurring: whether later batches will want the same size; other memory is not kept.
        """
        if self.pinned:
            return torch.empty(shape, dtype=dtype, pin_memory=True)
        size = math.prod(shape) * dtype.itemsize
        if size < 1 << 16 or not recurring:
            return torch.empty(shape, dtype=dtype)
        free = self._free.setdefault(size, deque(maxlen=_KEPT))
        try:
            memory = free.popleft()
        except IndexError:
            # numpy asks for huge pages from 4 MiB on; what is not touched of them takes no memory.
            memory = np.empty(size if size < _LARGE else max(size, 4 * _LARGE), np.uint8)
        lent = memory[:size]
        weakref.finalize(lent, free.append, memory).atexit = False
        return torch.from_numpy(lent).view(dtype).view(shape)
